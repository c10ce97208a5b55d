//! Who ends the intervals, and the end of everything.

use crate::Dedup;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Filter, Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Sees to it that nothing is lost at the end. Keep it until everything that records has ended.
///
/// When it drops, what was counted is written, and from then on every event is written as it is: whatever other threads
/// still record is lost at no moment. A process that ends without dropping it (`exit`, a signal, an abort)
/// loses what was counted since the last line of each kind, which is one interval at most.
#[derive(Debug)]
#[must_use = "dropping it ends the folding"]
pub struct Guard {
    dedup: Dedup,
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    /// A guard without a thread: somebody else [ticks](Dedup::tick).
    pub fn new(dedup: &Dedup) -> Self {
        dedup.core.open();
        Self { dedup: dedup.clone(), stop: None, thread: None }
    }

    /// A guard with a thread that ticks four times a second.
    ///
    /// # Errors
    /// If the system refuses another thread.
    pub fn ticking(dedup: &Dedup) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let ticked = dedup.clone();
        let tick = move || {
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                // A sink or a gauge that panics is not to end all lines: what it was to write is still counted.
                drop(catch_unwind(AssertUnwindSafe(|| ticked.tick())));
            }
        };
        let thread = Builder::new().name("log-dedup".to_owned()).spawn(tick)?;
        let mut guard = Self::new(dedup);
        (guard.stop, guard.thread) = (Some(stop), Some(thread));
        Ok(guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It catches what it calls; even if it has ended otherwise, closing is what matters.
            drop(thread.join());
        }
        self.dedup.core.close();
    }
}

/// Makes the lines of `layer` the log of this process: what `filter` lets pass, folded. For programs that need nothing else
/// of a subscriber; others put [`Dedup::filter`] where they want it.
///
/// ```
/// use log_dedup::{Dedup, Kind};
/// use tracing_subscriber::filter::LevelFilter;
///
/// let dedup = Dedup::builder().kind(Kind::new("login_failed").reads("failed", "login", "logins")).build();
/// let guard = log_dedup::install(&dedup, tracing_subscriber::fmt::layer(), LevelFilter::INFO)?;
/// tracing::warn!(fold = "login_failed", reason = "password", source = "203.0.113.7", "no login for {:?}", "eve");
/// drop(guard); // At the end of `main`.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If there is a global subscriber already, or the system refuses a thread.
pub fn install<L, F>(dedup: &Dedup, layer: L, filter: F) -> Result<Guard, InstallError>
where
    L: Layer<Registry> + Send + Sync + 'static,
    F: Filter<Registry> + Send + Sync + 'static,
{
    let filter = tracing_subscriber::filter::FilterExt::and(filter, dedup.filter());
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().map_err(InstallError::Subscriber)?;
    Guard::ticking(dedup).map_err(InstallError::Thread)
}

/// Why [`install`] did not.
#[derive(Debug)]
#[non_exhaustive]
pub enum InstallError {
    /// There is a global subscriber already.
    Subscriber(TryInitError),
    /// The system refuses another thread.
    Thread(io::Error),
}

impl std::fmt::Display for InstallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Subscriber(error) => write!(f, "the log is set up already: {error}"),
            Self::Thread(error) => write!(f, "the thread that writes log summaries cannot be started: {error}"),
        }
    }
}

impl std::error::Error for InstallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Subscriber(error) => Some(error),
            Self::Thread(error) => Some(error),
        }
    }
}

#[cfg(feature = "tokio")]
impl Dedup {
    /// Ticks four times a second, for as long as it is polled: to be spawned on a runtime with timers instead of the thread
    /// of [`Guard::ticking`], with a [`Guard::new`] beside it.
    pub async fn ticking(self) {
        let mut times = tokio::time::interval(PERIOD);
        times.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            times.tick().await;
            self.tick();
        }
    }
}

/// Short enough for the shortest interval that makes sense, and for an early line to be early.
const PERIOD: Duration = Duration::from_millis(250);
