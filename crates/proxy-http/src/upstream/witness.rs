//! Telling of failures of backends.

use conn_tracker::{Event, EventKind, Report, RouteId};
use std::net::IpAddr;
use std::sync::Arc;

/// Tells of failures of backends during one request.
#[derive(Clone, Debug)]
pub(super) struct Witness {
    pub(super) report: Arc<dyn Report>,
    pub(super) route: RouteId,
    pub(super) client: IpAddr,
}

impl Witness {
    pub(super) fn backend_failed(&self, reason: &'static str) {
        self.report.event(Event {
            kind: EventKind::BackendFailed,
            reason,
            route: Some(self.route),
            source: Some(self.client),
        });
    }
}
