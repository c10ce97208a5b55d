//! The allocator, and how it hands back what connections have left behind.

use libmimalloc_sys::{
    mi_collect, mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};
use std::alloc::{GlobalAlloc, Layout};
use std::time::Duration;

/// mimalloc: faster than the system's for many short-lived connections. Without huge pages: parked connections are small
/// and far between, and one of them would keep two megabytes.
///
/// Asked for an alignment, mimalloc takes a slower way, and more memory than asked for wherever a size is no power of two.
/// What Rust asks for is most often what every allocation has.
struct Mimalloc;

#[global_allocator]
static ALLOCATOR: Mimalloc = Mimalloc;

/// Whether every allocation of so many bytes has this alignment: C promises it up to that of its largest type.
const fn is_natural(size: usize, align: usize) -> bool {
    align <= 16 && align <= size
}

// SAFETY: mimalloc keeps the contract of an allocator, and gives null where it has no memory. Its functions with and
// without alignment may be mixed on one allocation. Nothing here unwinds.
#[expect(unsafe_code, reason = "the allocator is written in C, and who wraps it asks for an alignment each time")]
unsafe impl GlobalAlloc for Mimalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: any size and any power of two will do.
        unsafe { if is_natural(size, align) { mi_malloc(size) } else { mi_malloc_aligned(size, align) }.cast() }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: any size and any power of two will do.
        unsafe { if is_natural(size, align) { mi_zalloc(size) } else { mi_zalloc_aligned(size, align) }.cast() }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, _layout: Layout) {
        // SAFETY: the caller has it from here, and gives it up.
        unsafe { mi_free(pointer.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (pointer, align) = (pointer.cast(), layout.align());
        // SAFETY: the caller has it from here, and gives it up for what it gets.
        unsafe {
            if is_natural(size, align) { mi_realloc(pointer, size) } else { mi_realloc_aligned(pointer, size, align) }
                .cast()
        }
    }
}

/// How often memory is handed back.
const PERIOD: Duration = Duration::from_millis(500);

/// Hands memory that the calling thread has freed back to the system, again and again. Left to itself, the allocator does
/// so when it is asked for more, and a worker whose connections are all idle does not ask.
pub(crate) async fn hand_back() {
    loop {
        tokio::time::sleep(PERIOD).await;
        // SAFETY: it may be called at any time on any thread; it touches nothing but memory that is free.
        #[expect(unsafe_code, reason = "the allocator is written in C, and nobody wraps this call")]
        unsafe {
            mi_collect(true);
        }
    }
}

/// The same for what the C libraries of all threads have freed, which is with the allocator of the C library: that is the
/// keys of every TLS connection. It keeps a page until all above it is free.
pub(crate) async fn hand_back_of_c() {
    loop {
        tokio::time::sleep(PERIOD).await;
        // SAFETY: it may be called at any time on any thread; it touches nothing but memory that is free.
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        #[expect(unsafe_code, reason = "the allocator is written in C, and nobody wraps this call")]
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(unsafe_code, reason = "an allocator is asked by hand")]
    fn allocations_have_the_alignment_that_was_asked_for() {
        for align in (0..13).map(|power| 1_usize << power) {
            for size in [1, 3, 8, 15, 16, 17, 24, 40, 100, 1_000, 1_100, 4_000, 5_000, 8_192, 70_000, 3_000_000] {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the layout has a size, and each pointer is given back with the layout that it has.
                unsafe {
                    let given = [ALLOCATOR.alloc(layout), ALLOCATOR.alloc_zeroed(layout)];
                    assert!(std::slice::from_raw_parts(given[1], size).iter().all(|byte| *byte == 0));
                    for pointer in given {
                        assert!(!pointer.is_null() && pointer.addr().is_multiple_of(align), "{size} at {align}");
                        pointer.write_bytes(7, size);
                        let longer = ALLOCATOR.realloc(pointer, layout, size * 2 + 1);
                        assert!(longer.addr().is_multiple_of(align), "{size} at {align}");
                        assert!(std::slice::from_raw_parts(longer, size).iter().all(|byte| *byte == 7));
                        ALLOCATOR.dealloc(longer, Layout::from_size_align(size * 2 + 1, align).unwrap());
                    }
                }
            }
        }
    }
}
