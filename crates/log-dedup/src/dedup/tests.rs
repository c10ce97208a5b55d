//! Folding, as its users see it.

use super::*;
use crate::{Clock, Closing, Count, Folding, Guard, Occurrence, Route, Sink, Summary, TopSource};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const REFUSED: usize = 0;
const BLOCKED: usize = 1;

/// Keeps what is written.
#[derive(Clone, Debug, Default)]
struct Pages {
    occurrences: Arc<Mutex<Vec<Occurrence>>>,
    summaries: Arc<Mutex<Vec<Summary>>>,
    closings: Arc<Mutex<Vec<Closing>>>,
    /// Summaries that it fails to write.
    failing: Arc<AtomicU64>,
}

impl Sink for Pages {
    fn occurrence(&self, occurrence: &Occurrence) {
        self.occurrences.lock().push(occurrence.clone());
    }

    fn summary(&self, summary: &Summary) {
        let failing = self.failing.load(Ordering::SeqCst);
        if failing > 0 {
            self.failing.store(failing - 1, Ordering::SeqCst);
            panic!("the disk is full");
        }
        self.summaries.lock().push(summary.clone());
    }

    fn closing(&self, closing: &Closing) {
        self.closings.lock().push(closing.clone());
    }
}

impl Pages {
    fn lines(&self) -> (usize, usize, usize) {
        (self.occurrences.lock().len(), self.summaries.lock().len(), self.closings.lock().len())
    }

    /// Events written plus events summed up.
    fn events(&self) -> u64 {
        self.occurrences.lock().len() as u64 + self.summaries.lock().iter().map(|summary| summary.count).sum::<u64>()
    }

    fn last(&self) -> Summary {
        self.summaries.lock().last().expect("there is a summary").clone()
    }
}

/// Stands where it is put.
#[derive(Clone, Debug, Default)]
struct Hand(Arc<AtomicU64>);

impl Clock for Hand {
    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.now()
    }
}

struct Fixture {
    dedup: Dedup,
    pages: Pages,
    hand: Hand,
}

fn fixture(settings: Settings) -> Fixture {
    let (pages, hand) = (Pages::default(), Hand::default());
    let kind = |name| Kind::new(name).reads(name, "connection", "connections");
    let dedup = Dedup::builder()
        .settings(settings)
        .kinds([kind("refused"), kind("blocked")])
        .routes(|route| (route < 100).then(|| format!("route{route}")))
        .sink(pages.clone())
        .clock(hand.clone())
        .build();
    Fixture { dedup, pages, hand }
}

fn folding(folding: Folding) -> Settings {
    Settings { folding, ..Settings::default() }
}

/// Nobody hurries.
fn steady() -> Settings {
    folding(Folding { rise: 0, ..Folding::default() })
}

impl Fixture {
    fn at(&self, seconds: f64) -> &Self {
        self.hand.0.store((seconds * 1000.0) as u64, Ordering::SeqCst);
        self
    }

    /// Records events, each from another source.
    fn record(&self, times: u32) -> &Self {
        for source in 0..times {
            let source = Some(IpAddr::from(source.to_be_bytes()));
            self.dedup.record(REFUSED, "client_limit", Some(1), source);
        }
        self
    }

    fn tick(&self, seconds: f64) {
        self.at(seconds).dedup.tick();
    }
}

fn named(parts: &[(&str, u64)]) -> Vec<(String, u64)> {
    parts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

mod ends;

#[test]
fn one_line_at_once_then_one_per_interval_then_the_end() {
    let fixture = fixture(steady());
    fixture.at(100.0).record(1000);
    assert_eq!(fixture.pages.lines(), (1, 0, 0));
    fixture.tick(104.9);
    assert_eq!(fixture.pages.lines(), (1, 0, 0), "the interval begins with the first event");
    fixture.tick(105.0);
    fixture.tick(105.0);
    assert_eq!(fixture.pages.lines(), (1, 1, 0));
    for second in 105..130 {
        fixture.at(f64::from(second)).record(1000).tick(f64::from(second));
    }
    fixture.tick(130.0);
    assert_eq!(fixture.pages.lines(), (1, 6, 0));
    assert_eq!(fixture.pages.events(), 26_000);
    for summary in fixture.pages.summaries.lock().iter() {
        assert_eq!(summary.reasons, named(&[("client_limit", summary.count)]));
        assert_eq!(summary.routes, named(&[("route1", summary.count)]));
    }
    fixture.tick(135.0);
    fixture.tick(140.0);
    assert_eq!(fixture.pages.lines(), (1, 6, 1));
    let closing = fixture.pages.closings.lock()[0].clone();
    assert_eq!((closing.lasted, closing.total), (Duration::from_secs(29), 26_000));
    fixture.record(1);
    assert_eq!(fixture.pages.lines(), (2, 6, 1), "then it begins anew");
}

#[test]
fn an_event_now_and_then_is_always_written() {
    let fixture = fixture(Settings::default());
    for step in 0..10 {
        fixture.at(f64::from(step * 6)).record(1).tick(f64::from(step * 6 + 5));
    }
    assert_eq!(fixture.pages.lines(), (10, 0, 0));
}

#[test]
fn an_attack_is_told_of_at_the_next_tick() {
    let fixture = fixture(Settings::default());
    fixture.at(1.0).record(500).tick(1.25);
    assert_eq!(fixture.pages.lines(), (1, 1, 0));
    assert_eq!(fixture.pages.last().count, 499);
    fixture.at(2.0).record(10_000).tick(6.0);
    assert_eq!(fixture.pages.lines(), (1, 1, 0), "of one interval there is one line");
    fixture.tick(6.25);
    assert_eq!(fixture.pages.lines(), (1, 2, 0));
}

#[test]
fn kinds_do_not_fold_into_each_other_and_each_has_its_own_settings() {
    let fixture = fixture(folding(Folding { burst: 2, ..Folding::default() }));
    let record = |kind| fixture.dedup.record(kind, "x", None, None);
    assert_eq!([record(REFUSED), record(REFUSED), record(REFUSED)], [true, true, false]);
    assert_eq!([record(BLOCKED), record(BLOCKED), record(BLOCKED)], [true, true, false]);
    fixture.tick(5.0);
    assert_eq!(fixture.pages.lines(), (4, 2, 0));
    assert_eq!(fixture.dedup.totals(BLOCKED), Totals { written: 2, folded: 1 });
    assert_eq!(fixture.dedup.folded(), 2);
    let names: Vec<_> =
        fixture.dedup.kinds().iter().map(|(kind, totals)| (kind.name().to_owned(), totals.folded)).collect();
    assert_eq!(names, named(&[("refused", 1), ("blocked", 1)]));
}

#[test]
fn settings_change_while_it_runs() {
    let fixture = fixture(steady());
    fixture.record(10);
    let quick = Folding { interval: Duration::from_secs(1), top_sources: 2, ..Folding::default() };
    fixture.dedup.configure(Settings { max_keys: 7, ..steady() }, &[Kind::new("refused").folded(quick)]);
    assert_eq!(fixture.dedup.settings().max_keys, 7);
    fixture.record(10).tick(1.0);
    assert_eq!(fixture.pages.lines(), (1, 1, 0));
    let summary = fixture.pages.last();
    assert_eq!((summary.count, summary.top.len()), (19, 2), "what was counted before is not lost");
    fixture.at(1.5);
    assert!(fixture.dedup.record(BLOCKED, "x", None, None));
    assert!(!fixture.dedup.record(BLOCKED, "x", None, None));
    fixture.tick(6.0);
    assert_eq!(fixture.pages.lines(), (2, 1, 1), "the other kind goes by the general ones: {:?}", fixture.pages);
    fixture.tick(6.5);
    assert_eq!(fixture.pages.lines(), (2, 2, 1));
    fixture.dedup.configure(folding(quick), &[Kind::new("refused")]);
    fixture.at(7.0).record(2).tick(8.0);
    assert_eq!(fixture.pages.lines(), (3, 3, 2), "{:?}", fixture.pages);
    assert_eq!(fixture.dedup.totals(REFUSED), Totals { written: 2, folded: 20 });
}

#[test]
fn zeros_are_taken_as_the_least() {
    let zero = Folding { interval: Duration::ZERO, top_sources: 0, burst: 0, rise: 0 };
    let fixture = fixture(Settings { folding: zero, max_keys: 0 });
    fixture.record(3).tick(1.0);
    assert_eq!(fixture.pages.lines(), (1, 1, 0));
    let summary = fixture.pages.last();
    assert_eq!((summary.reasons, summary.routes), (named(&[("other", 2)]), named(&[("other", 2)])));
    assert!(summary.top.is_empty());
}

#[test]
fn more_than_max_keys_are_other_until_the_next_interval() {
    let fixture = fixture(Settings { max_keys: 6, folding: Folding { top_sources: 3, ..Folding::default() } });
    let record = |route| fixture.dedup.record(REFUSED, "route_limit", Some(route), None);
    for route in [5, 5, 5, 5, 4, 4, 4, 200, 200, 3, 2, 1, 10, 11, 11] {
        record(route);
    }
    fixture.tick(5.0);
    let summary = fixture.pages.last();
    assert_eq!(summary.routes, named(&[("route4", 3), ("route5", 3), ("#200", 2), ("other", 6)]));
    assert_eq!(summary.reasons, named(&[("route_limit", 11), ("other", 3)]));
    assert_eq!((summary.count, summary.sources), (14, 0));
    for route in [10, 11, 11, 12] {
        record(route);
    }
    fixture.tick(10.0);
    assert_eq!(fixture.pages.last().routes, named(&[("route11", 2), ("route10", 1), ("route12", 1)]));
    assert_eq!(
        fixture.dedup.totals(REFUSED),
        Totals { written: 1, folded: 18 },
        "the first cell's counts are not lost"
    );
    fixture.dedup.tick();
    assert_eq!(fixture.dedup.totals(REFUSED), Totals { written: 1, folded: 18 });
}

#[test]
fn counts_since_the_start_outlive_lines_keys_and_threads() {
    let fixture = fixture(steady());
    let counts = || {
        let of = |count: Count| (count.kind, count.reason.into_owned(), count.route, count.count);
        fixture.dedup.counts().into_iter().map(of).collect::<Vec<_>>()
    };
    let record =
        |times: u32, reason, route| (0..times).for_each(|_| _ = fixture.dedup.record(REFUSED, reason, route, None));
    record(3, "full", Some(1));
    thread::scope(|scope| _ = scope.spawn(|| record(2, "full", None)));
    let count = |reason: &str, route, count| (REFUSED, reason.to_owned(), route, count);
    let full = |on_one| [count("full", Route::Unknown, 2), count("full", Route::Number(1), on_one)];
    assert_eq!(counts(), full(3), "the one that was written is among them");
    fixture.tick(5.0);
    assert_eq!(counts(), full(3));
    // Other keys from now on, and too few.
    fixture.dedup.configure(Settings { max_keys: 1, ..steady() }, &[]);
    record(4, "full", Some(1));
    record(5, "blocked", None);
    fixture.dedup.flush();
    fixture.tick(10.0);
    let [unknown, one] = full(7);
    assert_eq!(counts(), [unknown, one, count("other", Route::Other, 5)]);
    assert_eq!(fixture.dedup.totals(REFUSED).recorded(), 14);
}

#[test]
fn more_reasons_than_a_line_names_are_other() {
    let fixture = fixture(steady());
    let names: Vec<&'static str> = (10..40).map(|index| &*format!("reason{index}").leak()).collect();
    fixture.record(1);
    for name in names {
        fixture.dedup.record(REFUSED, name, None, None);
    }
    fixture.tick(5.0);
    let reasons = fixture.pages.last().reasons;
    assert_eq!((reasons.len(), reasons[16].clone()), (17, ("other".to_owned(), 14)));
}

#[test]
fn the_foremost_sources_are_named_and_the_times_are_those_of_the_events() {
    let fixture = fixture(folding(Folding { top_sources: 2, rise: 0, ..Folding::default() }));
    fixture.at(1.0).record(4000);
    let heavy: IpAddr = "203.0.113.7".parse().unwrap();
    fixture.at(3.5);
    for _ in 0..5000 {
        fixture.dedup.record(REFUSED, "client_rate", Some(2), Some(heavy));
    }
    fixture.tick(6.0);
    let summary = fixture.pages.last();
    let TopSource { source, at_least, at_most } = summary.top[0];
    assert_eq!((source, summary.top.len() <= 2), (heavy, true));
    assert!(at_least <= 5000 && 5000 <= at_most && at_most - at_least < 50, "{at_least} {at_most}");
    assert!(summary.sources.abs_diff(4000) < 200, "{}", summary.sources);
    assert_eq!(summary.per_second(), 8999.0 / 5.0);
    let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    assert_eq!(summary.span, Some((at(1000), at(3500))));
    fixture.record(2).tick(11.0);
    assert_eq!(fixture.pages.last().sources, 2, "an interval begins with nothing");
}

#[test]
fn a_gauge_is_asked_when_a_line_is_written() {
    let pages = Pages::default();
    let kind = Kind::new("terminated").gauge("active", || 4211);
    let dedup = Dedup::builder().kind(kind).sink(pages.clone()).build();
    dedup.record(0, "idle", None, None);
    dedup.record(0, "idle", None, None);
    dedup.flush();
    assert_eq!(pages.last().gauge, Some(("active", 4211)));
}

#[test]
fn pitfall_44_a_flood_from_a_million_addresses_is_one_line() {
    let fixture = fixture(steady());
    fixture.record(1_000_000).tick(5.0);
    assert_eq!(fixture.pages.lines(), (1, 1, 0));
    let summary = fixture.pages.last();
    assert_eq!(summary.count, 999_999);
    assert!(summary.sources.abs_diff(1_000_000) < 51_000, "{}", summary.sources);
}

#[test]
fn without_anybody_who_ticks_lines_come_with_the_events() {
    let fixture = fixture(steady());
    fixture.record(10).at(6.9).record(1);
    assert_eq!(fixture.pages.lines(), (1, 0, 0));
    fixture.at(7.0).record(1);
    assert_eq!((fixture.pages.lines(), fixture.pages.events()), ((1, 1, 0), 12));
}

/// Threads record while another one ends intervals; kinds turn quiet, keys overflow and settings change in between.
#[test]
fn nothing_is_lost_or_doubled_under_eight_threads() {
    const THREADS: u64 = 8;
    const EACH: u64 = 20_000;
    let quick =
        Settings { folding: Folding { interval: Duration::from_millis(1), ..Folding::default() }, max_keys: 20 };
    let Fixture { dedup, pages, hand } = fixture(quick);
    let (running, barrier) = (AtomicU64::new(THREADS), Barrier::new(THREADS as usize + 1));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (dedup, running, barrier) = (dedup.clone(), &running, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for step in 0..EACH {
                    let reason = if step % 3 == 0 { "client_limit" } else { "route_limit" };
                    let source = Some(IpAddr::from(((thread << 24 | step) as u32).to_be_bytes()));
                    dedup.record((step % 2) as usize, reason, Some(step as u32 % 7), source);
                    if step % 500 == 0 {
                        thread::yield_now();
                    }
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        barrier.wait();
        let mut turns = 0;
        while running.load(Ordering::Acquire) > 0 {
            hand.0.fetch_add(1, Ordering::SeqCst);
            dedup.tick();
            dedup.flush();
            turns += 1;
            if turns % 16 == 0 {
                dedup.configure(Settings { max_keys: 8 + turns % 32, ..quick }, &[]);
            }
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
        assert!(summary.top.iter().all(|top| top.at_least <= top.at_most && top.at_most <= summary.count));
    }
    assert_eq!(by_reason.values().sum::<u64>(), THREADS * EACH);
    assert!(by_reason["client_limit"] <= THREADS * EACH.div_ceil(3));
}
