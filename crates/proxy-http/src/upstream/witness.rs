//! Telling of failures of backends.

use super::UpstreamError;
use conn_tracker::{Event, EventKind, Report, RouteId};
use std::net::IpAddr;
use std::sync::Arc;

/// Tells of failures of backends during one request.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) report: Arc<dyn Report>,
    pub(super) route: RouteId,
    pub(super) client: IpAddr,
}

impl Witness {
    pub(super) fn backend_failed(&self, reason: &'static str) {
        self.tell(EventKind::BackendFailed, reason);
    }

    /// No backend was tried: none is up, or all have as many requests as they may have.
    pub(super) fn nobody_tried(&self, why: UpstreamError) {
        let kind = if why == UpstreamError::Full { EventKind::Refused } else { EventKind::BackendFailed };
        self.tell(kind, why.label());
    }

    fn tell(&self, kind: EventKind, reason: &'static str) {
        self.report.event(Event { kind, reason, route: Some(self.route), source: Some(self.client) });
    }
}
