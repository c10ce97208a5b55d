//! Taking a connection to a backend of its route.

use crate::connection::Connection;
use crate::tunnel::Moved;
use crate::upstream::{Dial, Dialled, write_at_once};
use crate::{Backend, InFlight, proxy_header};
use bytes::{Buf, Bytes};
use conn_tracker::EventKind;
use proxy_route::{ProxyVersion, RoutedRoute};
use std::time::Instant;
use tokio::io::{AsyncWriteExt, Interest};

/// A backend that was reached.
pub(crate) struct Reached {
    pub(crate) backend: Dialled,
    pub(crate) in_flight: InFlight,
    /// What the client has said and the backend was not told yet.
    pub(crate) unsent: Bytes,
}

/// How much a TLS client may say before its backend is reached: early data, kept to be passed on.
const MOST_EARLY: usize = 16 * 1024;
/// How a connection ends whose route has no backend.
const NO_BACKEND: &str = "no_backend";
/// How a connection ends whose backends are all down, as far as health checks say.
const NONE_HEALTHY: &str = "no_healthy_backend";
/// How a connection ends whose backends have as many as they may have.
const TARGET_LIMIT: &str = "target_limit";
const PROXY_HEADER_FAILED: &str = "proxy_header_failed";

impl Connection {
    /// Connects to the first backend that can be reached and tells it who is coming, if it wants to know. Where none can, that
    /// is reported, and so is the end of the connection.
    pub(crate) async fn dial(&mut self, route: &RoutedRoute) -> Option<Reached> {
        let mut unsent = std::mem::take(&mut self.received).freeze();
        self.spoken = !unsent.is_empty();
        let (backend, in_flight) = match self.choose(route, &unsent).await {
            Ok(reached) => reached,
            Err(reason) => {
                self.seen().ended(&*self.shared.report, route.into(), reason, Moved::default());
                return None;
            }
        };
        unsent.advance(backend.said);
        if !self.received.is_empty() {
            // It went on while its backend was dialled.
            unsent = [unsent, std::mem::take(&mut self.received).freeze()].concat().into();
        }
        Some(Reached { backend, in_flight, unsent })
    }

    /// Tries the backends of `route` one after the other; each may be told the `first` bytes.
    ///
    /// # Errors
    /// Why the last one was not reached, or why there was none to try. All of it has been reported.
    async fn choose(&mut self, route: &RoutedRoute, first: &[u8]) -> Result<(Dialled, InFlight), &'static str> {
        let Some(cluster) = self.generation.clusters[route.index].clone() else { return Err(NO_BACKEND) };
        let (mut failure, mut full) = (None, false);
        let mut order = cluster.order(self.client(), Instant::now());
        while let Some(backend) = order.next(&cluster) {
            let Some(in_flight) = backend.count() else {
                full = true;
                continue;
            };
            let announced = backend.send_proxy.map(|version| self.announced(version));
            let timers = self.shared.timers.clone();
            let dial =
                Dial { timers: &timers, port: self.port, timeout: self.generation.settings.timeouts.connect, first };
            let reason = tokio::select! {
                biased;
                outcome = reach(backend, dial, announced) => match outcome {
                    Ok(dialled) => {
                        backend.succeeded();
                        return Ok((dialled, in_flight));
                    }
                    Err(reason) => reason,
                },
                () = self.left(route) => return Err("client_gone"),
            };
            cluster.failed(backend, Instant::now(), reason);
            self.report(EventKind::BackendFailed, reason, Some(route.id));
            failure = Some(reason);
        }
        // Nobody was even tried.
        let (kind, reason) = match failure {
            Some(reason) => return Err(reason),
            None if full => (EventKind::Refused, TARGET_LIMIT),
            None => (EventKind::BackendFailed, NONE_HEALTHY),
        };
        self.report(kind, reason, Some(route.id));
        Err(reason)
    }

    /// The PROXY header that tells who is coming and where to; none if the socket cannot say that any more.
    fn announced(&self, version: ProxyVersion) -> Option<Bytes> {
        self.local().map(|local| proxy_header(version, self.source, local))
    }

    /// Waits until the client has left, while its backend is dialled.
    ///
    /// A client in the middle of its TLS handshake has left at the end of its stream: it cannot be served without
    /// saying more. A plain one may merely have said all it has to say, so only a reset counts.
    async fn left(&mut self, route: &RoutedRoute) {
        if route.tls.is_some() {
            while self.received.len() < MOST_EARLY {
                if !self.read().await.unwrap_or(false) {
                    return;
                }
            }
        }
        // Whatever the outcome, waiting for it is over only when the socket has failed.
        if let Ok(io) = self.io.watched() {
            drop(io.ready(Interest::ERROR).await);
        }
    }
}

/// Connects to a backend, and tells it who is coming where it wants to know.
async fn reach(backend: &Backend, dial: Dial<'_>, announced: Option<Option<Bytes>>) -> Result<Dialled, &'static str> {
    let Some(header) = announced else { return backend.dial_with(dial).await.map_err(|error| error.label()) };
    let header = header.ok_or(PROXY_HEADER_FAILED)?;
    let dialled = backend.dial_with(Dial { first: &header, ..dial }).await;
    let Dialled { mut stream, said, mut owed } = dialled.map_err(|error| error.label())?;
    // A new socket has room for it, so this does not wait.
    stream.write_all(&header[said..]).await.map_err(|_| PROXY_HEADER_FAILED)?;
    if std::mem::take(&mut owed.writes) {
        write_at_once(&stream);
    }
    Ok(Dialled { stream, said: 0, owed })
}
