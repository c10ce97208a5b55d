//! The connections of one worker to one backend.

use super::PoolLimits;
use super::connect::Connection;
use super::http1::Http1;
use super::outgoing::Outgoing;
use hyper::client::conn::http2;
use parking_lot::Mutex;
use proxy_tcp::Backend;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::time::Instant;

/// The connections of one worker to one backend.
#[derive(Debug)]
pub(super) struct Pool {
    /// Held also so that no other backend can come to have its place in memory, by which the pool is known.
    backend: Arc<Backend>,
    limits: PoolLimits,
    connections: Mutex<Connections>,
    /// Taken to dial what may become a shared connection, so that many requests do not dial many.
    pub(super) dialling: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Connections {
    /// Oldest first.
    idle: VecDeque<Idle>,
    /// The least of them that there were since the last sweep: so many were not needed.
    unneeded: usize,
    multiplexed: Vec<Arc<Multiplexed>>,
    /// Whether the last answer to an offer of HTTP/2 was no.
    refused_http2: bool,
    /// How many addresses of the backend had gone when this was looked at last.
    vintage: u64,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Http1>,
    /// When it was first looked at; `None` if it has not been, so that whoever gives it back need not ask the clock.
    since: Option<Instant>,
}

/// An HTTP/2 connection.
#[derive(Debug)]
pub(super) struct Multiplexed {
    sender: http2::SendRequest<Outgoing>,
    limit: Arc<StreamLimit>,
    /// Streams in use. Changed under the lock of the pool, but for giving back.
    streams: AtomicUsize,
    /// Whether it has failed a request and takes no new ones.
    retired: AtomicBool,
    idle_since: Mutex<Instant>,
}

/// How many streams a peer allows at once.
#[derive(Debug)]
pub(super) struct StreamLimit(AtomicUsize);

/// The right to send one request over a connection.
#[derive(Debug)]
pub(super) enum Lease {
    Http1(Box<Http1>),
    Http2(Stream),
}

/// One stream of an HTTP/2 connection, until it drops.
#[derive(Debug)]
pub(super) struct Stream {
    connection: Arc<Multiplexed>,
}

impl Pool {
    pub(super) fn new(backend: Arc<Backend>, limits: PoolLimits) -> Self {
        Self { backend, limits, connections: Mutex::default(), dialling: tokio::sync::Mutex::new(()) }
    }

    /// A stream of a connection that has one free.
    pub(super) fn stream(&self) -> Option<Lease> {
        let mut connections = self.connections.lock();
        self.forget_gone(&mut connections);
        connections.multiplexed.retain(|connection| connection.is_usable());
        connections.multiplexed.iter().find_map(Multiplexed::stream).map(Lease::Http2)
    }

    /// The connection that was idle for the shortest time.
    pub(super) fn idle(&self, now: Instant) -> Option<Box<Http1>> {
        let mut connections = self.connections.lock();
        self.forget_gone(&mut connections);
        while let Some(Idle { mut connection, since }) = connections.idle.pop_back() {
            connections.unneeded = connections.unneeded.min(connections.idle.len());
            if since.is_some_and(|since| now.duration_since(since) >= self.limits.idle_age) {
                // The others are older still.
                connections.idle.clear();
            } else if connection.is_alive() {
                return Some(connection);
            }
        }
        None
    }

    /// Forgets connections from before an address of the backend went: they may lead to what is another's now. Those in
    /// use come to their end.
    fn forget_gone(&self, connections: &mut Connections) {
        let vintage = self.backend.departures();
        if connections.vintage != vintage {
            connections.vintage = vintage;
            connections.idle.clear();
            connections.multiplexed.clear();
        }
    }

    /// Whether several requests at once can share the answer to one dial.
    pub(super) fn may_share(&self) -> bool {
        !self.connections.lock().refused_http2
    }

    /// How many addresses of the backend have gone, for connections that are dialled now.
    pub(super) fn vintage(&self) -> u64 {
        self.backend.departures()
    }

    /// The lease of a new connection of this vintage; one of HTTP/2 is shared with others from now on. `offered`: HTTP/2
    /// was possible.
    pub(super) fn adopt(&self, connection: Connection, offered: bool, vintage: u64) -> Lease {
        let mut connections = self.connections.lock();
        match connection {
            Connection::Http1(mut connection) => {
                connections.refused_http2 |= offered;
                connection.vintage = vintage;
                Lease::Http1(connection)
            }
            Connection::Http2(multiplexed) => {
                connections.refused_http2 = false;
                let lease = Lease::of_new(&multiplexed);
                connections.multiplexed.push(multiplexed);
                lease
            }
        }
    }

    /// Takes a connection back whose response has ended. While the request is still being sent, which is gone on with,
    /// `held` is kept.
    pub(super) fn give_back(self: Arc<Self>, mut connection: Box<Http1>, held: impl Send + 'static) {
        if connection.is_reusable() {
            self.keep(connection);
        } else if connection.is_sending() {
            let pool = Arc::downgrade(&self);
            tokio::spawn(async move {
                let reusable = poll_fn(|context| connection.poll_rest(context)).await;
                match pool.upgrade() {
                    Some(pool) if reusable => pool.keep(connection),
                    _ => drop(connection),
                }
                drop(held);
            });
        }
    }

    fn keep(&self, connection: Box<Http1>) {
        if connection.vintage != self.vintage() {
            return;
        }
        let mut connections = self.connections.lock();
        if connections.idle.len() >= self.limits.idle_per_backend {
            connections.idle.pop_front();
        }
        if self.limits.idle_per_backend > 0 {
            connections.idle.push_back(Idle { connection, since: None });
        }
    }

    /// Drops idle connections that are dead, and takes note of those that are new.
    pub(super) fn look(&self, now: Instant) {
        self.connections.lock().idle.retain_mut(|idle| {
            idle.since.get_or_insert(now);
            idle.connection.is_alive()
        });
    }

    /// Drops connections that are dead or were idle for too long. Says whether any is left.
    pub(super) fn sweep(&self, now: Instant) -> bool {
        let age = self.limits.idle_age;
        let mut connections = self.connections.lock();
        self.forget_gone(&mut connections);
        // The oldest go first, as those are the ones that nobody has taken.
        let spare = connections.unneeded.saturating_sub(self.limits.idle_at_rest).min(connections.idle.len());
        connections.idle.drain(..spare);
        connections.idle.retain_mut(|idle| now.duration_since(*idle.since.get_or_insert(now)) < age);
        connections.unneeded = connections.idle.len();
        connections.multiplexed.retain(|connection| connection.is_usable() && !connection.is_stale(now, age));
        !connections.idle.is_empty() || !connections.multiplexed.is_empty()
    }
}

impl Multiplexed {
    pub(super) fn new(sender: http2::SendRequest<Outgoing>) -> Self {
        Self {
            sender,
            limit: Arc::new(StreamLimit(AtomicUsize::new(ASSUMED_STREAMS))),
            streams: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
        }
    }

    /// Where the peer's limit is noted.
    pub(super) fn stream_limit(&self) -> Arc<StreamLimit> {
        Arc::clone(&self.limit)
    }

    fn stream(self: &Arc<Self>) -> Option<Stream> {
        // Ordering: only the number matters. Read and raised under the lock of the pool, so that it stays below the
        // limit; what is given back meanwhile only makes room.
        if self.streams.load(Ordering::Relaxed) >= self.limit.0.load(Ordering::Relaxed) {
            return None;
        }
        Some(self.one_more())
    }

    fn one_more(self: &Arc<Self>) -> Stream {
        // Ordering: see `stream`.
        self.streams.fetch_add(1, Ordering::Relaxed);
        Stream { connection: Arc::clone(self) }
    }

    fn is_usable(&self) -> bool {
        // Ordering: a hint; a request that misses it fails as if it had come before.
        !self.retired.load(Ordering::Relaxed) && !self.sender.is_closed()
    }

    fn is_stale(&self, now: Instant, age: std::time::Duration) -> bool {
        // Ordering: see `stream`. A stream given back meanwhile has set the time before.
        self.streams.load(Ordering::Acquire) == 0 && now.duration_since(*self.idle_since.lock()) >= age
    }
}

impl StreamLimit {
    pub(super) fn set(&self, streams: usize) {
        // Ordering: a number for itself.
        self.0.store(streams, Ordering::Relaxed);
    }
}

impl Lease {
    /// The lease of a connection that is not pooled.
    pub(super) fn alone(connection: Connection) -> Self {
        match connection {
            Connection::Http1(connection) => Self::Http1(connection),
            Connection::Http2(multiplexed) => Self::of_new(&multiplexed),
        }
    }

    fn of_new(multiplexed: &Arc<Multiplexed>) -> Self {
        Self::Http2(multiplexed.one_more())
    }

    /// Keeps others from a connection that failed.
    pub(super) fn retire(&self) {
        if let Self::Http2(stream) = self {
            // Ordering: see `Multiplexed::is_usable`.
            stream.connection.retired.store(true, Ordering::Relaxed);
        }
    }
}

impl Stream {
    pub(super) fn sender(&self) -> http2::SendRequest<Outgoing> {
        self.connection.sender.clone()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        *self.connection.idle_since.lock() = Instant::now();
        // Ordering: whoever sees no stream left also sees since when.
        self.connection.streams.fetch_sub(1, Ordering::Release);
    }
}

/// Streams assumed before a peer has said its limit.
const ASSUMED_STREAMS: usize = 100;
