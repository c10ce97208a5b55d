//! Ticks from a task.
#![cfg(feature = "tokio")]

use log_dedup::{Closing, Dedup, Folding, Guard, Kind, Occurrence, Settings, Sink, Summary};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Sends on the counts of summaries.
#[derive(Debug)]
struct Counts(UnboundedSender<u64>);

impl Sink for Counts {
    fn occurrence(&self, _: &Occurrence) {}

    fn summary(&self, summary: &Summary) {
        self.0.send(summary.count).expect("the test listens");
    }

    fn closing(&self, _: &Closing) {}
}

#[tokio::test]
async fn a_task_ends_the_intervals_and_the_guard_everything() {
    let (sender, mut counts) = unbounded_channel();
    let folding = Folding { interval: Duration::from_millis(1), ..Folding::default() };
    let settings = Settings { folding, ..Settings::default() };
    let dedup = Dedup::builder().settings(settings).kind(Kind::new("refused")).sink(Counts(sender)).build();
    let guard = Guard::new(&dedup);
    let ticking = tokio::spawn(dedup.clone().ticking());
    for _ in 0..11 {
        dedup.record(0, "full", None, None);
    }
    let counted = tokio::time::timeout(Duration::from_secs(30), counts.recv()).await.expect("a summary in time");
    assert_eq!(counted, Some(10));
    ticking.abort();
    assert!(ticking.await.is_err_and(|error| error.is_cancelled()));
    dedup.record(0, "full", None, None);
    dedup.record(0, "full", None, None);
    drop(guard);
    assert!(dedup.totals(0).recorded() == 13 && counts.try_recv().is_ok());
}
