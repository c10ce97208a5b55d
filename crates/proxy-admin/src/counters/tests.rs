//! Counting under several threads, and its bounds.

use super::*;
use std::thread;

fn event(kind: EventKind, reason: &'static str, route: Option<u32>) -> Event {
    Event { kind, reason, route: route.and_then(RouteId::new), source: "203.0.113.7".parse().ok() }
}

fn request(route: Option<u32>, status: u16, millis: u64) -> RequestOutcome {
    RequestOutcome { route: route.and_then(RouteId::new), status, elapsed: Duration::from_millis(millis) }
}

#[test]
fn figures_of_all_threads_are_one_sum() {
    const THREADS: u64 = 8;
    const EACH: u64 = 5000;
    let counters = EventCounters::default();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for step in 0..EACH {
                    counters.event(event(EventKind::Refused, "client_limit", Some(step as u32 % 2)));
                    counters.request(request(Some(1), 200, 3));
                    counters.admitted(443);
                    counters.handshake();
                }
            });
        }
    });
    let counts = counters.counts();
    let count = THREADS * EACH / 2;
    let expected = [0, 1].map(|index| EventCount {
        kind: EventKind::Refused,
        reason: "client_limit".into(),
        route: CountedRoute::Route(RouteId::new(index).unwrap()),
        count,
    });
    assert_eq!(counts.events, expected);
    let route = CountedRoute::Route(RouteId::new(1).unwrap());
    assert_eq!(counts.requests, [RequestCount { route, result: "2xx", count: THREADS * EACH }]);
    assert_eq!((counts.admitted, counts.handshakes), (vec![(443, THREADS * EACH)], THREADS * EACH));
    assert_eq!(counts.duration, Duration::from_millis(3 * THREADS * EACH));
}

#[test]
fn results_are_classes_of_the_status() {
    let counters = EventCounters::default();
    for status in [0, 99, 100, 204, 308, 429, 503, 599, 600, u16::MAX] {
        counters.request(request(None, status, 1));
    }
    let counts = counters.counts().requests;
    let counts: Vec<_> = counts.iter().map(|request| (request.result, request.count)).collect();
    assert_eq!(counts, [("1xx", 1), ("2xx", 1), ("3xx", 1), ("4xx", 1), ("5xx", 2), ("other", 4)]);
}

#[test]
fn a_duration_falls_into_the_first_bucket_that_holds_it() {
    let counters = EventCounters::default();
    for millis in [0, 1, 2, 3, 60_000, 60_001, u64::MAX / 2] {
        counters.request(request(None, 200, millis));
    }
    let filled: Vec<_> = counters.counts().durations.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(filled, [(0.0005, 1), (0.001, 1), (0.0025, 1), (0.005, 1), (60.0, 1), (f64::INFINITY, 2)]);
}

#[test]
fn what_exceeds_the_bounds_is_counted_as_other() {
    let settings = log_dedup::Settings { max_keys: 2, ..log_dedup::Settings::default() };
    let kinds = EventKind::ALL.map(|kind| Kind::new(kind.label()));
    let counters = EventCounters::new(Dedup::builder().settings(settings).kinds(kinds).build());
    for reason in ["a", "b", "c", "d"] {
        for _ in 0..2 {
            counters.event(event(EventKind::BadRequest, reason, None));
        }
    }
    let counts: Vec<_> = counters.counts().events.into_iter().map(|event| (event.reason, event.count)).collect();
    assert_eq!(counts, [("a", 2), ("b", 2), (OTHER, 4)].map(|(reason, count)| (reason.into(), count)));
    for route in [MAX_ROUTES as u32, conn_tracker::MAX_ROUTES - 1] {
        counters.request(request(Some(route), 200, 1));
    }
    assert_eq!(counters.counts().requests, [RequestCount { route: CountedRoute::Other, result: "2xx", count: 2 }]);
}

#[test]
fn clients_whose_handshakes_fail_are_known_in_bounded_memory() {
    let counters = EventCounters::default();
    let failed = |client: u32, kind| Event {
        kind,
        reason: "handshake_failed",
        route: None,
        source: Some(IpAddr::from(client.to_be_bytes())),
    };
    for round in 0..50_000 {
        counters.event(failed(0x0a00_0000 + round, EventKind::TlsFailed));
        counters.event(failed(round % 2, EventKind::TlsFailed));
        counters.event(failed(7, EventKind::Refused));
    }
    let foremost = counters.failed_handshakes(2);
    let clients: Vec<_> = foremost.iter().map(|(client, _)| client.to_string()).collect();
    assert!(clients.iter().all(|client| ["0.0.0.0", "0.0.0.1"].contains(&client.as_str())), "{foremost:?}");
    assert!(foremost.iter().all(|(_, count)| (24_000..=25_000).contains(count)), "{foremost:?}");
    assert!(counters.failed_handshakes(usize::MAX).len() <= 512);
}
