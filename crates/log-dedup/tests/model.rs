//! Whatever is recorded, told of and changed in between: the lines add up to what a plain list of the events says.

use log_dedup::{Clock, Closing, Dedup, Folding, Kind, Occurrence, Settings, Sink, Summary};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

#[derive(Clone, Debug)]
enum Step {
    Record { kind: usize, reason: usize, route: Option<u32>, source: u8 },
    Wait(u64),
    Tick,
    Flush,
    Configure { max_keys: usize, interval: u64, burst: u32 },
    OtherThread(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..2_usize, 0..4_usize, prop::option::of(0..5_u32), any::<u8>())
            .prop_map(|(kind, reason, route, source)| Step::Record { kind, reason, route, source }),
        3 => (1..3000_u64).prop_map(Step::Wait),
        3 => Just(Step::Tick),
        1 => Just(Step::Flush),
        1 => (0..8_usize, 1..2000_u64, 0..3_u32)
            .prop_map(|(max_keys, interval, burst)| Step::Configure { max_keys, interval, burst }),
        1 => any::<u8>().prop_map(Step::OtherThread),
    ]
}

const REASONS: [&str; 4] = ["full", "fast", "barred", "other"];

/// What lines said of one kind.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    events: u64,
    reasons: BTreeMap<String, u64>,
    routes: BTreeMap<String, u64>,
    /// Since the last summary: the sources of events that were not written.
    sources: BTreeSet<IpAddr>,
}

#[derive(Clone, Debug, Default)]
struct Book(Arc<Mutex<BTreeMap<String, Told>>>);

impl Book {
    fn told(&self, kind: &str, change: impl FnOnce(&mut Told)) {
        change(self.0.lock().expect("nobody panics").entry(kind.to_owned()).or_default());
    }
}

impl Sink for Book {
    fn occurrence(&self, occurrence: &Occurrence) {
        self.told(occurrence.kind.name(), |told| {
            told.events += 1;
            *told.reasons.entry(occurrence.reason.to_owned()).or_default() += 1;
            if let Some(route) = &occurrence.route {
                *told.routes.entry(route.clone()).or_default() += 1;
            }
        });
    }

    fn summary(&self, summary: &Summary) {
        assert_eq!(summary.reasons.iter().map(|(_, count)| count).sum::<u64>(), summary.count);
        assert!(summary.routes.iter().map(|(_, count)| count).sum::<u64>() <= summary.count);
        self.told(summary.kind.name(), |told| {
            told.events += summary.count;
            for (reason, count) in &summary.reasons {
                *told.reasons.entry(reason.clone()).or_default() += count;
            }
            for (route, count) in &summary.routes {
                *told.routes.entry(route.clone()).or_default() += count;
            }
            // So few sources are counted exactly but for collisions, and each is one of the interval's.
            let sources = std::mem::take(&mut told.sources);
            assert!(summary.sources.abs_diff(sources.len() as u64) <= 3, "{} of {sources:?}", summary.sources);
            assert!(summary.top.iter().all(|top| sources.contains(&top.source)), "{summary:?}");
        });
    }

    fn closing(&self, closing: &Closing) {
        self.told(closing.kind.name(), |told| assert!(closing.total <= told.events));
    }
}

#[derive(Clone, Debug, Default)]
struct Hand(Arc<Mutex<Duration>>);

impl Clock for Hand {
    fn now(&self) -> Duration {
        *self.0.lock().expect("nobody panics")
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + self.now()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn lines_add_up_to_the_events(steps in prop::collection::vec(step(), 1..300)) {
        let (book, hand) = (Book::default(), Hand::default());
        let dedup = Dedup::builder()
            .settings(Settings { max_keys: 4, ..Settings::default() })
            .kinds([Kind::new("refused"), Kind::new("blocked")])
            .routes(|route| Some(format!("r{route}")))
            .sink(book.clone())
            .clock(hand.clone())
            .build();
        let names = ["refused", "blocked"];
        let mut truth = BTreeMap::<&str, Told>::new();
        let record = |kind: usize, reason: usize, route: Option<u32>, source: u8, truth: &mut BTreeMap<&str, Told>| {
            let address = IpAddr::from([192, 0, 2, source]);
            // Before, because a line may be written in the course of it.
            let mut is_new = false;
            book.told(names[kind], |told| is_new = told.sources.insert(address));
            if dedup.record(kind, REASONS[reason], route, Some(address)) && is_new {
                book.told(names[kind], |told| told.sources.retain(|other| *other != address));
            }
            let told = truth.entry(names[kind]).or_default();
            told.events += 1;
            *told.reasons.entry(REASONS[reason].to_owned()).or_default() += 1;
            if let Some(route) = route {
                *told.routes.entry(format!("r{route}")).or_default() += 1;
            }
        };
        for step in steps {
            match step {
                Step::Record { kind, reason, route, source } => record(kind, reason, route, source, &mut truth),
                Step::Wait(millis) => *hand.0.lock().unwrap() += Duration::from_millis(millis),
                Step::Tick => dedup.tick(),
                Step::Flush => dedup.flush(),
                Step::Configure { max_keys, interval, burst } => {
                    let folding = Folding { interval: Duration::from_millis(interval), burst, ..Folding::default() };
                    dedup.configure(Settings { folding, max_keys }, &[]);
                }
                Step::OtherThread(source) => std::thread::scope(|scope| {
                    let thread = scope.spawn(|| record(0, 0, None, source, &mut truth));
                    thread.join().unwrap();
                }),
            }
        }
        dedup.flush();
        let told = book.0.lock().unwrap().clone();
        for (kind, truth) in &truth {
            let told = &told[*kind];
            prop_assert_eq!(told.events, truth.events);
            // What exceeded a bound is `other`; nothing else is anywhere but where it belongs.
            for (part, of) in [(&told.reasons, &truth.reasons), (&told.routes, &truth.routes)] {
                for (name, count) in part.iter().filter(|(name, _)| *name != "other") {
                    prop_assert!(of.get(name).is_some_and(|truth| count <= truth), "{} of {}: {:?}", count, name, of);
                }
            }
            prop_assert_eq!(told.reasons.values().sum::<u64>(), truth.events);
        }
        for (index, name) in names.iter().enumerate() {
            let events = truth.get(name).map_or(0, |truth| truth.events);
            prop_assert_eq!(dedup.totals(index).recorded(), events);
        }
    }
}
