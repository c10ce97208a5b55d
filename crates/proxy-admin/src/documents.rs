//! The JSON documents of the API.

use crate::Status;
use conn_tracker::{Inspect, Reason, ScopeState, TopBy, TopClient};
use log_dedup::Dedup;
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use std::time::UNIX_EPOCH;

pub(crate) fn overview(status: &dyn Status) -> Value {
    let overview = status.overview();
    let started = overview.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "version": overview.version,
        "readiness": status.readiness().label(),
        "startedAt": started.as_secs(),
        "uptimeSeconds": overview.uptime.as_secs(),
        "workers": overview.workers,
        "listeners": overview.listeners,
        "enforce": overview.enforce,
        "reloads": overview.reloads,
        "shedClients": status.shed_clients(),
        "log": status.log().map(log),
        "handshakes": {
            "active": overview.handshakes.active,
            "waiting": overview.handshakes.waiting,
            "limit": overview.handshakes.limit,
        },
    })
}

/// Events since the start: those in lines of their own, and those in summaries.
fn log(log: &Dedup) -> Value {
    let kinds = log
        .kinds()
        .into_iter()
        .map(|(kind, totals)| (kind.name().to_owned(), json!({ "written": totals.written, "folded": totals.folded })));
    json!({ "events": kinds.collect::<Map<_, _>>() })
}

pub(crate) fn routes(status: &dyn Status) -> Value {
    let routes = status.routes().into_iter().map(|route| {
        let backends = route.backends.iter().map(|backend| {
            json!({
                "address": backend.address,
                "resolved": backend.resolved,
                "inFlight": backend.in_flight,
                "maxConnections": backend.limit,
                "state": backend.state(),
                "healthy": backend.healthy,
                "ejected": backend.ejected,
                "lastFailure": backend.failure,
            })
        });
        json!({
            "id": route.id.index(),
            "name": route.name,
            "ports": route.ports,
            "domains": route.domains,
            "path": route.path,
            "action": route.action,
            "enforce": route.enforce,
            "backends": backends.collect::<Value>(),
        })
    });
    json!({ "routes": routes.collect::<Value>() })
}

pub(crate) fn limits(status: &dyn Status, top: usize) -> Value {
    let inspect = status.inspect();
    let snapshot = inspect.snapshot();
    json!({
        "scopes": snapshot.scopes.iter().map(|state| scope(status, state)).collect::<Value>(),
        "table": {
            "clients": snapshot.tracked_clients,
            "capacity": snapshot.table_capacity,
            "bytes": snapshot.table_bytes,
            "anomalies": snapshot.anomalies,
        },
        "top": {
            "active": foremost(inspect, TopBy::Active, top),
            "refused": foremost(inspect, TopBy::Refused, top),
            "failedHandshakes": failed_handshakes(status, top),
        },
    })
}

fn scope(status: &dyn Status, state: &ScopeState) -> Value {
    json!({
        "scope": state.scope.label(),
        "route": state.route.and_then(|route| status.route_name(route)),
        "active": state.active,
        "limit": state.limit,
        "admitted": state.admitted,
        "refused": by_reason(&state.refused),
        "wouldRefuse": by_reason(&state.would_refuse),
    })
}

fn by_reason(counts: &[(Reason, u64)]) -> Map<String, Value> {
    counts.iter().map(|(reason, count)| (reason.label().to_owned(), json!(count))).collect()
}

fn failed_handshakes(status: &dyn Status, most: usize) -> Value {
    let client = |(client, failed): (IpAddr, u64)| json!({ "client": client.to_string(), "failed": failed });
    status.counters().failed_handshakes(most).into_iter().map(client).collect()
}

fn foremost(inspect: &dyn Inspect, by: TopBy, most: usize) -> Value {
    let client = |client: TopClient| {
        json!({
            "client": client.client.to_string(),
            "active": client.active,
            "refused": client.refused,
            "refusedError": client.refused_error,
        })
    };
    // `take`: the bound is the endpoint's promise, whatever the tracker answers.
    inspect.top(by, most).into_iter().take(most).map(client).collect()
}
