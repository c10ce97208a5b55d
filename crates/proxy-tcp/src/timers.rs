//! The time-outs of one worker: one coarse clock and one wheel for all its connections.

mod hand;
mod timer;
mod wheel;
mod within;

pub use timer::Timer;
pub use within::Within;

use conn_tracker::SweepQueue;
use hand::{Stop, turn};
use parking_lot::Mutex;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;
use std::time::Duration;
use tokio::time::Instant;
use wheel::Wheel;

/// The time-outs of one worker.
///
/// A [`Timer`] is 16 bytes where it is and 32 in the wheel, and costs a few stores to set or to drop. It goes off on the
/// worker's next [`TICK`] after its time: never early, and late by a tick or two. While there is any, a task of the
/// worker's runtime turns the wheel ten times a second; where many go off at once, it lets others have their turn in
/// between.
///
/// A time-out that a byte puts off is not set with each byte: [`Timers::tick`] is one load, and whoever keeps the tick of
/// the last byte sets the timer anew when it goes off.
///
/// Clones are the same wheel.
#[derive(Clone)]
pub struct Timers(Arc<Shared>);

/// How coarse time-outs are.
pub const TICK: Duration = Duration::from_millis(100);

/// How many of them are in a second.
const PER_SECOND: u64 = 1_000_000_000 / TICK.subsec_nanos() as u64;
const _: () = assert!(TICK.as_secs() == 0 && 1_000_000_000 % TICK.subsec_nanos() == 0);

/// A moment of the coarse clock, in ticks since the worker began. The clock stands still while no timer is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u32);

/// It took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut;

struct Shared {
    started: Instant,
    /// The time of the wheel, to be read without a lock.
    tick: AtomicU32,
    wheel: Mutex<Turning>,
    /// Deadlines whose slot has come up.
    due: SweepQueue<u32>,
}

struct Turning {
    wheel: Wheel<Waker>,
    /// Whether a task turns it.
    turning: bool,
}

impl Default for Timers {
    fn default() -> Self {
        Self::new()
    }
}

impl Timers {
    /// Time-outs of a worker that begins now.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            started: Instant::now(),
            tick: AtomicU32::new(0),
            wheel: Mutex::new(Turning { wheel: Wheel::new(0), turning: false }),
            due: SweepQueue::default(),
        }))
    }

    /// A timer that goes off when this time has passed; `None` is never.
    ///
    /// # Panics
    /// Outside of a tokio runtime, unless it is never.
    #[must_use]
    pub fn after(&self, time: Option<Duration>) -> Timer {
        let mut timer = Timer::new(self.clone());
        timer.set(time);
        timer
    }

    /// A timer that goes off at this time; `None` is never.
    ///
    /// # Panics
    /// As [`Timers::after`].
    #[must_use]
    pub fn at(&self, time: Option<Instant>) -> Timer {
        let mut timer = Timer::new(self.clone());
        timer.set_at(time);
        timer
    }

    /// A timer that goes off with the next tick. The coarse clock goes from here on.
    pub(crate) fn soon(&self) -> Timer {
        let mut timer = Timer::new(self.clone());
        timer.set_tick(Some(Tick(self.0.now() + 1)));
        timer
    }

    /// The time on the coarse clock, for what happens often: one load. Behind by less than a tick, or by however long the
    /// worker was held up.
    #[must_use]
    pub fn tick(&self) -> Tick {
        Tick(self.0.now())
    }

    /// The first tick that is not before this time.
    #[must_use]
    pub fn tick_at(&self, time: impl Into<Instant>) -> Tick {
        Tick(self.0.tick_at(time.into()))
    }

    /// What `future` gives, unless it takes longer than `time`; `None` is as long as it likes.
    ///
    /// # Errors
    /// If it took longer. The future is dropped with this one.
    pub fn within<F: Future>(&self, time: Option<Duration>, future: F) -> Within<'_, F> {
        self.until(time.and_then(|time| Instant::now().checked_add(time)), future)
    }

    /// What `future` gives, unless that is later than `end`; `None` is as late as it likes.
    ///
    /// # Errors
    /// If it is later. The future is dropped with this one.
    pub fn until<F: Future>(&self, end: Option<Instant>, future: F) -> Within<'_, F> {
        Within { future, timers: self, end, timer: None }
    }
}

impl Tick {
    /// The first tick that is at least `time` after this one for sure; `None` if there is none.
    #[must_use]
    pub fn after(self, time: Duration) -> Option<Self> {
        // This one may be over any moment.
        let whole = u32::try_from(ticks(time)).ok()?.checked_add(1)?;
        self.0.checked_add(whole).filter(|tick| *tick < NEVER).map(Self)
    }
}

/// A tick that one task writes and reads, which may move between threads: nothing is ordered by it.
#[derive(Debug, Default)]
pub(crate) struct AtomicTick(AtomicU32);

impl AtomicTick {
    pub(crate) const fn new(tick: Tick) -> Self {
        Self(AtomicU32::new(tick.0))
    }

    pub(crate) fn get(&self) -> Tick {
        // Ordering: see the type.
        Tick(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, tick: Tick) {
        // Ordering: see the type.
        self.0.store(tick.0, Ordering::Relaxed);
    }
}

/// The ticks that `time` takes, the last one not whole. Without a division of 128 bits: this is done for every request.
const fn ticks(time: Duration) -> u64 {
    time.as_secs().saturating_mul(PER_SECOND).saturating_add(time.subsec_nanos().div_ceil(TICK.subsec_nanos()) as u64)
}

/// The tick of timers that are not set.
const NEVER: u32 = u32::MAX;

impl Shared {
    fn now(&self) -> u32 {
        // Ordering: the number stands for itself, nothing else is read because of it.
        self.tick.load(Ordering::Relaxed)
    }

    /// The first tick that is not before `time`.
    fn tick_at(&self, time: Instant) -> u32 {
        u32::try_from(ticks(time.saturating_duration_since(self.started))).unwrap_or(NEVER)
    }

    /// Puts the coarse clock right, and has whatever has come up since be swept.
    fn advance(&self, wheel: &mut Wheel<Waker>) {
        let ticks = self.started.elapsed().as_nanos() / TICK.as_nanos();
        wheel.advance(u32::try_from(ticks).unwrap_or(NEVER - 1).min(NEVER - 1), &self.due);
        // Ordering: see `now`.
        self.tick.store(wheel.now(), Ordering::Relaxed);
    }

    /// Files a deadline, anew if it has a key, and has a task turn the wheel; its key.
    fn set(self: &Arc<Self>, key: u32, due: u32) -> u32 {
        let mut turning = self.wheel.lock();
        let start = !std::mem::replace(&mut turning.turning, true);
        if start {
            // Nobody has looked at the clock for a while.
            self.advance(&mut turning.wheel);
        }
        let key = if key == NEVER {
            turning.wheel.insert(due)
        } else {
            turning.wheel.set(key, due);
            key
        };
        drop(turning);
        if start {
            // Not under the lock: at the end of the runtime the task is dropped on the spot.
            tokio::spawn(turn(Arc::clone(self), Stop(Some(Arc::clone(self)))));
        }
        key
    }
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").field("tick", &self.0.now()).finish_non_exhaustive()
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it took too long")
    }
}

impl std::error::Error for TimedOut {}

#[cfg(test)]
mod tests;
