//! The thread that ends the intervals.

use crate::Dedup;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Ticks a [`Dedup`] on a thread of its own. Dropping it flushes: keep it until everything that records has ended.
#[derive(Debug)]
#[must_use = "dropping it ends the summaries"]
pub struct Ticker {
    dedup: Dedup,
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system refuses another thread.
    pub fn start(dedup: &Dedup) -> io::Result<Self> {
        let period = (dedup.settings().interval / 20).clamp(Duration::from_millis(1), Duration::from_millis(250));
        let (stop, stopped) = channel();
        let ticked = dedup.clone();
        let tick = move || {
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                ticked.tick(Instant::now());
            }
        };
        let thread = Builder::new().name("log-dedup".to_owned()).spawn(tick)?;
        Ok(Self { dedup: dedup.clone(), stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(target: "log_dedup", "the thread that writes log summaries panicked");
        }
        self.dedup.flush(Instant::now());
    }
}
