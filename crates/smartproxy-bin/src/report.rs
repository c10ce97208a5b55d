//! What happens in the data plane, counted for metrics and folded for the log.

use crate::access_log::AccessLog;
use conn_tracker::{AccessRecord, Event, EventKind, Report, RequestOutcome};
use limits_core::Table;
use log_dedup::{Dedup, Kind, Settings, ToTracing};
use proxy_admin::EventCounters;
use proxy_route::{LogFormat, LogSettings};
use std::sync::Arc;
use std::time::Instant;
use tracing::Level;

/// Counts every event, and logs it in as few lines as will do.
#[derive(Debug)]
pub(crate) struct Chronicle {
    pub(crate) counters: EventCounters,
    pub(crate) log: Dedup,
    pub(crate) access: Access,
}

/// The access log, and who knows the names of routes.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) log: Arc<AccessLog>,
    pub(crate) table: Arc<Table>,
}

impl Chronicle {
    /// `names` gives routes their names in log lines.
    pub(crate) fn new(
        settings: &LogSettings,
        names: impl Fn(u32) -> Option<String> + Send + Sync + 'static,
        access: Access,
    ) -> Self {
        let sink = match settings.format {
            LogFormat::Json => ToTracing::Fields,
            LogFormat::Text => ToTracing::Message,
        };
        let dedup = Settings {
            interval: settings.flush_interval,
            top_sources: settings.top_sources,
            max_keys: settings.max_keys,
            burst: settings.burst,
        };
        let log = Dedup::new(dedup, &EventKind::ALL.map(described), Instant::now(), names, sink);
        Self { counters: EventCounters::default(), log, access }
    }
}

impl Report for Chronicle {
    fn event(&self, event: Event) {
        self.counters.event(event);
        let route = event.route.map(conn_tracker::RouteId::index);
        self.log.record(Instant::now(), event.kind.index(), event.reason, route, event.source);
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

/// How a kind reads in the log.
fn described(kind: EventKind) -> Kind {
    let name = kind.label();
    match kind {
        EventKind::AcceptFailed => Kind::new(name, "failed", "accept", "accepts"),
        EventKind::BackendFailed => Kind::new(name, "failed", "backend exchange", "backend exchanges"),
        EventKind::BadRequest => {
            Kind::new(name, "rejected", "malformed or unroutable request", "malformed or unroutable requests")
        }
        EventKind::Blocked => Kind::new(name, "blocked", "connection", "connections"),
        EventKind::Refused => Kind::new(name, "refused", "connection", "connections"),
        EventKind::Shed => Kind::new(name, "shed", "client", "clients"),
        EventKind::Swept => Kind::new(name, "swept", "connection", "connections").at(Level::INFO),
        EventKind::Terminated => Kind::new(name, "terminated", "connection", "connections").at(Level::INFO),
        EventKind::TlsFailed => Kind::new(name, "failed", "TLS handshake", "TLS handshakes"),
        EventKind::WouldRefuse => Kind::new(name, "would refuse", "connection or request", "connections or requests"),
        _ => Kind::new(name, "noted", name, name),
    }
}
