//! Counting an event allocates nothing. A test program of its own, because it counts every allocation of its thread.

use log_dedup::{Dedup, Kind, Settings, ToTracing};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::IpAddr;
use std::time::Instant;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local `Cell` without a
// destructor, which does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above; `block` came from `System`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn counting_an_event_allocates_nothing() {
    let kinds = [Kind::new("refused", "refused", "connection", "connections")];
    let now = Instant::now();
    let dedup = Dedup::new(Settings::default(), &kinds, now, |_| None, ToTracing::Message);
    let record = |source: u32, route| {
        dedup.record(now, 0, "client_limit", Some(route), Some(IpAddr::from(source.to_be_bytes())))
    };
    assert!(record(0, 0));
    for route in 0..5 {
        assert!(!record(1, route), "each route is seen once before");
    }
    let before = ALLOCATIONS.get();
    for source in 0..1_000_000 {
        assert!(!record(source, source % 5));
    }
    assert_eq!(ALLOCATIONS.get(), before);
    dedup.flush(now);
    assert!(ALLOCATIONS.get() > before, "the test would notice");
    let before = ALLOCATIONS.get();
    for source in 0..1000 {
        assert!(!record(source, source % 5), "still folding");
    }
    assert_eq!(ALLOCATIONS.get(), before, "a summary leaves the memory where it was");
}
