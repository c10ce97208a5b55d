//! The proxy as its admin endpoint sees it.

use crate::reload::Reloader;
use crate::report::Chronicle;
use conn_tracker::{Inspect, RouteId};
use limits_core::Table;
use log_dedup::Dedup;
use proxy_admin::{BackendOverview, EventCounters, HandshakeOverview, Overview, Readiness, RouteOverview, Status};
use proxy_route::{Action, PortRange, RoutedRoute};
use proxy_tcp::{Backend, Shed};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};
use tokio::sync::Notify;

/// The proxy as its admin endpoint sees it.
#[derive(Debug)]
pub(crate) struct ProxyStatus {
    pub(crate) table: Arc<Table>,
    pub(crate) chronicle: Arc<Chronicle>,
    pub(crate) reloader: Arc<Reloader>,
    pub(crate) shed: Arc<Shed>,
    pub(crate) workers: usize,
    pub(crate) started: SystemTime,
    pub(crate) since: Instant,
    pub(crate) draining: AtomicBool,
    /// Wakes whoever drains the process.
    pub(crate) drain: Notify,
}

impl ProxyStatus {
    fn handshakes(&self) -> HandshakeOverview {
        let (active, waiting) = self.reloader.handshakes().counts();
        let limit = self.reloader.generation().settings.limits.handshakes;
        HandshakeOverview {
            active: active.into(),
            waiting: u64::try_from(waiting).unwrap_or(u64::MAX),
            limit: Some(u64::from(limit)).filter(|limit| *limit > 0),
        }
    }

    /// Waits until somebody asks for the drain through the admin endpoint.
    pub(crate) async fn drain_asked(&self) {
        self.drain.notified().await;
    }
}

impl Status for ProxyStatus {
    fn inspect(&self) -> &dyn Inspect {
        &*self.table
    }

    fn counters(&self) -> &EventCounters {
        &self.chronicle.counters
    }

    fn log(&self) -> Option<&Dedup> {
        Some(self.chronicle.counters.log())
    }

    fn shed_clients(&self) -> Option<u64> {
        let on = self.reloader.generation().settings.shed.is_some();
        on.then(|| u64::try_from(self.shed.clients()).unwrap_or(u64::MAX))
    }

    fn access_log_dropped(&self) -> Option<u64> {
        let log = &self.chronicle.access.log;
        (log.is_on() || log.dropped() > 0).then(|| log.dropped())
    }

    fn readiness(&self) -> Readiness {
        // Ordering: the flag stands for itself.
        if self.draining.load(Ordering::Relaxed) { Readiness::Draining } else { Readiness::Ready }
    }

    fn route_name(&self, id: RouteId) -> Option<String> {
        match self.reloader.generation().table.by_id(id) {
            Some(route) => Some(route.name.clone()),
            None => self.table.route_key(id).map(str::to_owned),
        }
    }

    fn overview(&self) -> Overview {
        Overview {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            uptime: self.since.elapsed(),
            workers: self.workers,
            listeners: self.reloader.listeners(),
            enforce: self.reloader.generation().settings.enforce,
            reloads: self.reloader.reloads(),
            handshakes: self.handshakes(),
        }
    }

    fn routes(&self) -> Vec<RouteOverview> {
        let generation = self.reloader.generation();
        let now = Instant::now();
        let backends = |route: &RoutedRoute| match (&generation.clusters[route.index], &route.action) {
            (Some(cluster), Action::Forward(forward)) => {
                let checked = forward.health_check.is_some();
                cluster.backends().iter().map(|backend| overview_of(backend, checked, now)).collect()
            }
            _ => Vec::new(),
        };
        let overview = |route: &Arc<RoutedRoute>| RouteOverview {
            id: route.id,
            name: route.name.clone(),
            ports: texts(route.matching.ports.iter().map(Range)),
            domains: texts(&route.matching.domains),
            path: route.matching.path.as_ref().map(ToString::to_string),
            action: action(&route.action).to_owned(),
            enforce: route.enforce,
            backends: backends(route),
        };
        generation.table.routes().iter().map(overview).collect()
    }

    fn reload(&self) -> Option<Result<String, String>> {
        match self.readiness() {
            Readiness::Draining => {
                Some(Err("the process drains; start it anew to have a new configuration".to_owned()))
            }
            Readiness::Ready | Readiness::Starting => self.reloader.reload(),
        }
    }

    fn drain(&self) -> bool {
        // Ordering: the flag stands for itself.
        self.draining.store(true, Ordering::Relaxed);
        self.drain.notify_one();
        true
    }
}

fn texts(items: impl IntoIterator<Item = impl ToString>) -> Vec<String> {
    items.into_iter().map(|item| item.to_string()).collect()
}

fn action(action: &Action) -> &'static str {
    match action {
        Action::Block => "block",
        Action::Forward(_) => "forward",
        Action::Redirect(_) => "redirect",
        Action::Respond(_) => "static",
    }
}

fn overview_of(backend: &Backend, checked: bool, now: Instant) -> BackendOverview {
    BackendOverview {
        address: backend.to_string(),
        resolved: texts(backend.addresses()),
        in_flight: backend.in_flight().into(),
        limit: backend.limit().map(u64::from),
        healthy: (checked && backend.checked.last().is_some()).then(|| !backend.checked.is_down()),
        failure: backend.checked.failure().filter(|_| checked),
        ejected: backend.is_ejected(now),
    }
}

/// `443`, or `8000-8010`.
struct Range<'a>(&'a PortRange);

impl fmt::Display for Range<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PortRange { from, to } = self.0;
        if from == to { write!(f, "{from}") } else { write!(f, "{from}-{to}") }
    }
}
