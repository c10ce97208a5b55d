#![allow(unsafe_code, reason = "an allocator is made of it")]

use crate::{Limits, RouteLimits, Table, TableConfig};
use conn_tracker::{Arrival, ConnectionTracker, Inspect, Origin, Permit, RequestPermit, RouteId};
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
    /// What another thread does meanwhile, the first time.
    meanwhile: fn(&Table),
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
            std::mem::replace(&mut watch.meanwhile, |_| {})(watch.table);
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
    interrupted(table, |_| {}, work)
}

/// The same, with something that another thread does while the allocator is called for the first time.
fn interrupted(table: &'static Table, meanwhile: fn(&Table), work: impl FnOnce()) -> (u32, u32) {
    WATCH.set(Some(Watch { table, calls: 0, under_lock: 0, meanwhile }));
    work();
    let watch = WATCH.take().expect("nobody else takes it");
    (watch.calls, watch.under_lock)
}

#[test]
fn no_shard_is_locked_while_the_allocator_is_called() {
    let now = Instant::now();
    let route = RouteLimits { rate_per_minute: 60, ..RouteLimits::new("shop") };
    let limits = Limits { rate_per_minute: 60, routes: vec![route], ..Limits::default() };
    let config = TableConfig::default();
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

/// Limits that have room for `most` connections and requests, by which one client is exempt or is not.
fn limits(most: u32, exempts: bool) -> Limits {
    let shop = RouteLimits { max_requests: most, ..RouteLimits::new("shop") };
    let exempt = exempts.then(|| IpAddr::V4(CLIENT).into()).into_iter().collect();
    Limits { max_connections: most, exempt, routes: vec![shop], ..Limits::default() }
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// With one connection and one request of somebody else there is room for one more by the old limits. By the new ones there is none,
/// but the client is exempt. So nobody who goes by either refuses it.
#[test]
fn a_decision_that_grows_a_table_goes_by_the_limits_of_one_moment() {
    type Decision = fn(&Arc<dyn ConnectionTracker>, Instant, RouteId, &mut Permit) -> Option<Permit>;
    let decisions: [(&str, Decision); 3] = [
        ("admission", |tracker, now, _, _| {
            Some(Permit::open(tracker, now, Arrival::client(CLIENT.into())).expect("it is exempt"))
        }),
        ("naming the client", |_, now, _, other| {
            other.identify(now, CLIENT.into()).expect("it is exempt");
            None
        }),
        ("request", |tracker, now, route, _| {
            drop(RequestPermit::begin(tracker, now, Some(CLIENT.into()), route).expect("it is exempt"));
            None
        }),
    ];
    for (name, decide) in decisions {
        let now = Instant::now();
        let table: &'static Arc<Table> =
            Box::leak(Box::new(Table::new(TableConfig::default(), limits(2, false), now).unwrap()));
        let (route, tracker) = (table.route_ids()[0], table.for_worker());
        let mut other = Permit::open(&tracker, now, Arrival { origin: Origin::Proxy, pending: true }).unwrap();
        let request = RequestPermit::begin(&tracker, now, None, route).unwrap();
        let reload = |table: &Table| drop(table.reload(Instant::now(), limits(1, true)).unwrap());
        let mut permit = None;
        let (calls, _) = interrupted(table, reload, || permit = decide(&tracker, now, route, &mut other));
        assert!(calls > 0, "{name}: no table has grown");
        assert_eq!(table.snapshot().tracked_clients, 0, "{name}: an exempt client is counted");
        drop((permit, other, request));
    }
}
