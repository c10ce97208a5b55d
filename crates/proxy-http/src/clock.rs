//! Times to come, for durations that a configuration may make as long as it likes, and hyper's timers.

use hyper::rt::{Sleep, Timer};
use proxy_tcp::Timers;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// Longer than a process lives, and within what a clock can tell.
pub(crate) const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The time `by` after `from`, or one that never comes.
pub(crate) fn later(from: Instant, by: Duration) -> Instant {
    from + by.min(NEVER)
}

/// Has hyper set its time-outs on the wheel of the worker.
#[derive(Clone, Debug)]
pub(crate) struct Wheel(pub(crate) Timers);

struct OnWheel(proxy_tcp::Timer);

impl Wheel {
    fn at(&self, time: Option<Instant>) -> Pin<Box<dyn Sleep>> {
        Box::pin(OnWheel(self.0.at(time)))
    }
}

impl Timer for Wheel {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.at(Some(later(Instant::now(), duration)))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        self.at(Some(deadline.into()))
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: std::time::Instant) {
        match sleep.as_mut().downcast_mut_pin::<OnWheel>() {
            Some(sleep) => sleep.get_mut().0.set_at(Some(deadline.into())),
            None => *sleep = self.sleep_until(deadline),
        }
    }
}

impl Future for OnWheel {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.get_mut().0).poll(context)
    }
}

impl Sleep for OnWheel {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_duration_is_too_long() {
        let now = Instant::now();
        assert_eq!(later(now, Duration::from_secs(1)), now + Duration::from_secs(1));
        assert_eq!(later(now, Duration::MAX), now + NEVER);
    }
}
