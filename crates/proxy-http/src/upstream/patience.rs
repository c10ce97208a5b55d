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
pub(super) struct Patience<'a> {
    timers: &'a Timers,
    /// `None` is for ever.
    timeout: Option<Duration>,
    began: Instant,
    looks: bool,
}

impl<'a> Patience<'a> {
    /// From now on; `at_once`: the request has been under way for no time worth mentioning.
    pub(super) fn new(exchange: &Exchange<'a>, timeout: Option<Duration>, at_once: bool) -> Self {
        let began = if at_once { exchange.began.into() } else { Instant::now() };
        Self { timers: exchange.timers, timeout, began, looks: exchange.looks }
    }

    /// The answer, or `None` if the backend keeps us waiting for too long.
    pub(super) async fn with<T>(self, answer: impl Future<Output = T>, progress: Option<&Progress>) -> Option<T> {
        let Some(timeout) = self.timeout else { return Some(answer.await) };
        let mut answer = pin!(answer);
        let mut end = End::new(self.began + timeout, &self);
        poll_fn(|context| {
            if let Poll::Ready(answer) = answer.as_mut().poll(context) {
                return Poll::Ready(Some(answer));
            }
            while end.poll(&self, context).is_ready() {
                let since = progress.map(|progress| progress.waiting_since().unwrap_or_else(Instant::now));
                match since.map(|since| since + timeout) {
                    Some(later) if later > end.at => end = End::new(later, &self),
                    _ => return Poll::Ready(None),
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// The end of patience.
struct End {
    at: Instant,
    /// The moment of the coarse clock that is known to be before it.
    before: Tick,
    /// Set only where nobody looks.
    timer: Option<Timer>,
}

impl End {
    fn new(at: Instant, patience: &Patience<'_>) -> Self {
        Self { at, before: patience.timers.tick(), timer: None }
    }

    fn poll(&mut self, patience: &Patience<'_>, context: &mut Context<'_>) -> Poll<()> {
        let timers = patience.timers;
        if !patience.looks {
            return Pin::new(self.timer.get_or_insert_with(|| timers.at(Some(self.at)))).poll(context);
        }
        let now = timers.tick();
        if now == self.before {
            return Poll::Pending;
        }
        self.before = now;
        if now < timers.tick_at(self.at) { Poll::Pending } else { Poll::Ready(()) }
    }
}
