//! One client connection, from its first byte to the end of its last tunnel.

mod confined;
mod downstream;
mod http1;
mod http2;
mod idle;
mod multiplexed;
mod open;
mod seldom;
mod streams;

pub(crate) use downstream::{ClientCertificate, Downstream, Refusal};
pub use http1::read_requests;
pub(crate) use idle::Idle;
pub(crate) use streams::{moves, waits};

use crate::clock::later;
use crate::io::Activity;
use crate::server::Worker;
use conn_tracker::EventKind;
use open::{Opened, Speaks};
use proxy_route::Timeouts;
use proxy_tcp::{DrainWatch, HttpConnection, TICK, Timers};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Serves a connection whose protocol is known.
type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves a connection until it is over.
pub(crate) fn serve(worker: Arc<Worker>, connection: HttpConnection) -> Serving {
    if let Some(speaks) = open::told(&connection) {
        return begin(open::plain(worker, connection, speaks));
    }
    // Boxed stage by stage: what an idle connection keeps is the smallest of them.
    let opening = Box::pin(async move { open::open(worker, connection).await.map(begin) });
    Box::pin(async move {
        if let Some(serving) = opening.await {
            serving.await;
        }
    })
}

fn begin(Opened { io, client, speaks }: Opened) -> Serving {
    match speaks {
        Speaks::Http1 => http1::serve(io, client),
        Speaks::Http2 => Box::pin(http2::serve(io, client)),
    }
}

/// When a connection has to end, whatever it does.
#[derive(Debug)]
struct Term {
    timers: Timers,
    drain: DrainWatch,
    lifetime: Option<Instant>,
    /// How long it may go on once the drain has begun.
    grace: Option<Duration>,
    /// When the drain was seen to begin.
    draining: Option<Instant>,
    activity: Arc<Activity>,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// Finish what is under way, then end.
    Finish,
    /// End at once.
    Stop(&'static str),
}

/// How much longer than its lifetime a connection may take to finish what is under way.
const LIFETIME_GRACE: Duration = Duration::from_secs(5);

impl Term {
    fn new(client: &Downstream) -> Self {
        let timeouts = client.worker.current().generation.settings.timeouts;
        Self {
            timers: client.worker.timers.clone(),
            drain: client.worker.drain.clone(),
            lifetime: lifetime_end(client, &timeouts),
            grace: timeouts.graceful_shutdown,
            draining: None,
            activity: Arc::clone(&client.activity),
        }
    }

    /// Waits for the next call, after the calls that came before. Cancel safe.
    async fn called(&mut self, finishing: bool) -> Call {
        if finishing {
            let lifetime = self.lifetime.map(|end| (end + LIFETIME_GRACE, "lifetime"));
            let drain = self.draining.zip(self.grace).map(|(begun, grace)| (later(begun, grace), "drain"));
            let Some((end, reason)) = [lifetime, drain].into_iter().flatten().min() else {
                return std::future::pending().await;
            };
            self.timers.at(Some(end)).await;
            return Call::Stop(reason);
        }
        let lifetime = self.timers.at(self.lifetime);
        tokio::select! {
            () = first_request_or(self.drain.draining(), &self.activity, &self.timers) => self.draining = Some(Instant::now()),
            () = lifetime => {}
        }
        Call::Finish
    }

    /// Tells of a connection that is stopped, unless that was told when it was to finish.
    fn stopped(&self, client: &Downstream, reason: &'static str) {
        if !self.is_lifetime() {
            client.terminated(reason);
        }
    }

    /// Whether the connection ends for its age, not for a drain.
    const fn is_lifetime(&self) -> bool {
        self.draining.is_none()
    }
}

/// When a connection is too old.
fn lifetime_end(client: &Downstream, timeouts: &Timeouts) -> Option<Instant> {
    timeouts.lifetime.map(|lifetime| later(Instant::from_std(client.accepted), lifetime))
}

/// Waits for the drain. A client that was let in just before it has a moment for its first request, which is on its way.
async fn first_request_or(draining: impl Future<Output = ()>, activity: &Activity, timers: &Timers) {
    draining.await;
    let end = Instant::now() + FIRST_REQUEST;
    while activity.requests() == 0 && Instant::now() < end {
        timers.after(Some(TICK)).await;
    }
}

/// How long a connection without a request goes on once the drain has begun.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Why connections end that nobody else would have ended.
const IDLE: &str = "idle_timeout";

impl Downstream {
    fn terminated(&self, reason: &'static str) {
        let kind = if reason == IDLE { EventKind::Swept } else { EventKind::Terminated };
        self.worker.event(kind, reason, None, self.client());
    }
}
