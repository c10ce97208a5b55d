//! What a request brings along.

use crate::TlsBackends;
use conn_tracker::RequestPermit;
use proxy_route::RoutedRoute;
use proxy_tcp::{Cluster, Generation, Timers};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// What a request brings along on its way to a backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange<'a> {
    /// When the request began, or went on to its next backend, by which what is done at once is timed: clocks are not free.
    pub(crate) began: Instant,
    /// The time-outs of the worker.
    pub(crate) timers: &'a Timers,
    /// The configuration that the request is served by.
    pub(crate) generation: &'a Generation,
    /// Its TLS to backends.
    pub(crate) tls: &'a TlsBackends,
    /// The route, of that configuration; it forwards.
    pub(crate) route: &'a RoutedRoute,
    /// Who the request is for: chooses the backend, and is named in events.
    pub(crate) client: IpAddr,
    /// Source of a PROXY header.
    pub(crate) source: SocketAddr,
    /// Destination of a PROXY header.
    pub(crate) local: SocketAddr,
    /// The port the client connected to, for targets that preserve it.
    pub(crate) listener_port: u16,
    /// The slots of the request, held until no backend is at work for it any more.
    pub(crate) slots: Option<&'a Arc<RequestPermit>>,
    /// Whether the request asks for an upgrade. It is then spoken in HTTP/1.1 whatever the route says.
    pub(crate) upgrade: bool,
    /// Whether whoever waits for the response looks for it a few times a second, so that no timer has to tell that it is
    /// late.
    pub(crate) looks: bool,
}

impl Exchange<'_> {
    /// The backends of the route.
    pub(super) fn cluster(&self) -> Option<&Cluster> {
        self.generation.clusters.get(self.route.index)?.as_deref()
    }
}
