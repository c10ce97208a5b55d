//! What time it is.

use std::fmt::Debug;
use std::time::{Duration, SystemTime};

/// Tells the time.
///
/// **Contract.** `now` never goes back. **Cost.** `now` is asked for each event: it decides what a folded event costs.
/// **Called.** From every thread that records.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Time since a moment of the clock's choice.
    fn now(&self) -> Duration;

    /// The time of day, for lines that say when something began.
    fn wall(&self) -> SystemTime;
}

/// The system's clocks. On Linux `now` is the coarse monotonic one, which is some milliseconds late and costs a quarter of
/// the exact one.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[cfg(target_os = "linux")]
    fn now(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    }

    #[cfg(not(target_os = "linux"))]
    fn now(&self) -> Duration {
        static START: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
        START.elapsed()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}
