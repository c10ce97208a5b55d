//! How long a backend may keep us waiting for the head of its response.

use super::Exchange;
use super::outgoing::Progress;
use proxy_tcp::{Tick, Timer, Timers};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// How long a backend may keep us waiting for the head of its response.
#[derive(Debug)]
pub(super) struct Patience {
    /// `None` is for ever.
    timeout: Option<Duration>,
    /// Whether whoever waits looks a few times a second, so that no timer is needed.
    looks: bool,
    end: Instant,
    /// The moment of the coarse clock that is known to be before the end.
    before: Tick,
    /// Set only where nobody looks.
    timer: Option<Timer>,
}

impl Patience {
    /// From now on; `at_once`: the request has been under way for no time worth mentioning.
    pub(super) fn new(exchange: &Exchange<'_>, at_once: bool) -> Self {
        let timeout = exchange.generation.settings.timeouts.response;
        let began = if at_once { exchange.began.into() } else { Instant::now() };
        let (end, before) = (began + timeout.unwrap_or_default(), exchange.timers.tick());
        Self { timeout, looks: exchange.looks, end, before, timer: None }
    }

    /// Waits until the backend has taken too long. What it has taken of the body, by `progress`, makes it last anew.
    pub(super) fn poll(&mut self, timers: &Timers, progress: Option<&Progress>, context: &mut Context<'_>) -> Poll<()> {
        let Some(timeout) = self.timeout else { return Poll::Pending };
        while self.poll_end(timers, context).is_ready() {
            let since = progress.map(|progress| progress.waiting_since().unwrap_or_else(Instant::now));
            match since.map(|since| since + timeout) {
                Some(later) if later > self.end => {
                    (self.end, self.before, self.timer) = (later, timers.tick(), None);
                }
                _ => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    fn poll_end(&mut self, timers: &Timers, context: &mut Context<'_>) -> Poll<()> {
        if !self.looks {
            return Pin::new(self.timer.get_or_insert_with(|| timers.at(Some(self.end)))).poll(context);
        }
        let now = timers.tick();
        if now == self.before {
            return Poll::Pending;
        }
        self.before = now;
        if now < timers.tick_at(self.end) { Poll::Pending } else { Poll::Ready(()) }
    }

    /// The answer, or `None` if the backend keeps us waiting for too long.
    pub(super) async fn with<T>(
        mut self,
        timers: &Timers,
        answer: impl Future<Output = T>,
        progress: Option<&Progress>,
    ) -> Option<T> {
        let mut answer = pin!(answer);
        poll_fn(|context| match answer.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => self.poll(timers, progress, context).map(|()| None),
        })
        .await
    }
}
