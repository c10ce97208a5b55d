//! Every interleaving of a few threads, up to some preemptions, over the real cells, books and locks: `cargo xtask loom`.
#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use log_dedup::{Clock, Closing, Dedup, Folding, Guard, Kind, Occurrence, Settings, Sink, Summary};
use loom::thread;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

fn model(preemptions: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(check);
}

/// Adds up what is written. Decides nothing, so it is not part of the model.
#[derive(Clone, Debug, Default)]
struct Sum(Arc<AtomicU64>);

impl Sum {
    fn events(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

impl Sink for Sum {
    fn occurrence(&self, _: &Occurrence) {
        self.0.fetch_add(1, SeqCst);
    }

    fn summary(&self, summary: &Summary) {
        assert_eq!(summary.reasons.iter().map(|(_, count)| count).sum::<u64>(), summary.count);
        for top in &summary.top {
            assert!(sources().contains(&top.source), "{}: no address is made of two", top.source);
            assert!(0 < top.at_least && top.at_least <= top.at_most && top.at_most <= summary.count);
        }
        self.0.fetch_add(summary.count, SeqCst);
    }

    fn closing(&self, _: &Closing) {}
}

/// Stands still, so that nothing but what the model does decides when lines come.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

/// Addresses that differ in both halves.
fn sources() -> [IpAddr; 2] {
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:3:3:4:5:7"].map(|source| source.parse().unwrap())
}

/// A kind that folds already.
fn folding(max_keys: usize) -> (Dedup, Sum) {
    let sum = Sum::default();
    let settings = Settings { folding: Folding { rise: 0, ..Folding::default() }, max_keys };
    let dedup = Dedup::builder().settings(settings).kind(Kind::new("refused")).sink(sum.clone()).clock(Still).build();
    assert!(dedup.record(0, "first", None, None));
    (dedup, sum)
}

/// Records one event on a thread of its own.
fn record(dedup: &Dedup, reason: &'static str) -> thread::JoinHandle<()> {
    let dedup = dedup.clone();
    thread::spawn(move || {
        dedup.record(0, reason, None, Some(sources()[0]));
    })
}

#[test]
fn a_sweep_beside_threads_that_count_loses_and_doubles_nothing() {
    // Two take a hundred times as long.
    model(1, || {
        let (dedup, sum) = folding(10);
        let threads = [record(&dedup, "a"), record(&dedup, "b")];
        dedup.flush();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        dedup.flush();
        assert_eq!(sum.events(), 3);
        assert_eq!(dedup.totals(0).recorded(), 3);
    });
}

#[test]
fn two_sweeps_beside_one_thread_read_each_sample_whole() {
    model(2, || {
        let (dedup, sum) = folding(10);
        let counting = dedup.clone();
        let thread = thread::spawn(move || {
            for source in sources() {
                counting.record(0, "a", None, Some(source));
            }
        });
        dedup.flush();
        dedup.flush();
        thread.join().unwrap();
        dedup.flush();
        assert_eq!(sum.events(), 3);
    });
}

#[test]
fn what_is_recorded_while_the_guard_drops_is_written_without_another_sweep() {
    model(2, || {
        let (dedup, sum) = folding(10);
        let guard = Guard::new(&dedup);
        let thread = record(&dedup, "a");
        drop(guard);
        thread.join().unwrap();
        assert_eq!(sum.events(), 2);
    });
}

#[test]
fn a_new_generation_of_keys_beside_a_thread_that_counts_loses_nothing() {
    model(2, || {
        let (dedup, sum) = folding(1);
        let thread = record(&dedup, "a");
        dedup.configure(Settings { max_keys: 2, ..dedup.settings() }, &[]);
        dedup.flush();
        thread.join().unwrap();
        dedup.flush();
        assert_eq!((sum.events(), dedup.totals(0).recorded()), (2, 2));
    });
}
