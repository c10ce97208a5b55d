//! What happens in the data plane, counted for metrics and folded for the log.

use conn_tracker::{Event, EventKind, Report, RequestOutcome};
use log_dedup::{Dedup, Kind, Settings, ToTracing};
use proxy_admin::EventCounters;
use proxy_route::{LogFormat, LogSettings};
use std::time::Instant;
use tracing::Level;

/// Counts every event, and logs it in as few lines as will do.
#[derive(Debug)]
pub(crate) struct Chronicle {
    pub(crate) counters: EventCounters,
    pub(crate) log: Dedup,
}

impl Chronicle {
    /// `names` gives routes their names in log lines.
    pub(crate) fn new(settings: &LogSettings, names: impl Fn(u32) -> Option<String> + Send + Sync + 'static) -> Self {
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
        Self { counters: EventCounters::default(), log }
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
        EventKind::Terminated => Kind::new(name, "terminated", "connection", "connections").at(Level::INFO),
        EventKind::TlsFailed => Kind::new(name, "failed", "TLS handshake", "TLS handshakes"),
        EventKind::WouldRefuse => Kind::new(name, "would refuse", "connection or request", "connections or requests"),
        _ => Kind::new(name, "noted", name, name),
    }
}
