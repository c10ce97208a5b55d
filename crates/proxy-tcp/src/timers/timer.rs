//! One time-out.

use super::{NEVER, Shared, Tick, Timers};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Instant;

/// One time-out: a future that is ready once its time has come, and stays so until it is set anew.
pub struct Timer {
    timers: Timers,
    due: u32,
    /// Its place in the wheel; [`NEVER`] if it has none.
    key: u32,
}

impl Timer {
    pub(super) const fn new(timers: Timers) -> Self {
        Self { timers, due: NEVER, key: NEVER }
    }

    /// Lets it go off when this time has passed from now; `None` is never.
    ///
    /// # Panics
    /// Outside of a tokio runtime, unless it is never.
    pub fn set(&mut self, time: Option<Duration>) {
        self.set_at(time.and_then(|time| Instant::now().checked_add(time)));
    }

    /// Lets it go off at this time; `None` is never.
    ///
    /// # Panics
    /// As [`Timer::set`].
    pub fn set_at(&mut self, time: Option<Instant>) {
        self.set_due(time.map_or(NEVER, |time| self.shared().tick_at(time)));
    }

    /// Lets it go off at this moment of the coarse clock; `None` is never.
    ///
    /// # Panics
    /// As [`Timer::set`].
    pub fn set_tick(&mut self, tick: Option<Tick>) {
        self.set_due(tick.map_or(NEVER, |Tick(tick)| tick));
    }

    /// Whether its time has come, for whoever was polled with it before, and so is woken then: one load.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.due <= self.shared().now()
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.timers.0
    }

    fn set_due(&mut self, due: u32) {
        self.due = due;
        if due == NEVER {
            return self.remove();
        }
        self.key = self.shared().set(self.key, due);
    }

    fn remove(&mut self) {
        if self.key != NEVER {
            let waiting = self.shared().wheel.lock().wheel.remove(self.key);
            self.key = NEVER;
            // Not under the lock: it may be the last of its task.
            drop(waiting);
        }
    }

    pub(super) fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        if self.key == NEVER {
            return Poll::Pending;
        }
        let wake = |waiting: Option<&Waker>| {
            let known = waiting.is_some_and(|waiting| waiting.will_wake(context.waker()));
            (!known).then(|| context.waker().clone())
        };
        let mut turning = self.shared().wheel.lock();
        // Another thread may have swept it since.
        if self.due <= turning.wheel.now() {
            return Poll::Ready(());
        }
        let replaced = turning.wheel.wait(self.key, wake);
        drop(turning);
        drop(replaced);
        Poll::Pending
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Self::poll(self.get_mut(), context)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.remove();
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("due", &self.due).finish_non_exhaustive()
    }
}
