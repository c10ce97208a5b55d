//! What happens in the data plane, counted for metrics and folded for the log.

use crate::access_log::AccessLog;
use conn_tracker::{AccessRecord, Event, Report, RequestOutcome};
use limits_core::Table;
use proxy_admin::EventCounters;
use std::sync::Arc;

/// Counts every event, and with it logs it in as few lines as will do.
#[derive(Debug)]
pub(crate) struct Chronicle {
    pub(crate) counters: EventCounters,
    pub(crate) access: Access,
}

/// The access log, and who knows the names of routes.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) log: Arc<AccessLog>,
    pub(crate) table: Arc<Table>,
}

impl Report for Chronicle {
    fn event(&self, event: Event) {
        self.counters.event(event);
    }

    fn admitted(&self, port: u16) {
        self.counters.admitted(port);
    }

    fn handshake(&self) {
        self.counters.handshake();
    }

    fn request(&self, outcome: RequestOutcome) {
        self.counters.request(outcome);
    }

    fn wants_access(&self) -> bool {
        self.access.log.is_on()
    }

    fn access(&self, record: &AccessRecord<'_>) {
        let Access { log, table } = &self.access;
        log.record(record, record.route.and_then(|route| table.route_key(route)));
    }
}
