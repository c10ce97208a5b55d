//! The allocator, and how it hands back what connections have left behind.

use std::time::Duration;

// Faster than the system's for many short-lived connections. Without huge pages: parked connections are small and far
// between, and one of them would keep two megabytes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
            libmimalloc_sys::mi_collect(true);
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
