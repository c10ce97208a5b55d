//! Folding, as its users see it.

use super::*;
use crate::Ticker;
use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::AtomicU64;
use std::thread;

const REFUSED: usize = 0;
const BLOCKED: usize = 1;
const KINDS: [Kind; 2] = [
    Kind::new("refused", "refused", "connection", "connections"),
    Kind::new("blocked", "blocked", "connection", "connections"),
];

/// Keeps what is written.
#[derive(Clone, Debug, Default)]
struct Pages {
    occurrences: Arc<Mutex<Vec<Occurrence>>>,
    summaries: Arc<Mutex<Vec<Summary>>>,
}

impl Sink for Pages {
    fn occurrence(&self, occurrence: &Occurrence) {
        self.occurrences.lock().push(occurrence.clone());
    }

    fn summary(&self, summary: &Summary) {
        self.summaries.lock().push(summary.clone());
    }
}

impl Pages {
    fn lines(&self) -> (usize, usize) {
        (self.occurrences.lock().len(), self.summaries.lock().len())
    }

    /// Events written plus events summed up.
    fn events(&self) -> u64 {
        self.occurrences.lock().len() as u64 + self.summaries.lock().iter().map(|summary| summary.count).sum::<u64>()
    }
}

struct Fixture {
    dedup: Dedup,
    pages: Pages,
    start: Instant,
}

fn fixture(settings: Settings) -> Fixture {
    let (pages, start) = (Pages::default(), Instant::now());
    let names = |route| (route < 100).then(|| format!("route{route}"));
    Fixture { dedup: Dedup::new(settings, &KINDS, start, names, pages.clone()), pages, start }
}

impl Fixture {
    /// Records `times` events `seconds` after the start.
    fn record(&self, seconds: u64, times: u32) {
        for source in 0..times {
            let source = Some(IpAddr::from(source.to_be_bytes()));
            self.dedup.record(self.at(seconds), REFUSED, "client_limit", Some(1), source);
        }
    }

    fn tick(&self, seconds: u64) {
        self.dedup.tick(self.at(seconds));
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }
}

#[test]
fn one_line_at_once_then_one_per_interval() {
    let fixture = fixture(Settings::default());
    fixture.record(100, 1000);
    assert_eq!(fixture.pages.lines(), (1, 0));
    for second in 100..105 {
        fixture.tick(second);
    }
    assert_eq!(fixture.pages.lines(), (1, 0), "the interval begins with the first event");
    fixture.tick(105);
    fixture.tick(105);
    assert_eq!(fixture.pages.lines(), (1, 1));
    for second in 105..130 {
        fixture.record(second, 1000);
        fixture.tick(second);
    }
    assert_eq!(fixture.pages.lines(), (1, 5));
    fixture.dedup.flush(fixture.at(130));
    assert_eq!(fixture.pages.events(), 26_000);
    for summary in fixture.pages.summaries.lock().iter() {
        assert_eq!(summary.reasons, [("client_limit".to_owned(), summary.count)]);
        assert_eq!(summary.routes, [("route1".to_owned(), summary.count)]);
    }
}

#[test]
fn after_a_quiet_interval_the_next_event_is_written_at_once() {
    let fixture = fixture(Settings::default());
    fixture.record(0, 2);
    fixture.tick(5);
    fixture.record(6, 1);
    assert_eq!(fixture.pages.lines(), (1, 1), "still folding");
    fixture.tick(10);
    fixture.tick(15);
    assert_eq!(fixture.pages.lines(), (1, 2));
    fixture.record(16, 2);
    assert_eq!(fixture.pages.lines(), (2, 2));
    fixture.tick(20);
    assert_eq!(fixture.pages.lines(), (2, 2), "a window begins with its first event");
    fixture.tick(21);
    assert_eq!(fixture.pages.lines(), (2, 3));
    assert_eq!(fixture.pages.events(), 5);
}

#[test]
fn an_event_now_and_then_is_always_written() {
    let fixture = fixture(Settings::default());
    for second in (0..60).step_by(6) {
        fixture.record(second, 1);
        fixture.tick(second + 5);
    }
    assert_eq!(fixture.pages.lines(), (10, 0));
}

#[test]
fn kinds_do_not_fold_into_each_other() {
    let fixture = fixture(Settings { burst: 2, ..Settings::default() });
    let record = |kind| fixture.dedup.record(fixture.start, kind, "x", None, None);
    assert_eq!([record(REFUSED), record(REFUSED), record(REFUSED)], [true, true, false]);
    assert_eq!([record(BLOCKED), record(BLOCKED), record(BLOCKED)], [true, true, false]);
    fixture.tick(5);
    assert_eq!(fixture.pages.lines(), (4, 2));
    assert_eq!(fixture.dedup.totals(BLOCKED), Totals { written: 2, folded: 1 });
    assert_eq!(fixture.dedup.folded(), 2);
}

#[test]
fn a_burst_that_is_not_used_up_begins_anew_after_a_quiet_interval() {
    let fixture = fixture(Settings { burst: 3, ..Settings::default() });
    fixture.record(0, 2);
    fixture.tick(5);
    fixture.record(6, 3);
    assert_eq!(fixture.pages.lines(), (5, 0));
}

#[test]
fn zeros_are_taken_as_the_least() {
    let fixture = fixture(Settings { interval: Duration::ZERO, top_sources: 0, max_keys: 0, burst: 0 });
    fixture.record(0, 3);
    fixture.tick(1);
    assert_eq!(fixture.pages.lines(), (1, 1));
    let summary = fixture.pages.summaries.lock()[0].clone();
    assert_eq!(summary.routes, [("other".to_owned(), 2)]);
    assert!(summary.top.is_empty());
}

#[test]
fn more_routes_than_keys_are_counted_as_other() {
    let fixture = fixture(Settings { max_keys: 6, top_sources: 3, ..Settings::default() });
    for route in [5, 5, 5, 5, 4, 4, 4, 200, 200, 3, 2, 1, 10, 11, 11] {
        fixture.dedup.record(fixture.start, REFUSED, "route_limit", Some(route), None);
    }
    fixture.tick(5);
    let summary = fixture.pages.summaries.lock()[0].clone();
    let expected = [("route4", 3), ("route5", 3), ("#200", 2), ("other", 6)];
    assert_eq!(summary.routes, expected.map(|(name, count)| (name.to_owned(), count)));
    assert_eq!(summary.count, 14);
    assert_eq!(summary.sources, 0);
}

#[test]
fn the_foremost_sources_are_named_with_counts_that_are_certain() {
    let fixture = fixture(Settings { top_sources: 2, ..Settings::default() });
    fixture.record(0, 4000);
    let heavy: IpAddr = "203.0.113.7".parse().unwrap();
    for _ in 0..5000 {
        fixture.dedup.record(fixture.start, REFUSED, "client_rate", Some(2), Some(heavy));
    }
    fixture.tick(5);
    let summary = fixture.pages.summaries.lock()[0].clone();
    assert_eq!(summary.top[0], (heavy, 5000));
    assert_eq!(summary.top.len(), 2);
    assert!(summary.sources.abs_diff(4000) < 200, "{}", summary.sources);
    assert_eq!(summary.per_second(), 8999 / 5);
}

#[test]
fn a_flood_from_a_million_addresses_is_one_line() {
    let fixture = fixture(Settings::default());
    fixture.record(0, 1_000_000);
    fixture.tick(5);
    assert_eq!(fixture.pages.lines(), (1, 1));
    let summary = fixture.pages.summaries.lock()[0].clone();
    assert_eq!(summary.count, 999_999);
    assert!(summary.sources.abs_diff(1_000_000) < 51_000, "{}", summary.sources);
}

#[test]
fn dropping_the_last_handle_writes_what_is_left() {
    let fixture = fixture(Settings::default());
    fixture.record(0, 10);
    let Fixture { dedup, pages, .. } = fixture;
    let other = dedup.clone();
    drop(dedup);
    assert_eq!(pages.lines(), (1, 0));
    drop(other);
    assert_eq!(pages.lines(), (1, 1));
    assert_eq!(pages.events(), 10);
}

#[test]
fn dropping_the_ticker_writes_what_is_left() {
    let fixture = fixture(Settings { interval: Duration::from_secs(3600), ..Settings::default() });
    let ticker = Ticker::start(&fixture.dedup).unwrap();
    fixture.record(0, 10);
    assert_eq!(fixture.pages.lines(), (1, 0));
    drop(ticker);
    assert_eq!(fixture.pages.events(), 10);
}

#[test]
fn the_ticker_ends_intervals() {
    let fixture = fixture(Settings { interval: Duration::from_millis(5), ..Settings::default() });
    let _ticker = Ticker::start(&fixture.dedup).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while fixture.pages.lines().1 == 0 {
        assert!(Instant::now() < deadline, "no summary was written");
        fixture.dedup.record(Instant::now(), REFUSED, "client_limit", None, None);
        thread::yield_now();
    }
}

/// Between the look at the cells and the decision that a kind is quiet, another thread may count an event.
#[test]
fn an_event_counted_while_its_kind_turns_quiet_is_not_forgotten() {
    let fixture = fixture(Settings::default());
    let core = &*fixture.dedup.core;
    fixture.record(0, 1);
    assert_eq!(core.collect(REFUSED).counts.count, 0);
    fixture.record(0, 1);
    core.settle(REFUSED, &core.kinds[REFUSED]);
    fixture.tick(5);
    assert_eq!(fixture.pages.lines(), (1, 1));
}

/// Threads record while another one ends intervals; kinds turn quiet in between.
#[test]
fn nothing_is_lost_or_doubled_under_eight_threads() {
    const THREADS: u64 = 8;
    const EACH: u64 = 20_000;
    let Fixture { dedup, pages, .. } = fixture(Settings { interval: Duration::from_millis(1), ..Settings::default() });
    let (running, barrier) = (AtomicU64::new(THREADS), Barrier::new(THREADS as usize + 1));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (dedup, running, barrier) = (dedup.clone(), &running, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for step in 0..EACH {
                    let reason = if step % 3 == 0 { "client_limit" } else { "route_limit" };
                    let source = Some(IpAddr::from(((thread << 24 | step) as u32).to_be_bytes()));
                    dedup.record(Instant::now(), (step % 2) as usize, reason, Some(step as u32 % 7), source);
                    if step % 500 == 0 {
                        thread::yield_now();
                    }
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        barrier.wait();
        while running.load(Ordering::Acquire) > 0 {
            // Half of the calls end windows at once: kinds turn quiet as often as possible.
            dedup.tick(Instant::now());
            dedup.flush(Instant::now());
        }
    });
    let recorded: u64 = [REFUSED, BLOCKED].map(|kind| dedup.totals(kind).recorded()).iter().sum();
    assert_eq!(recorded, THREADS * EACH);
    drop(dedup);
    assert_eq!(pages.events(), THREADS * EACH);
    let mut by_reason: HashMap<String, u64> = HashMap::new();
    for occurrence in pages.occurrences.lock().iter() {
        *by_reason.entry(occurrence.reason.to_owned()).or_default() += 1;
    }
    for summary in pages.summaries.lock().iter() {
        let sum = |parts: &[(String, u64)]| parts.iter().map(|(_, count)| count).sum::<u64>();
        assert_eq!((sum(&summary.reasons), sum(&summary.routes)), (summary.count, summary.count));
        for (reason, count) in &summary.reasons {
            *by_reason.entry(reason.clone()).or_default() += count;
        }
    }
    let client_limit = THREADS * EACH.div_ceil(3);
    assert_eq!(by_reason["client_limit"], client_limit);
    assert_eq!(by_reason["route_limit"], THREADS * EACH - client_limit);
}
