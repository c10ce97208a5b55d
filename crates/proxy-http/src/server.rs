//! The HTTP side of one worker.

use crate::HttpGeneration;
use crate::connection::{self, Idle};
use crate::date::Date;
use crate::request::Ids;
use crate::turn::Turn;
use crate::upstream::{PoolLimits, Pools};
use bytes::Bytes;
use conn_tracker::{Event, EventKind, Report, RouteId};
use http::HeaderValue;
use parking_lot::Mutex;
use proxy_tcp::{DrainWatch, HttpConnection, ServeHttp, Timers};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::watch;

/// Serves the HTTP connections of one worker. Make one per worker, on its runtime: the connections to backends that it
/// keeps belong to that runtime.
#[derive(Debug)]
pub struct HttpServer {
    pub(crate) worker: Arc<Worker>,
}

impl HttpServer {
    /// A server that always follows the `newest` configuration, tells `report` what happens and lets its connections
    /// finish once `drain` begins. Every connection holds a clone of `drain` until it is over. `timers` are those of the
    /// worker.
    #[must_use]
    pub fn new(
        mut newest: watch::Receiver<Arc<HttpGeneration>>,
        report: Arc<dyn Report>,
        drain: DrainWatch,
        timers: Timers,
    ) -> Self {
        let current = Arc::clone(&newest.borrow_and_update());
        let pools = Pools::new(PoolLimits::default(), Arc::clone(&report));
        let reclaims = AtomicBool::new(current.generation.settings.idle_reclaim);
        let live = Mutex::new(Live { newest, current });
        let worker = Worker {
            live,
            reclaims,
            pools,
            report,
            drain,
            timers,
            ids: Ids::new(),
            idle: Idle::default(),
            date: Date::default(),
            turn: Arc::default(),
            lingering: AtomicUsize::new(0),
            #[cfg(test)]
            parked: AtomicUsize::new(0),
        };
        Self { worker: Arc::new(worker) }
    }
}

impl ServeHttp for HttpServer {
    fn serve(&self, connection: HttpConnection) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        connection::serve(Arc::clone(&self.worker), connection)
    }
}

/// What the connections of one worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    live: Mutex<Live>,
    /// Whether a full route may take the slot of an idle connection, by the configuration that was asked for last.
    reclaims: AtomicBool,
    pub(crate) pools: Pools,
    pub(crate) report: Arc<dyn Report>,
    pub(crate) drain: DrainWatch,
    pub(crate) timers: Timers,
    pub(crate) ids: Ids,
    pub(crate) idle: Idle,
    pub(crate) date: Date,
    pub(crate) turn: Arc<Turn>,
    lingering: AtomicUsize,
    /// How often a connection was parked.
    #[cfg(test)]
    pub(crate) parked: AtomicUsize,
}

/// The newest configuration, kept so that asking for it costs no lock that other workers take.
#[derive(Debug)]
struct Live {
    newest: watch::Receiver<Arc<HttpGeneration>>,
    current: Arc<HttpGeneration>,
}

impl Worker {
    /// The newest configuration.
    pub(crate) fn current(&self) -> Arc<HttpGeneration> {
        let mut live = self.live.lock();
        if live.newest.has_changed().unwrap_or(false) {
            let newest = Arc::clone(&live.newest.borrow_and_update());
            // Ordering: it stands for itself.
            self.reclaims.store(newest.generation.settings.idle_reclaim, Ordering::Relaxed);
            live.current = newest;
        }
        Arc::clone(&live.current)
    }

    /// Whether a full route may take the slot of an idle connection.
    pub(crate) fn reclaims(&self) -> bool {
        // Ordering: see `current`.
        self.reclaims.load(Ordering::Relaxed)
    }

    /// The date, as a response bears it.
    pub(crate) fn date(&self) -> HeaderValue {
        let mut text = Vec::new();
        self.date.write(self.timers.tick(), &mut text);
        HeaderValue::from_maybe_shared(Bytes::from(text)).expect("a date is text")
    }

    /// Tells of an event.
    pub(crate) fn event(&self, kind: EventKind, reason: &'static str, route: Option<RouteId>, source: IpAddr) {
        self.report.event(Event { kind, reason, route, source: Some(source) });
    }

    /// Leave to linger with an answer for a connection that holds no slot any more; `None` when too many do already.
    pub(crate) fn linger(self: &Arc<Self>) -> Option<Lingering> {
        // Ordering: the count stands for itself, no other memory is read because of it.
        let before = self.lingering.fetch_add(1, Ordering::Relaxed);
        let lingering = Lingering { worker: Arc::clone(self) };
        (before < MOST_LINGERING).then_some(lingering)
    }
}

/// How many refused connections of a worker may linger to deliver their answer.
const MOST_LINGERING: usize = 512;

/// One refused connection that lingers to deliver its answer.
#[derive(Debug)]
pub(crate) struct Lingering {
    worker: Arc<Worker>,
}

impl Drop for Lingering {
    fn drop(&mut self) {
        // Ordering: see `Worker::linger`.
        self.worker.lingering.fetch_sub(1, Ordering::Relaxed);
    }
}
