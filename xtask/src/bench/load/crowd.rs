//! Clients on threads of their own that do the same thing again and again.

use super::Load;
use crate::{Outcome, bench::stats::Quantiles};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Threads that do units of work until they are stopped.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<io::Result<Vec<Duration>>>>,
}

#[derive(Default)]
struct Shared {
    units: AtomicU64,
    stop: AtomicBool,
}

/// What a client sees of its crowd.
pub(crate) struct Member {
    shared: Arc<Shared>,
    latencies: Vec<Duration>,
}

impl Member {
    /// Whether to go on.
    pub(crate) fn goes_on(&self) -> bool {
        // Relaxed: a flag that guards no other data.
        !self.shared.stop.load(Ordering::Relaxed)
    }

    /// Counts work that was done.
    pub(crate) fn did(&self, units: u64) {
        // Relaxed: a count that is only read as a difference.
        self.shared.units.fetch_add(units, Ordering::Relaxed);
    }

    /// Notes how long a unit took.
    pub(crate) fn took(&mut self, latency: Duration) {
        self.latencies.push(latency);
    }
}

impl Crowd {
    /// Starts as many clients; each does `work` once, which goes on while it is told to.
    pub(crate) fn start<F>(clients: usize, work: F) -> Self
    where
        F: Fn(&mut Member) -> io::Result<()> + Clone + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let start = |_| {
            let (work, shared) = (work.clone(), shared.clone());
            thread::spawn(move || {
                let mut member = Member { shared, latencies: Vec::new() };
                let done = work(&mut member);
                done.map(|()| member.latencies)
            })
        };
        let threads = (0..clients).map(start).collect();
        Self { shared, threads }
    }

    fn end(&mut self) -> Outcome<Vec<Duration>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut latencies = Vec::new();
        let mut failure = None;
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(seen)) => latencies.extend(seen),
                Ok(Err(error)) => failure = Some(format!("a client failed: {error}.")),
                Err(_) => failure = Some("a client panicked.".to_owned()),
            }
        }
        failure.map_or(Ok(latencies), Err)
    }
}

impl Load for Crowd {
    fn units(&self) -> u64 {
        self.shared.units.load(Ordering::Relaxed)
    }

    fn finish(mut self: Box<Self>) -> Outcome<Option<Quantiles>> {
        self.end().map(Quantiles::of)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // What they saw was asked for before, or is not wanted any more.
        drop(self.end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_until_the_end_and_failures_are_told() {
        let crowd = Crowd::start(2, |member| {
            while member.goes_on() {
                member.did(3);
                member.took(Duration::from_millis(5));
                thread::yield_now();
            }
            Ok(())
        });
        while crowd.units() < 12 {
            thread::yield_now();
        }
        assert_eq!(Box::new(crowd).finish().unwrap().unwrap().p50, Duration::from_millis(5));

        let crowd = Crowd::start(3, |_| Err(io::Error::other("no luck")));
        assert!(Box::new(crowd).finish().unwrap_err().contains("no luck"));
    }
}
