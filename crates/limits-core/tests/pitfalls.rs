//! What counting has got wrong elsewhere, one test each; the numbers are those of `docs/TESTING.md`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use conn_tracker::{Arrival, ConnectionTracker, Inspect, Permit, Reason};
use limits_core::{Limits, RouteLimits, Table, TableConfig};
use std::net::IpAddr;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

fn table(limits: Limits, now: Instant) -> (Arc<Table>, Arc<dyn ConnectionTracker>) {
    let table = Table::new(TableConfig { tracked_clients: 1_000, ..TableConfig::default() }, limits, now).unwrap();
    let tracker = table.for_worker();
    (table, tracker)
}

fn client(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn open(tracker: &Arc<dyn ConnectionTracker>, now: Instant, last: u8) -> Result<Permit, Reason> {
    Permit::open(tracker, now, Arrival::client(client(last))).map_err(|rejection| rejection.reason)
}

/// Limits that are full one by one: the route, the client, the process.
fn narrow() -> Limits {
    Limits {
        max_connections: 3,
        pending: 3,
        per_client: 2,
        rate_per_minute: 60,
        routes: vec![RouteLimits { max_connections: 1, per_client: 1, ..RouteLimits::new("r") }],
        ..Limits::default()
    }
}

#[test]
fn pitfall_04_a_refusal_in_any_scope_takes_nothing_in_another() {
    let now = Instant::now();
    let (table, tracker) = table(narrow(), now);
    let route = table.route_ids()[0];
    let mut held: Vec<Permit> = [1, 1, 2].map(|last| open(&tracker, now, last).unwrap()).into();
    held[0].bind(now, route).unwrap();
    let before = table.snapshot().scopes;
    let known = [1, 2, 3].map(|last| table.explain(client(last)));
    for _ in 0..100 {
        // The process is full, for one client who may have more, one who may not, and one who is new.
        for (last, reason) in [(1, Reason::ClientLimit), (2, Reason::GlobalLimit), (3, Reason::GlobalLimit)] {
            assert_eq!(open(&tracker, now, last).map(drop), Err(reason));
        }
        assert_eq!(held[2].bind(now, route).unwrap_err().reason, Reason::RouteLimit);
    }
    let after = table.snapshot();
    // The refused binding was the decision on its route: it is not pending any more.
    for (before, after) in before.iter().zip(&after.scopes) {
        let decided = u64::from(before.scope == conn_tracker::Scope::Pending);
        assert_eq!(after.active + decided, before.active, "{:?}", before.scope);
    }
    for (before, last) in known.iter().zip([1, 2, 3]) {
        assert_eq!(table.explain(client(last)).active, before.active);
    }
    assert_eq!(after.tracked_clients, 2, "who was only refused left no entry");
    // Nor a token: of the 60 that client 2 may open in a minute, one is gone.
    drop(held);
    let mut opened = 0;
    while open(&tracker, now, 2).is_ok() {
        opened += 1;
    }
    assert_eq!(opened, 59);
}

#[test]
fn pitfall_05_of_several_full_scopes_the_first_in_order_is_named() {
    let now = Instant::now();
    // Each row fills one scope more, from the last in order to the first.
    let all = Limits { max_connections: 1, pending: 1, per_client: 1, rate_per_minute: 1, ..Limits::default() };
    for (limits, reason) in [
        (Limits { pending: 0, per_client: 0, rate_per_minute: 0, ..all.clone() }, Reason::GlobalLimit),
        (Limits { per_client: 0, rate_per_minute: 0, ..all.clone() }, Reason::PendingLimit),
        (Limits { rate_per_minute: 0, ..all.clone() }, Reason::ClientLimit),
        (all, Reason::ClientRate),
    ] {
        let (_, tracker) = table(limits, now);
        let _held = open(&tracker, now, 1).unwrap();
        for _ in 0..10 {
            assert_eq!(open(&tracker, now, 1).map(drop), Err(reason));
        }
    }
}

#[test]
fn pitfall_08_who_holds_a_slot_or_owes_time_is_not_forgotten() {
    let now = Instant::now();
    let (table, tracker) = table(Limits { per_client: 1, rate_per_minute: 60, ..Limits::default() }, now);
    let forget = |now| while !table.expire(now, 1_000).ended {};
    let held = open(&tracker, now, 1).unwrap();
    let long = now + Duration::from_secs(24 * 3_600);
    forget(long);
    assert_eq!(open(&tracker, long, 1).map(drop), Err(Reason::ClientLimit), "a day later it still holds its slot");
    drop(held);
    forget(long);
    assert_eq!(table.snapshot().tracked_clients, 0);
    for _ in 0..60 {
        drop(open(&tracker, long, 1).unwrap());
    }
    forget(long);
    assert_eq!(open(&tracker, long, 1).map(drop), Err(Reason::ClientRate), "its minute is not over");
}

#[test]
fn pitfall_09_a_client_that_returns_while_it_is_forgotten_is_counted_once() {
    let start = Instant::now();
    let (table, _) = table(Limits { per_client: 2, ..Limits::default() }, start);
    let barrier = Barrier::new(3);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                let tracker = table.for_worker();
                barrier.wait();
                for _ in 0..20_000 {
                    // Two threads, one slot each: with one entry there is always room, and never for a third.
                    let held = open(&tracker, start, 1).unwrap();
                    assert!(table.explain(client(1)).active <= 2);
                    drop(held);
                }
            });
        }
        barrier.wait();
        for _ in 0..2_000 {
            table.expire(start, 1_000);
            assert!(table.snapshot().tracked_clients <= 1, "one client has one entry");
        }
    });
    table.expire(start, usize::MAX);
    assert_eq!((table.snapshot().tracked_clients, table.snapshot().anomalies), (0, 0));
}

#[test]
fn pitfall_11_a_limit_below_what_is_held_ends_nobody_and_admits_nobody() {
    let now = Instant::now();
    let limits = |most| Limits { per_client: most, ..Limits::default() };
    let (table, tracker) = table(limits(4), now);
    let mut held: Vec<Permit> = (0..4).map(|_| open(&tracker, now, 1).unwrap()).collect();
    table.reload(now, limits(2)).unwrap();
    assert_eq!(table.explain(client(1)).active, 4, "who is there stays");
    for left in [3, 2] {
        assert_eq!(open(&tracker, now, 1).map(drop), Err(Reason::ClientLimit));
        held.pop();
        assert_eq!(table.explain(client(1)).active, left);
    }
    assert_eq!(open(&tracker, now, 1).map(drop), Err(Reason::ClientLimit), "two of two");
    table.reload(now, limits(3)).unwrap();
    held.push(open(&tracker, now, 1).expect("a raised limit is in force at once"));
    table.reload(now, limits(0)).unwrap();
    assert!((0..100).all(|_| open(&tracker, now, 1).is_ok()), "and none is no limit");
}
