//! The task that turns the wheel.

use super::{Shared, TICK};
use conn_tracker::Verdict;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::time::MissedTickBehavior;

/// How many deadlines are looked at before other tasks have their turn.
const BATCH: usize = 100;

/// Turns the wheel for as long as there is a deadline in it.
pub(super) async fn turn(shared: Arc<Shared>, mut stop: Stop) {
    let mut tick = tokio::time::interval_at(shared.started + TICK * (shared.now() + 1), TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        {
            let mut turning = shared.wheel.lock();
            if turning.wheel.is_empty() {
                turning.turning = false;
                stop.0 = None;
                return;
            }
            shared.advance(&mut turning.wheel);
        }
        while shared.sweep(BATCH) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

impl Shared {
    /// Looks at some of the deadlines whose slot has come up; how many are left.
    fn sweep(&self, batch: usize) -> usize {
        let visit = |key: &mut u32| {
            let waiting = self.wheel.lock().wheel.visit(*key);
            // Not under the lock: who is woken may set or drop a timer at once. Nobody else is to wait for ever because
            // somebody's waker fails.
            if let Some(waiting) = waiting
                && catch_unwind(AssertUnwindSafe(|| waiting.wake())).is_err()
            {
                tracing::error!("a waker panicked");
            }
            Verdict::Done
        };
        self.due.sweep(batch, visit).left
    }
}

/// Lets another task turn the wheel when this one ends before it is done, even before it has begun.
pub(super) struct Stop(pub(super) Option<Arc<Shared>>);

impl Drop for Stop {
    fn drop(&mut self) {
        if let Some(shared) = self.0.take() {
            shared.wheel.lock().turning = false;
        }
    }
}
