#![allow(unsafe_code, reason = "an allocator is made of it")]

use crate::{Limits, RouteLimits, Table, TableConfig};
use conn_tracker::{Arrival, Permit};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The system's allocator, which looks at the locks of a table whenever the thread that watches it asks for memory or gives some back.
struct Watchful;

#[global_allocator]
static WATCHFUL: Watchful = Watchful;

/// What a thread watches, and what it has seen.
#[derive(Clone, Copy)]
struct Watch {
    table: &'static Table,
    calls: u32,
    under_lock: u32,
}

thread_local! {
    static WATCH: Cell<Option<Watch>> = const { Cell::new(None) };
}

fn look() {
    // A thread that ends has nothing to watch any more.
    let _ended = WATCH.try_with(|cell| {
        if let Some(mut watch) = cell.take() {
            watch.calls += 1;
            watch.under_lock += u32::from(watch.table.shards.iter().any(|shard| shard.try_lock().is_none()));
            cell.set(Some(watch));
        }
    });
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Watchful {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        look();
        // SAFETY: the caller keeps to what `alloc` asks for, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        look();
        // SAFETY: the block is from there, and the caller keeps to what `dealloc` asks for.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        look();
        // SAFETY: the block is from there, and the caller keeps to what `realloc` asks for.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// How often `work` called the allocator, and how often of that while a shard of `table` was locked.
fn watched(table: &'static Table, work: impl FnOnce()) -> (u32, u32) {
    WATCH.set(Some(Watch { table, calls: 0, under_lock: 0 }));
    work();
    let watch = WATCH.take().expect("nobody else takes it");
    (watch.calls, watch.under_lock)
}

#[test]
fn no_shard_is_locked_while_the_allocator_is_called() {
    let now = Instant::now();
    let route = RouteLimits { rate_per_minute: 60, ..RouteLimits::new("shop") };
    let limits = Limits { rate_per_minute: 60, routes: vec![route], ..Limits::default() };
    let config = TableConfig { shards: 1, ..TableConfig::default() };
    let table: &'static Arc<Table> = Box::leak(Box::new(Table::new(config, limits.clone(), now).unwrap()));
    let (route, tracker) = (table.route_ids()[0], table.for_worker());
    let clients = 120 * table.shards.len() as u32;
    let address = |number: u32| -> IpAddr {
        let bits = number.wrapping_mul(0x9e37_79b1);
        if number.is_multiple_of(2) {
            Ipv4Addr::from_bits(bits).into()
        } else {
            Ipv6Addr::from_bits(u128::from(bits) << 64 | 1 << 127).into()
        }
    };
    let mut permits = Vec::with_capacity(clients as usize);
    let grown = watched(table, || {
        for number in 0..clients {
            let mut permit = Permit::open(&tracker, now, Arrival::client(address(number))).unwrap();
            permit.bind(now, route).unwrap();
            permits.push(permit);
        }
    });
    let fewest = 4 * table.shards.len() as u32;
    assert!(grown.0 > fewest && grown.1 == 0, "growing: {grown:?}");
    let reloaded = watched(table, || drop(table.reload(now, limits).unwrap()));
    assert!(reloaded.0 > 0 && reloaded.1 == 0, "reload: {reloaded:?}");
    assert_eq!(watched(table, || permits.clear()), (0, 0), "giving back");
    let forgotten = watched(table, || while !table.expire(now + Duration::from_secs(120), 1_000).ended {});
    assert!(forgotten.0 > fewest && forgotten.1 == 0, "forgetting: {forgotten:?}");
}
