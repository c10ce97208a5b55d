//! The metrics, in OpenMetrics text. No label ever carries an address: their number is bounded by the configuration.

use crate::process::Process;
use crate::{CountedRoute, Counts, EventCount, HandshakeOverview, Status};
use conn_tracker::{EventKind, RouteId, Snapshot, leaked_holds};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Events that have a metric of their own, by reason and route.
const EVENTS: [(&str, &str, &[EventKind]); 8] = [
    (
        "smartproxy_connections_rejected",
        "Connections and requests that a limit or a list refused",
        &[EventKind::Refused, EventKind::Blocked],
    ),
    (
        "smartproxy_connections_malformed",
        "Connections and requests that were not of their protocol or of any route",
        &[EventKind::BadRequest],
    ),
    ("smartproxy_slots_reclaimed", "Slots of full routes taken from idle connections", &[EventKind::Reclaimed]),
    ("smartproxy_clients_shed", "Clients that the kernel began to drop", &[EventKind::Shed]),
    ("smartproxy_connections_terminated", "Connections ended by the proxy", &[EventKind::Terminated]),
    ("smartproxy_connections_swept", "Connections that the sweep ended", &[EventKind::Swept]),
    ("smartproxy_backend_failures", "Failures of backends", &[EventKind::BackendFailed]),
    ("smartproxy_accept_failures", "Connections that could not be accepted", &[EventKind::AcceptFailed]),
];

/// Everything, as one text.
pub(crate) fn text(status: Arc<dyn Status>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Everything(status)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Everything(Arc<dyn Status>);

impl Collector for Everything {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = &*self.0;
        let mut page = Page { encoder, status };
        let snapshot = status.inspect().snapshot();
        let counts = status.counters().counts();
        page.limits(&snapshot)?;
        page.connections(&counts)?;
        page.requests(&counts)?;
        page.backends()?;
        if let Some(log) = status.log() {
            page.counter("smartproxy_log_events_folded", "Events that were counted into log summaries", log.folded())?;
        }
        if let Some(dropped) = status.access_log_dropped() {
            page.counter("smartproxy_access_log_dropped", "Lines that the access log could not take", dropped)?;
        }
        page.process(Process::read())
    }
}

/// One name and value per label; equal ones are one series.
type Labels = Vec<(&'static str, String)>;

struct Page<'e, 's> {
    encoder: DescriptorEncoder<'e>,
    status: &'s dyn Status,
}

impl Page<'_, '_> {
    fn limits(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let mut active = BTreeMap::new();
        let mut limits = BTreeMap::new();
        let mut would_refuse = BTreeMap::new();
        for state in &snapshot.scopes {
            let scope = ("scope", state.scope.label().to_owned());
            let route = ("route", state.route.map_or_else(String::new, |route| self.name(route)));
            *active.entry(vec![scope.clone(), route.clone()]).or_default() += state.active;
            if let Some(limit) = state.limit {
                limits.insert(vec![scope.clone(), route.clone()], u64::from(limit));
            }
            for (reason, count) in &state.would_refuse {
                let reason = ("reason", reason.label().to_owned());
                *would_refuse.entry(vec![scope.clone(), reason, route.clone()]).or_default() += count;
            }
        }
        self.gauges("smartproxy_connections_active", "Slots held now", &active)?;
        self.gauges("smartproxy_limit", "Limits in force; absent where unlimited", &limits)?;
        self.counters("smartproxy_would_refuse", "What a dry run let pass", &would_refuse)?;
        self.gauge("smartproxy_tracked_clients", "Clients in the address table", snapshot.tracked_clients)?;
        self.gauge("smartproxy_tracked_clients_limit", "Clients the table may hold", snapshot.table_capacity)?;
        self.gauge("smartproxy_tracked_bytes", "Bytes of the address table", snapshot.table_bytes)?;
        if let Some(clients) = self.status.shed_clients() {
            self.gauge("smartproxy_shed_clients", "Clients dropped in the kernel now", clients)?;
        }
        let wrong = snapshot.anomalies + leaked_holds();
        self.counter("smartproxy_accounting_errors", "Slots lost or given back twice; anything but 0 is a bug", wrong)
    }

    fn connections(&mut self, counts: &Counts) -> fmt::Result {
        let admitted = counts.admitted.iter().map(|(port, count)| (vec![("listener", port.to_string())], *count));
        self.counters("smartproxy_connections_admitted", "Connections admitted", &admitted.collect())?;
        for (name, help, kinds) in EVENTS {
            let mut series = BTreeMap::new();
            for event in counts.events.iter().filter(|event| kinds.contains(&event.kind)) {
                let labels = vec![("reason", event.reason.to_string()), ("route", self.label(event.route))];
                *series.entry(labels).or_default() += event.count;
            }
            self.counters(name, help, &series)?;
        }
        let mut handshakes = BTreeMap::from([(vec![("result", "ok".to_owned())], counts.handshakes)]);
        let failed = |event: &&EventCount| event.kind == EventKind::TlsFailed;
        for event in counts.events.iter().filter(failed) {
            *handshakes.entry(vec![("result", event.reason.to_string())]).or_default() += event.count;
        }
        self.counters("smartproxy_tls_handshakes", "TLS handshakes", &handshakes)?;
        let HandshakeOverview { active, waiting, .. } = self.status.overview().handshakes;
        self.gauge("smartproxy_tls_handshakes_active", "TLS handshakes that go on now", active)?;
        self.gauge("smartproxy_tls_handshakes_waiting", "TLS handshakes that wait for their turn", waiting)
    }

    fn requests(&mut self, counts: &Counts) -> fmt::Result {
        let mut series = BTreeMap::new();
        for request in &counts.requests {
            let labels = vec![("route", self.label(request.route)), ("result", request.result.to_owned())];
            *series.entry(labels).or_default() += request.count;
        }
        self.counters("smartproxy_requests", "Requests answered, by class of the status", &series)?;
        let name = "smartproxy_request_duration_seconds";
        let help = "From the whole head read to the last byte of the response handed over";
        let requests = counts.durations.iter().map(|(_, count)| count).sum();
        let mut histogram = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        histogram.encode_histogram::<NoLabelSet>(counts.duration.as_secs_f64(), requests, &counts.durations, None)
    }

    fn backends(&mut self) -> fmt::Result {
        let mut series = BTreeMap::new();
        for route in self.status.routes() {
            for backend in &route.backends {
                for state in ["up", "ejected", "down"] {
                    let labels = vec![("route", route.name.clone()), ("state", state.to_owned())];
                    *series.entry(labels).or_default() += u64::from(backend.state() == state);
                }
            }
        }
        self.gauges(
            "smartproxy_backends",
            "Backends by state: up, ejected for failing at work, down by checks",
            &series,
        )
    }

    fn process(&mut self, process: Process) -> fmt::Result {
        if let Some(seconds) = process.cpu_seconds {
            self.counter("process_cpu_seconds", "User and system time used", seconds)?;
        }
        if let Some(seconds) = process.start_seconds {
            self.gauge("process_start_time_seconds", "When the process started, since 1970", seconds)?;
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory", process.resident_bytes),
            ("process_virtual_memory_bytes", "Virtual memory", process.virtual_bytes),
            ("process_open_fds", "Open file descriptors", process.open_fds),
            ("process_max_fds", "Most file descriptors that may be open", process.max_fds),
        ] {
            if let Some(value) = value {
                self.gauge(name, help, value)?;
            }
        }
        Ok(())
    }

    /// `name` is without the `_total` that the format adds.
    fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue + Copy) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counters(&mut self, name: &str, help: &str, series: &BTreeMap<Labels, u64>) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            family.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(value, None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue + Copy) -> fmt::Result {
        self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges(&mut self, name: &str, help: &str, series: &BTreeMap<Labels, u64>) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            family.encode_family(labels)?.encode_gauge(value)?;
        }
        Ok(())
    }

    fn label(&self, route: CountedRoute) -> String {
        match route {
            CountedRoute::Unknown => String::new(),
            CountedRoute::Route(route) => self.name(route),
            CountedRoute::Other => "other".to_owned(),
        }
    }

    fn name(&self, route: RouteId) -> String {
        self.status.route_name(route).unwrap_or_else(|| route.to_string())
    }
}
