//! Exactness with many threads: never above, never a phantom refusal, nothing left behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use conn_tracker::{Arrival, Inspect, Origin, Permit, Reason, RequestPermit, Scope};
use limits_core::{Limits, RequestRate, RouteLimits, Table, TableConfig};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

const THREADS: u8 = 8;

fn table(limits: Limits) -> Arc<Table> {
    Table::new(TableConfig::default(), limits, Instant::now()).unwrap()
}

fn client(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn route_of(limits: RouteLimits) -> Limits {
    Limits { routes: vec![limits], ..Limits::default() }
}

fn active(table: &Table, scope: Scope) -> u64 {
    table.snapshot().scopes.iter().find(|state| state.scope == scope).expect("the scope is shown").active
}

#[test]
fn of_3000_attempts_exactly_100_are_admitted_whatever_the_scope() {
    let from_one = |_| Arrival::client(client(1));
    let from_many = |thread| Arrival::client(client(thread));
    let trusted = |_| Arrival { origin: Origin::Proxy, pending: true };
    type From = fn(u8) -> Arrival;
    let cases: [(Limits, From, Scope, Reason); 7] = [
        (Limits { max_connections: 100, ..Limits::default() }, from_many, Scope::Global, Reason::GlobalLimit),
        (Limits { max_connections: 100, ..Limits::default() }, trusted, Scope::Global, Reason::GlobalLimit),
        (Limits { pending: 100, ..Limits::default() }, from_many, Scope::Pending, Reason::PendingLimit),
        (Limits { per_client: 100, ..Limits::default() }, from_one, Scope::Client, Reason::ClientLimit),
        (Limits { rate_per_minute: 100, ..Limits::default() }, from_one, Scope::Client, Reason::ClientRate),
        (
            route_of(RouteLimits { max_connections: 100, ..RouteLimits::new("r") }),
            from_many,
            Scope::Route,
            Reason::RouteLimit,
        ),
        (
            route_of(RouteLimits { per_client: 100, ..RouteLimits::new("r") }),
            from_one,
            Scope::RouteClient,
            Reason::RouteClientLimit,
        ),
    ];
    for (limits, from, scope, reason) in cases {
        let (table, now, start) = (table(limits), Instant::now(), Barrier::new(THREADS.into()));
        let route = table.route_ids().first().copied();
        let held = Mutex::new(Vec::new());
        std::thread::scope(|threads| {
            for thread in 0..THREADS {
                let (tracker, start, held) = (table.for_worker(), &start, &held);
                threads.spawn(move || {
                    start.wait();
                    for _ in 0..3_000 / usize::from(THREADS) {
                        let permit = Permit::open(&tracker, now, from(thread));
                        let permit = permit.and_then(|mut permit| {
                            if let Some(route) = route {
                                permit.bind(now, route)?;
                            }
                            Ok(permit)
                        });
                        match permit {
                            Ok(permit) => held.lock().unwrap().push(permit),
                            Err(rejection) => assert_eq!((rejection.reason, rejection.limit()), (reason, 100)),
                        }
                    }
                });
            }
        });
        let held = held.into_inner().unwrap();
        assert_eq!(held.len(), 100, "{scope:?}");
        assert_eq!(active(&table, scope), 100, "{scope:?}");
        drop(held);
        assert_eq!(active(&table, scope), 0, "{scope:?}");
    }
}

#[test]
fn of_3000_attempts_exactly_100_are_exempt() {
    let exempt = vec!["192.0.2.0/24".parse().unwrap()];
    let (table, now) = (table(Limits { exempt, exempt_slots: 100, ..Limits::default() }), Instant::now());
    let held = together(|thread, held| {
        let tracker = table.for_worker();
        for _ in 0..3_000 / usize::from(THREADS) {
            held.push(Permit::open(&tracker, now, Arrival::client(client(thread))).expect("there is no other limit"));
        }
    });
    assert_eq!(held.iter().filter(|permit| permit.client().is_none()).count(), 100);
    assert_eq!((active(&table, Scope::Exempt), active(&table, Scope::Global)), (100, 2_900));
    drop(held);
    assert_eq!((active(&table, Scope::Exempt), active(&table, Scope::Global)), (0, 0));
}

#[test]
fn of_3000_requests_exactly_100_begin_whatever_the_scope() {
    let hour = Duration::from_secs(3_600);
    let route = || RouteLimits::new("r");
    for (route, scope, reason) in [
        (RouteLimits { max_requests: 100, ..route() }, Scope::Requests, Reason::RequestLimit),
        (RouteLimits { max_requests_per_client: 100, ..route() }, Scope::RequestsClient, Reason::RequestClientLimit),
        (
            RouteLimits { request_rate: Some(RequestRate { requests: 100, window: hour }), ..route() },
            Scope::RequestsClient,
            Reason::RequestRate,
        ),
    ] {
        let (table, now) = (table(route_of(route)), Instant::now());
        let id = table.route_ids()[0];
        let held = together(|_, held| {
            let tracker = table.for_worker();
            for _ in 0..3_000 / usize::from(THREADS) {
                match RequestPermit::begin(&tracker, now, Some(client(1)), id) {
                    Ok(permit) => held.push(permit),
                    Err(rejection) => assert_eq!((rejection.reason, rejection.limit()), (reason, 100)),
                }
            }
        });
        assert_eq!((held.len(), active(&table, scope)), (100, 100), "{reason}");
        drop(held);
        assert_eq!(active(&table, scope), 0, "{reason}");
    }
}

/// What all threads, started at once, hold in the end.
fn together<T: Send>(work: impl Fn(u8, &mut Vec<T>) + Sync) -> Vec<T> {
    let start = Barrier::new(THREADS.into());
    std::thread::scope(|threads| {
        let (work, start) = (&work, &start);
        let begin = |thread| {
            threads.spawn(move || {
                let mut held = Vec::new();
                start.wait();
                work(thread, &mut held);
                held
            })
        };
        let workers: Vec<_> = (0..THREADS).map(begin).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

/// Two threads ask for the last slot at once, again and again: one of them gets it.
#[test]
fn pitfall_02_a_race_for_the_last_slot_has_one_winner() {
    const ROUNDS: usize = 5_000;
    let everything = Limits {
        max_connections: 1,
        per_client: 1,
        pending: 1,
        routes: vec![RouteLimits { max_connections: 1, per_client: 1, ..RouteLimits::new("r") }],
        ..Limits::default()
    };
    for (limits, same_client) in [
        (Limits { max_connections: 1, ..Limits::default() }, false),
        (Limits { per_client: 1, ..Limits::default() }, true),
        (everything, false),
    ] {
        let (table, now, meet) = (table(limits), Instant::now(), Barrier::new(2));
        let route = table.route_ids().first().copied();
        let winners = AtomicI64::new(0);
        std::thread::scope(|threads| {
            for thread in 0..2 {
                let (tracker, meet, winners) = (table.for_worker(), &meet, &winners);
                let arrival = Arrival::client(client(if same_client { 0 } else { thread }));
                threads.spawn(move || {
                    for round in 0..ROUNDS {
                        meet.wait();
                        let mut permit = Permit::open(&tracker, now, arrival);
                        if let (Ok(permit), Some(route)) = (&mut permit, route) {
                            permit.bind(now, route).expect("whoever is in is alone");
                        }
                        winners.fetch_add(permit.is_ok().into(), Ordering::Relaxed);
                        meet.wait();
                        assert_eq!(winners.load(Ordering::Relaxed), i64::try_from(round).unwrap() + 1);
                        drop(permit);
                    }
                });
            }
        });
    }
}

/// Attempts that are refused in a later scope never take the place of one that would be admitted.
#[test]
fn refused_attempts_are_invisible() {
    const TURNS: usize = 40_000;
    let limits = Limits {
        max_connections: 2,
        per_client: 1,
        routes: vec![
            RouteLimits { max_connections: 2, per_client: 1, ..RouteLimits::new("shared") },
            RouteLimits { max_requests: 2, max_requests_per_client: 1, ..RouteLimits::new("requests") },
        ],
        ..Limits::default()
    };
    let (table, now) = (table(limits), Instant::now());
    let tracker = table.for_worker();
    let [shared, requests] = table.route_ids()[..] else { panic!("two routes") };
    let mut kept = Permit::open(&tracker, now, Arrival::client(client(1))).unwrap();
    kept.bind(now, shared).unwrap();
    let _kept_request = RequestPermit::begin(&tracker, now, Some(client(1)), requests).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..3 {
            let (tracker, done) = (table.for_worker(), &done);
            threads.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let refused =
                        Permit::open(&tracker, now, Arrival::client(client(1))).expect_err("the client is full");
                    assert_eq!(refused.reason, Reason::ClientLimit);
                    let refused = RequestPermit::begin(&tracker, now, Some(client(1)), requests).expect_err("likewise");
                    assert_eq!(refused.reason, Reason::RequestClientLimit);
                }
            });
        }
        let tracker = table.for_worker();
        for turn in 0..TURNS {
            let other = client(2 + u8::try_from(turn % 200).unwrap());
            let mut permit = Permit::open(&tracker, now, Arrival::client(other)).expect("one slot is always free");
            permit.bind(now, shared).expect("so is one of the route");
            drop(RequestPermit::begin(&tracker, now, Some(other), requests).expect("and one request"));
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Everything at once, with reloads and expiry in between; witnesses outside the table watch the limits.
#[test]
fn pitfall_46_nothing_is_ever_above_and_nothing_is_left_behind() {
    const GLOBAL: i64 = 9;
    const ROUTE: i64 = 5;
    let limits = |per_client, rate_per_minute| Limits {
        max_connections: 9,
        per_client,
        rate_per_minute,
        routes: vec![RouteLimits {
            max_connections: 5,
            per_client: 3,
            max_requests: 4,
            request_rate: Some(RequestRate { requests: 1_000, window: Duration::from_secs(1) }),
            ..RouteLimits::new("r")
        }],
        ..Limits::default()
    };
    let (table, begun, done) = (table(limits(4, 6_000)), Instant::now(), AtomicBool::new(false));
    let route = table.route_ids()[0];
    let (global, of_route, requests) = (AtomicI64::new(0), AtomicI64::new(0), AtomicI64::new(0));
    let take = |witness: &AtomicI64, most| assert!(witness.fetch_add(1, Ordering::SeqCst) < most, "above {most}");
    let admitted = AtomicI64::new(0);
    std::thread::scope(|threads| {
        let workers: Vec<_> = (0..4)
            .map(|thread: u8| {
                let (tracker, take) = (table.for_worker(), &take);
                let (global, of_route, requests, admitted) = (&global, &of_route, &requests, &admitted);
                threads.spawn(move || {
                    let mut held: Vec<(Permit, bool)> = Vec::new();
                    for turn in 0..20_000_u32 {
                        // Virtual time runs fast, so that rates recover and clients expire.
                        let now = begun + Duration::from_millis(u64::from(turn));
                        let last = u8::try_from(turn % 5).unwrap() + thread % 2;
                        if let Ok(mut permit) = Permit::open(&tracker, now, Arrival::client(client(last))) {
                            take(global, GLOBAL);
                            admitted.fetch_add(1, Ordering::Relaxed);
                            let bound = permit.bind(now, route).is_ok();
                            if bound {
                                take(of_route, ROUTE);
                            }
                            held.push((permit, bound));
                        }
                        if let Ok(request) = RequestPermit::begin(&tracker, now, Some(client(last)), route) {
                            take(requests, 4);
                            requests.fetch_sub(1, Ordering::SeqCst);
                            drop(request);
                        }
                        if held.len() > 2 || turn % 3 == 0 {
                            for (permit, bound) in held.drain(..) {
                                of_route.fetch_sub(bound.into(), Ordering::SeqCst);
                                global.fetch_sub(1, Ordering::SeqCst);
                                drop(permit);
                            }
                        }
                    }
                    for (permit, bound) in held {
                        of_route.fetch_sub(bound.into(), Ordering::SeqCst);
                        global.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                })
            })
            .collect();
        threads.spawn(|| {
            for turn in 0_u32.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                let now = begun + Duration::from_millis(u64::from(turn));
                table.reload(now, limits(1 + turn % 4, [0, 6_000, 60_000][turn as usize % 3])).unwrap();
                table.expire(now, 2_000);
                assert!(active(&table, Scope::Global) <= GLOBAL.unsigned_abs());
            }
        });
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(admitted.load(Ordering::Relaxed) > 1_000);
    for _the_walk_may_be_half_way in 0..2 {
        while !table.expire(begun + Duration::from_secs(10_000), 100_000).ended {}
    }
    let snapshot = table.snapshot();
    assert!(snapshot.scopes.iter().all(|scope| scope.active == 0), "{snapshot:?}");
    assert_eq!((snapshot.tracked_clients, snapshot.anomalies), (0, 0));
}

/// A reload that has returned holds for every later decision, whichever thread makes it.
#[test]
fn a_finished_reload_is_in_force() {
    let limits = |per_client| Limits { per_client, ..Limits::default() };
    let (table, now, meet) = (table(limits(1)), Instant::now(), Barrier::new(2));
    std::thread::scope(|threads| {
        let (tracker, meet) = (table.for_worker(), &meet);
        threads.spawn(move || {
            let mut held = Vec::new();
            for _ in 0..200 {
                meet.wait();
                let open = || Permit::open(&tracker, now, Arrival::client(client(1)));
                held.push(open().expect("the limit was raised by one"));
                open().expect_err("by no more than one");
                meet.wait();
            }
        });
        for most in 1..=200 {
            table.reload(now, limits(most)).unwrap();
            meet.wait();
            meet.wait();
        }
    });
}
