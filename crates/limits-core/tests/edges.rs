//! Where counting meets its edges: a full table, a clock that stands or runs backwards, releases of nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use conn_tracker::{Arrival, ConnectionTracker, Hold, Inspect, Permit, Reason, RequestPermit, RouteId, Slots, TopBy};
use limits_core::{ClientOverride, Limits, RequestRate, RouteLimits, Table, TableConfig};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn table(tracked_clients: u32, limits: Limits, now: Instant) -> (Arc<Table>, Arc<dyn ConnectionTracker>) {
    let config = TableConfig { tracked_clients, ..TableConfig::default() };
    let table = Table::new(config, limits, now).unwrap();
    let tracker = table.for_worker();
    (table, tracker)
}

fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + number).into()
}

fn v6(number: u32) -> IpAddr {
    Ipv6Addr::from_bits((0x2001_0db8_0000_0000 + u128::from(number)) << 64).into()
}

fn open(tracker: &Arc<dyn ConnectionTracker>, now: Instant, from: IpAddr) -> Result<Permit, Reason> {
    Permit::open(tracker, now, Arrival::client(from)).map_err(|rejection| rejection.reason)
}

fn rate(rate_per_minute: u32) -> Limits {
    Limits { rate_per_minute, ..Limits::default() }
}

#[test]
fn pitfall_06_giving_back_what_is_not_held_is_loud_and_counted_and_changes_nothing() {
    let now = Instant::now();
    let (table, tracker) = table(100, Limits::default(), now);
    let kept = open(&tracker, now, v4(1)).unwrap();
    let stranger = table.explain(v4(2)).client;
    for (client, slots) in [(None, Slots::EXEMPT), (Some(stranger), Slots::CLIENT)] {
        let before = table.snapshot();
        let mut hold = Hold::vacant();
        hold.fill(client, slots);
        let closed = catch_unwind(AssertUnwindSafe(|| tracker.close(&mut hold)));
        hold.settle();
        assert_eq!(closed.is_err(), cfg!(debug_assertions));
        let after = table.snapshot();
        assert_eq!(after.anomalies, before.anomalies + 1, "{slots:?}");
        assert_eq!(after.scopes, before.scopes, "{slots:?}");
    }
    drop(kept);
    assert_eq!(table.snapshot().tracked_clients, 0, "and counting goes on");
}

#[test]
fn an_address_of_zeros_is_a_client_like_any_other() {
    let now = Instant::now();
    let (table, tracker) = table(100_000, Limits { per_client: 2, ..Limits::default() }, now);
    let nobody: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    // Where others are counted, places of nobody are too, which look like places of this one.
    let _others: Vec<_> =
        (0..10_000).flat_map(|last| [v4(last), v6(last)]).map(|from| open(&tracker, now, from)).collect();
    for from in nobody {
        let mut hold = Hold::vacant();
        hold.fill(Some(table.explain(from).client), Slots::GLOBAL.with(Slots::CLIENT));
        let closed = catch_unwind(AssertUnwindSafe(|| tracker.close(&mut hold)));
        hold.settle();
        assert_eq!(closed.is_err(), cfg!(debug_assertions), "{from} held nothing");
        let held = [open(&tracker, now, from), open(&tracker, now, from)];
        assert!(held.iter().all(Result::is_ok), "{from}");
        assert_eq!(open(&tracker, now, from).map(drop), Err(Reason::ClientLimit));
        drop(held);
        assert_eq!(table.explain(from).active, 0);
    }
}

#[test]
fn what_is_given_back_is_found_whatever_its_hold_says_about_where() {
    let now = Instant::now();
    let (table, tracker) = table(100, Limits::default(), now);
    let _kept = open(&tracker, now, v4(1)).unwrap();
    for hint in [0, 1, 77, u32::MAX] {
        let mut hold = Hold::vacant();
        tracker.open(now, Arrival::client(v4(1)), &mut hold).unwrap();
        hold.set_hint(hint);
        tracker.close(&mut hold);
        assert_eq!(table.snapshot().anomalies, 0);
        assert_eq!(table.explain(v4(1)).active, 1);
    }
}

#[test]
fn pitfall_10_a_clock_that_runs_backwards_neither_admits_more_nor_locks_out() {
    let start = Instant::now();
    let (_, tracker) = table(100, rate(60), start);
    // Not so late that the table begins to count from there: then nothing was before it.
    let later = start + Duration::from_secs(600);
    let burst = |now| (0..100).filter(|_| open(&tracker, now, v4(1)).is_ok()).count();
    assert_eq!(burst(later), 60);
    assert_eq!(burst(start), 0, "time that is gone gives nothing back");
    let refused = Permit::open(&tracker, start, Arrival::client(v4(1))).map(drop).unwrap_err();
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(1)), "nor is it to be waited for again");
    assert_eq!(burst(start.checked_sub(Duration::from_secs(5)).unwrap_or(start)), 0, "nor time before the table");
    assert_eq!(burst(later + Duration::from_secs(1)), 1, "once the clock is right again, so is the rate");
}

#[test]
fn who_is_refused_most_is_shown_first_with_what_it_holds() {
    let now = Instant::now();
    let (table, tracker) = table(100, Limits { per_client: 1, ..Limits::default() }, now);
    let _held = [open(&tracker, now, v4(1)).unwrap(), open(&tracker, now, v6(1)).unwrap()];
    for (client, times) in [(v4(1), 3), (v6(1), 5)] {
        for _ in 0..times {
            open(&tracker, now, client).map(drop).unwrap_err();
        }
    }
    let top = table.top(TopBy::Refused, 10);
    let shown: Vec<_> = top.iter().map(|top| (top.client.network(), top.active, top.refused)).collect();
    assert_eq!(shown, [(v6(1), 1, 5), (v4(1), 1, 3)]);
    assert_eq!(table.top(TopBy::Refused, 1), top[..1]);
}

#[test]
fn a_client_is_explained_by_its_own_limits() {
    let now = Instant::now();
    let special =
        ClientOverride { network: "10.0.0.0/31".parse().unwrap(), per_client: Some(7), rate_per_minute: Some(0) };
    let limits = Limits {
        per_client: 3,
        rate_per_minute: 90,
        exempt: vec!["10.0.0.3/32".parse().unwrap()],
        overrides: vec![special],
        ..Limits::default()
    };
    let (table, tracker) = table(100, limits, now);
    let _exempt = open(&tracker, now, v4(3)).unwrap();
    let _plain = open(&tracker, now, v4(2)).unwrap();
    for (client, exempt, active, limit, rate_per_minute) in [
        (v4(1), false, 0, Some(7), None),
        (v4(2), false, 1, Some(3), Some(90)),
        (v4(3), true, 0, Some(3), Some(90)),
        (v6(9), false, 0, Some(3), Some(90)),
    ] {
        let explained = table.explain(client);
        assert_eq!((explained.exempt, explained.active), (exempt, active), "{client}");
        assert_eq!((explained.limit, explained.rate_per_minute), (limit, rate_per_minute), "{client}");
    }
}

#[test]
fn pitfall_42_memory_comes_back_once_clients_are_forgotten() {
    let now = Instant::now();
    let (table, tracker) = table(200_000, rate(60), now);
    let empty = table.snapshot().table_bytes;
    for number in 0..50_000 {
        drop(open(&tracker, now, v4(number)).unwrap());
        drop(open(&tracker, now, v6(number)).unwrap());
    }
    let full = table.snapshot();
    assert_eq!(full.tracked_clients, 100_000, "their tokens are not back yet");
    assert!(full.table_bytes > empty + 1_000_000);
    while !table.expire(now + Duration::from_millis(999), 10_000).ended {}
    assert_eq!(table.snapshot().tracked_clients, 100_000, "not a moment too early");
    while !table.expire(now + Duration::from_secs(1), 10_000).ended {}
    let after = table.snapshot();
    assert_eq!((after.tracked_clients, after.table_bytes), (0, empty));
}

#[test]
fn pitfall_41_a_full_table_forgets_on_demand_and_refuses_only_while_everyone_is_in_use() {
    // As many clients as a search for room is sure to pass over: no walk runs here.
    const CLIENTS: u32 = 30_000;
    let now = Instant::now();
    let (table, tracker) = table(CLIENTS, rate(60), now);
    let mut most = 0;
    for number in 0..CLIENTS {
        match open(&tracker, now, v4(number)) {
            Ok(permit) => drop(permit),
            Err(reason) => {
                assert_eq!((reason, number), (Reason::TableFull, CLIENTS / 4 * 3), "a quarter is kept for IPv6");
                most = number;
                break;
            }
        }
    }
    for number in 0..CLIENTS - most {
        drop(open(&tracker, now, v6(number)).expect("the quarter of IPv6"));
    }
    assert_eq!(open(&tracker, now, v6(CLIENTS)).map(drop), Err(Reason::TableFull));
    assert_eq!(table.snapshot().tracked_clients, u64::from(CLIENTS));
    assert!(open(&tracker, now, v4(0)).is_ok(), "who is known is not new");

    let later = now + Duration::from_secs(10);
    let newcomers: Vec<_> = (0..1_000).map(|number| open(&tracker, later, v4(1 << 20 | number))).collect();
    assert!(newcomers.iter().all(Result::is_ok), "idle clients make room at once");
    assert!(table.snapshot().tracked_clients <= u64::from(CLIENTS));
}

#[test]
fn request_rates_are_bounded_by_the_table_too() {
    let now = Instant::now();
    let route = RouteLimits {
        request_rate: Some(RequestRate { requests: 1, window: Duration::from_secs(1) }),
        ..RouteLimits::new("r")
    };
    let (table, tracker) = table(8, Limits { routes: vec![route], ..Limits::default() }, now);
    let route: RouteId = table.route_ids()[0];
    let begin = |now, client| RequestPermit::begin(&tracker, now, Some(client), route).map_err(|full| full.reason);
    for number in 0..6 {
        drop(begin(now, v4(number)).unwrap());
    }
    assert_eq!(begin(now, v4(6)).map(drop), Err(Reason::TableFull));
    assert!(begin(now, v6(0)).is_ok(), "a quarter is kept for IPv6");
    while !table.expire(now + Duration::from_secs(1), 10_000).ended {}
    assert!(begin(now + Duration::from_secs(1), v4(6)).is_ok());
}
