//! An idle connection.

use super::{Farewell, Next};
use crate::clock::{NEVER, later};
use crate::connection::{Downstream, lifetime_end};
use crate::io::ClientIo;
use pin_project_lite::pin_project;
use proxy_tcp::{Draining, Timer};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::time::Instant;

pin_project! {
    /// An idle connection, until it has something to say or has to end. Most connections are here most of the time, so it
    /// is written out to hold no more than it needs.
    pub(super) struct Parked {
        // Taken when it is over.
        io: Option<ClientIo>,
        client: Arc<Downstream>,
        timer: Timer,
        // What has passed when the timer goes off.
        reason: &'static str,
        #[pin]
        draining: Draining,
    }
}

impl Parked {
    pub(super) fn new(mut io: ClientIo, since: Instant, client: Arc<Downstream>) -> Self {
        #[cfg(test)]
        client.worker.parked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        io.rest();
        let (end, reason) = end_of_idleness(since, &client);
        let timer = client.worker.timers.at(Some(end));
        let draining = client.worker.drain.draining();
        Self { io: Some(io), client, timer, reason, draining }
    }
}

impl Future for Parked {
    type Output = Next;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Next> {
        let this = self.project();
        let io = this.io.as_mut().expect("it is polled until it is over");
        let resumes = io.has_received() || io.poll_readable(context).is_ready();
        if !resumes {
            if Pin::new(this.timer).poll(context).is_ready() {
                this.client.terminated(this.reason);
            } else {
                ready!(this.draining.poll(context));
            }
        }
        let io = this.io.take().expect("it was there");
        let farewell = Farewell { shutdown: true, ..Farewell::default() };
        Poll::Ready(if resumes { Next::Resume(io) } else { Next::End(io, farewell) })
    }
}

/// When an idle connection ends, and why: one timer is enough for it.
fn end_of_idleness(since: Instant, client: &Downstream) -> (Instant, &'static str) {
    let newest = client.worker.current();
    let settings = &newest.generation.settings;
    let (begin, limit, reason) = match client.activity.requests() {
        0 => (Instant::from_std(client.accepted), settings.timeouts.initial_data, "initial_data_timeout"),
        _ => (since, settings.keep_alive.http_idle, "idle_timeout"),
    };
    let idle = (later(begin, limit.unwrap_or(NEVER)), reason);
    let lifetime = lifetime_end(client, &settings.timeouts).map(|end| (end, "lifetime"));
    lifetime.filter(|lifetime| lifetime.0 < idle.0).unwrap_or(idle)
}
