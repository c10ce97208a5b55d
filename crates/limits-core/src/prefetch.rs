//! A hint to the processor. It has no effect that a program could see, so it may do nothing where it is not known how to give it.
#![allow(unsafe_code, reason = "the instruction takes an address")]

/// Asks for the cache line at an address, and waits for nothing.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(any(loom, shuttle, miri))))]
    // SAFETY: a prefetch neither reads nor writes, and does not fault wherever it points.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(any(loom, shuttle, miri)))))]
    let _ = address;
}
