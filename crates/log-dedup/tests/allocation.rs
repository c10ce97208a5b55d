//! Counting an event allocates nothing. A test program of its own, because it counts every allocation of its thread.

use log_dedup::{Dedup, Folding, Kind, Settings};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tracing_subscriber::filter::{FilterExt, LevelFilter};
use tracing_subscriber::layer::{Layer, SubscriberExt};

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

/// Lines come when the test asks for them.
fn dedup(max_keys: usize) -> Dedup {
    let folding = Folding { interval: Duration::from_secs(3600), rise: 0, ..Folding::default() };
    Dedup::builder().settings(Settings { folding, max_keys }).kind(Kind::new("refused")).build()
}

fn address(source: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(source))
}

#[test]
fn the_typed_call_allocates_nothing() {
    let dedup = dedup(1000);
    let record = |source: u32, route| dedup.record(0, "client_limit", Some(route), Some(address(source)));
    assert!(record(0, 0));
    for route in 0..5 {
        assert!(!record(1, route), "each route is seen once before");
    }
    let before = ALLOCATIONS.get();
    for source in 0..1_000_000 {
        assert!(!record(source, source % 5));
    }
    assert_eq!(ALLOCATIONS.get(), before);
    dedup.flush();
    assert!(ALLOCATIONS.get() > before, "the test would notice");
    record(1, 1);
    let before = ALLOCATIONS.get();
    for source in 0..1000 {
        assert!(!record(source, source % 5), "still folding");
    }
    assert_eq!(ALLOCATIONS.get(), before, "a summary leaves the memory where it was");
}

#[test]
fn what_exceeds_the_bound_of_keys_allocates_nothing() {
    let dedup = dedup(10);
    for route in 0..20 {
        dedup.record(0, "client_limit", Some(route), None);
    }
    let before = ALLOCATIONS.get();
    for route in 0..1_000_000 {
        dedup.record(0, "client_limit", Some(route), None);
    }
    assert_eq!(ALLOCATIONS.get(), before);
    assert_eq!(dedup.totals(0).recorded(), 1_000_020);
}

#[test]
fn a_folded_tracing_event_allocates_nothing() {
    let dedup = dedup(1000);
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::sink).with_filter(LevelFilter::INFO.and(dedup.filter()));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
        let refuse = |step: u32| {
            let (source, route) = (address(step), if step.is_multiple_of(2) { "shop" } else { "api" });
            tracing::warn!(fold = "refused", reason = "client_limit", route, %source, limit = 7, "refused {step}");
        };
        (0..4).for_each(refuse);
        let before = ALLOCATIONS.get();
        (0..100_000).for_each(refuse);
        assert_eq!(ALLOCATIONS.get(), before);
        assert_eq!(dedup.folded(), 100_003);
    });
}
