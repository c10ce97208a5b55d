//! One operation, many times, for a tool that counts instructions: `icount CASE TURNS`; see `cargo xtask bench icount`.
//!
//! Everything before the turns is the same for every number of them, so the difference between two runs is the turns.
#![allow(clippy::unwrap_used, reason = "a measurement that fails has no figures")]

use conn_tracker::{Arrival, ConnectionTracker, Permit, RequestPermit};
use limits_core::{Limits, RouteLimits, Table, TableConfig};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLIENTS: u32 = 20_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let case = arguments.next().unwrap_or_default();
    let turns: u32 = arguments.next().and_then(|number| number.parse().ok()).unwrap_or(0);

    let now = Instant::now();
    let route = RouteLimits { max_connections: 1_000_000, per_client: 100, ..RouteLimits::new("shop") };
    let limits = Limits {
        max_connections: 3_000_000,
        per_client: 2,
        rate_per_minute: 60_000_000,
        routes: vec![route],
        // Where some networks are exempt, each client is looked up among them.
        exempt: (case == "listed_v4").then(|| "127.0.0.0/8".parse().unwrap()).into_iter().collect(),
        ..Limits::default()
    };
    let table = Table::new(TableConfig::default(), limits, now).unwrap();
    // The compiler must not see which tracker it is: a proxy's does not.
    let (tracker, route) = (black_box(table.for_worker()), table.route_ids()[0]);
    let held: Vec<_> = (0..CLIENTS)
        .flat_map(|number| [v4(number), v6(number)])
        .map(|from| Permit::open(&tracker, now, Arrival::client(from)).unwrap())
        .collect();
    let full = Permit::open(&tracker, now, Arrival::client(v4(0))).unwrap();
    let later = now + Duration::from_millis(1);
    let open = |from| Permit::open(&tracker, later, Arrival::client(from));
    // One of a power of two, which costs an instruction to say; never the one that is full.
    let known = |turn: u32| 1 + (turn & 0x3fff);
    // Every part of the table, and every client, has heard of the later time, whatever the number of turns.
    (0..CLIENTS).flat_map(|number| [v4(number), v6(number)]).for_each(|from| drop(open(from)));
    match &*case {
        "known_v4" | "listed_v4" => (0..turns).for_each(|turn| drop(black_box(open(v4(known(turn))).unwrap()))),
        "known_v6" => (0..turns).for_each(|turn| drop(black_box(open(v6(known(turn))).unwrap()))),
        "announced_v4" => announced(&tracker, later, turns, |turn| v4(known(turn))),
        "announced_v6" => announced(&tracker, later, turns, |turn| v6(known(turn))),
        "new_v4" => (0..turns).for_each(|turn| drop(black_box(open(v4(CLIENTS + turn)).unwrap()))),
        "bound_v4" => (0..turns).for_each(|turn| {
            let mut permit = open(v4(known(turn))).unwrap();
            permit.bind(later, route).unwrap();
            drop(black_box(permit));
        }),
        "refused_v4" => (0..turns).for_each(|_| {
            black_box(open(v4(0)).unwrap_err());
        }),
        "request_v4" => (0..turns).for_each(|turn| {
            drop(black_box(RequestPermit::begin(&tracker, later, Some(v4(known(turn))), route).unwrap()));
        }),
        unknown => panic!("there is no case {unknown:?}"),
    }
    drop((held, full));
}

/// Known clients, each announced before the last one is admitted.
#[inline(always)]
fn announced(tracker: &Arc<dyn ConnectionTracker>, now: Instant, turns: u32, client: impl Fn(u32) -> IpAddr) {
    let mut next = client(turns);
    for turn in 0..turns {
        let this = std::mem::replace(&mut next, client(turn));
        tracker.expect(next);
        drop(black_box(Permit::open(tracker, now, Arrival::client(this)).unwrap()));
    }
}

fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b1)).into()
}

fn v6(number: u32) -> IpAddr {
    Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number.wrapping_mul(0x9e37_79b1)) << 64 | 7).into()
}
