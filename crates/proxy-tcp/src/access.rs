//! What the access log is told of connections that are passed on.

use crate::tunnel::Moved;
use conn_tracker::{AccessRecord, Report};
use proxy_route::RoutedRoute;
use std::net::IpAddr;
use std::time::Instant;

/// What is known of a connection from the outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    /// Who it is for, in canonical form.
    pub(crate) client: IpAddr,
    /// The listener's port.
    pub(crate) port: u16,
    pub(crate) accepted: Instant,
    /// The name in its TLS hello.
    pub(crate) sni: Option<&'a str>,
}

impl Seen<'_> {
    /// Tells that the connection has ended on `route`, and how.
    pub(crate) fn ended(&self, report: &dyn Report, route: Taken, end: &'static str, moved: Moved) {
        if !report.wants_access() {
            return;
        }
        let &Self { client, port, accepted, sni } = self;
        report.access(&AccessRecord {
            route: Some(route.id),
            client,
            port,
            protocol: if route.tls { "tls" } else { "tcp" },
            status: None,
            end,
            elapsed: accepted.elapsed(),
            received: moved.up,
            sent: moved.down,
            request: None,
            sni,
        });
    }
}

/// The route that took a connection, without the configuration that it is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) id: conn_tracker::RouteId,
    pub(crate) tls: bool,
}

impl From<&RoutedRoute> for Taken {
    fn from(route: &RoutedRoute) -> Self {
        Self { id: route.id, tls: route.tls.is_some() }
    }
}
