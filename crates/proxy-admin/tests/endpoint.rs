//! The endpoint over real connections.

mod program;

use conn_tracker::{Event, EventKind, Report, RequestOutcome};
use program::{Program, SHOP, start, start_with_token};
use proxy_admin::{Admin, Readiness};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn health_is_always_good_and_readiness_is_the_programs() {
    let endpoint = start(Program::default());
    assert_eq!(endpoint.get("/healthz"), (200, "ok".to_owned()));
    for (readiness, answer) in [
        (Readiness::Starting, (503, "starting".to_owned())),
        (Readiness::Ready, (200, "ready".to_owned())),
        (Readiness::Draining, (503, "draining".to_owned())),
    ] {
        endpoint.program.set_readiness(readiness);
        assert_eq!(endpoint.get("/readyz"), answer);
        assert_eq!(endpoint.get("/healthz").0, 200);
    }
}

#[test]
fn pitfall_43_metrics_have_the_names_and_labels_that_are_documented() {
    let endpoint = start(Program::default());
    let counters = &endpoint.program.counters;
    let event = |kind, reason, route| {
        counters.event(Event { kind, reason, route, source: "203.0.113.7".parse().ok() });
    };
    for _ in 0..3 {
        event(EventKind::Refused, "route_limit", Some(SHOP));
    }
    event(EventKind::Blocked, "block_list", None);
    event(EventKind::TlsFailed, "handshake_failed", None);
    event(EventKind::BackendFailed, "dial_refused", Some(SHOP));
    counters.admitted(443);
    counters.handshake();
    for (status, millis) in [(200, 1), (201, 30), (503, 2)] {
        counters.request(RequestOutcome { route: Some(SHOP), status, elapsed: Duration::from_millis(millis) });
    }
    for _ in 0..5 {
        endpoint.program.log.record(0, "route_limit", None, None);
    }

    let (status, text) = endpoint.get("/metrics");
    assert_eq!(status, 200);
    let metrics = parsed(&text);
    // The route is called `a "b"\` and a line break: it must come through whole.
    for (series, value) in [
        ("smartproxy_connections_active scope=global route=", 7.0),
        ("smartproxy_connections_active scope=route route=a \"b\"\\\n", 4.0),
        ("smartproxy_limit scope=global route=", 10.0),
        ("smartproxy_connections_admitted_total listener=443", 1.0),
        ("smartproxy_connections_rejected_total reason=route_limit route=a \"b\"\\\n", 3.0),
        ("smartproxy_connections_rejected_total reason=block_list route=", 1.0),
        ("smartproxy_backend_failures_total reason=dial_refused route=a \"b\"\\\n", 1.0),
        ("smartproxy_would_refuse_total scope=route reason=route_limit route=a \"b\"\\\n", 2.0),
        ("smartproxy_tracked_clients", 3.0),
        ("smartproxy_tracked_clients_limit", 100.0),
        ("smartproxy_tracked_bytes", 4096.0),
        ("smartproxy_shed_clients", 1.0),
        ("smartproxy_backends route=a \"b\"\\\n state=down", 1.0),
        ("smartproxy_backends route=a \"b\"\\\n state=up", 0.0),
        ("smartproxy_requests_total route=a \"b\"\\\n result=2xx", 2.0),
        ("smartproxy_requests_total route=a \"b\"\\\n result=5xx", 1.0),
        ("smartproxy_request_duration_seconds_count", 3.0),
        ("smartproxy_request_duration_seconds_sum", 0.033),
        ("smartproxy_request_duration_seconds_bucket le=0.001", 1.0),
        ("smartproxy_request_duration_seconds_bucket le=0.0025", 2.0),
        ("smartproxy_request_duration_seconds_bucket le=0.05", 3.0),
        ("smartproxy_request_duration_seconds_bucket le=+Inf", 3.0),
        ("smartproxy_tls_handshakes_total result=ok", 1.0),
        ("smartproxy_tls_handshakes_total result=handshake_failed", 1.0),
        ("smartproxy_log_events_folded_total", 4.0),
        ("smartproxy_accounting_errors_total", 0.0),
    ] {
        assert_eq!(metrics.get(series), Some(&value), "{series}\n{text}");
    }
    assert!(!metrics.contains_key("smartproxy_limit scope=route route=a \"b\"\\\n"), "unlimited has no figure");
    for series in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_start_time_seconds",
        "process_open_fds",
        "process_max_fds",
    ] {
        assert!(metrics.contains_key(series), "{series}\n{text}");
    }
    assert!(!text.contains("203.0.113.7"), "no address is ever a label");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn limits_show_every_scope_and_the_foremost_clients() {
    let endpoint = start(Program::default());
    let (status, body) = endpoint.get("/api/v1/limits?top=1");
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&body).unwrap();
    let expected = json!({
        "scopes": [
            {
                "scope": "global", "route": null, "active": 7, "limit": 10, "admitted": 20,
                "refused": { "global_limit": 5 }, "wouldRefuse": {},
            },
            {
                "scope": "route", "route": "a \"b\"\\\n", "active": 4, "limit": null, "admitted": 9,
                "refused": {}, "wouldRefuse": { "route_limit": 2 },
            },
        ],
        "table": { "clients": 3, "capacity": 100, "bytes": 4096, "anomalies": 0 },
        "top": {
            "active": [{ "client": "10.0.0.0", "active": 1000, "refused": 0, "refusedError": 0 }],
            "refused": [{ "client": "10.1.0.0", "active": 0, "refused": 1000, "refusedError": 1 }],
            "failedHandshakes": [],
        },
    });
    assert_eq!(document, expected);
}

#[test]
fn top_has_bounds() {
    let endpoint = start(Program::default());
    for (query, expected) in [("", 20), ("?top=0", 0), ("?top=1000", 1000), ("?other=1", 20)] {
        let (status, body) = endpoint.get(&format!("/api/v1/limits{query}"));
        let document: Value = serde_json::from_str(&body).unwrap();
        let clients = document["top"]["active"].as_array().unwrap().len();
        assert_eq!((status, clients), (200, expected), "{query}");
    }
    for query in ["?top=1001", "?top=-1", "?top=", "?top=many", "?top=99999999999999999999999"] {
        let (status, body) = endpoint.get(&format!("/api/v1/limits{query}"));
        assert_eq!((status, body.contains("from 0 to 1000")), (400, true), "{query}: {body}");
    }
}

#[test]
fn status_and_routes_are_documents() {
    let endpoint = start(Program::default());
    for _ in 0..3 {
        endpoint.program.log.record(0, "route_limit", None, None);
    }
    let status: Value = serde_json::from_str(&endpoint.get("/api/v1/status").1).unwrap();
    let expected = json!({
        "version": "1.2.3", "readiness": "ready", "startedAt": 1000, "uptimeSeconds": 60, "workers": 2,
        "listeners": ["127.0.0.1:443"], "enforce": true, "reloads": 3, "shedClients": 1,
        "log": { "events": { "refused": { "written": 1, "folded": 2 } } },
        "handshakes": { "active": 5, "waiting": 7, "limit": 9 },
    });
    assert_eq!(status, expected);
    let routes: Value = serde_json::from_str(&endpoint.get("/api/v1/routes").1).unwrap();
    let expected = json!({ "routes": [{
        "id": 1, "name": "a \"b\"\\\n", "ports": ["443"], "domains": ["shop.test"], "path": null, "action": "forward",
        "enforce": true, "backends": [{
            "address": "app.test:8080", "resolved": ["10.1.0.11"], "inFlight": 2, "maxConnections": 9, "state": "down",
            "healthy": false, "ejected": true, "lastFailure": "refused",
        }],
    }] });
    assert_eq!(routes, expected);
}

#[test]
fn unknown_paths_and_methods_are_told_apart() {
    let endpoint = start(Program::default());
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/api/v1/limits/", 404),
        ("GET", "/../etc/passwd", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "/api/v1/reload", 405),
        ("HEAD", "/readyz", 200),
    ] {
        assert_eq!(endpoint.ask(method, path, &[]).0, status, "{method} {path}");
    }
}

#[test]
fn reload_and_drain_are_the_programs() {
    let able = start(Program::default());
    let (status, body) = able.ask("POST", "/api/v1/reload", &[]);
    assert_eq!((status, body.contains("`workers` needs a restart")), (200, true), "{body}");
    able.program.break_configuration();
    let (status, body) = able.ask("POST", "/api/v1/reload", &[]);
    assert_eq!((status, body.contains("line 3")), (422, true), "{body}");
    assert_eq!(able.ask("POST", "/api/v1/drain", &[]).0, 202);
    assert_eq!(able.get("/readyz").0, 503);

    let unable = start(Program { able: false, ..Program::default() });
    assert_eq!(unable.ask("POST", "/api/v1/reload", &[]).0, 501);
    assert_eq!(unable.ask("POST", "/api/v1/drain", &[]).0, 501);
}

#[test]
fn with_a_token_only_health_is_open() {
    let endpoint = start_with_token(Program::default(), "s3cret");
    assert_eq!(endpoint.get("/healthz").0, 200);
    for path in ["/readyz", "/metrics", "/api/v1/status", "/api/v1/limits", "/api/v1/routes", "/nothing"] {
        assert_eq!(endpoint.get(path).0, 401, "{path}");
        assert_eq!(endpoint.ask("GET", path, &["Authorization: Bearer wrong!"]).0, 401, "{path}");
        let granted = if path == "/nothing" { 404 } else { 200 };
        assert_eq!(endpoint.ask("GET", path, &["Authorization: Bearer s3cret"]).0, granted, "{path}");
    }
    for path in ["/api/v1/reload", "/api/v1/drain", "/metrics"] {
        assert_eq!(endpoint.ask("POST", path, &[]).0, 401, "{path}: nothing is done or told without the token");
    }
    assert_eq!(endpoint.get("/readyz").0, 401);
    assert_eq!(endpoint.program.readiness(), Readiness::Ready);
}

#[test]
fn web_pages_are_refused_without_a_token() {
    let endpoint = start(Program::default());
    let rebound = endpoint.raw("GET /metrics HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n");
    assert!(rebound.starts_with("HTTP/1.1 403"), "{rebound}");
    assert_eq!(endpoint.ask("POST", "/api/v1/drain", &["Origin: http://evil.test"]).0, 403);
    assert_eq!(endpoint.program.readiness(), Readiness::Ready);
}

#[test]
fn beyond_loopback_a_token_is_needed() {
    let listener = || TcpListener::bind("0.0.0.0:0").unwrap();
    let status = || Arc::new(Program::default());
    let error = Admin::new(listener(), None, status()).unwrap_err();
    assert!(error.to_string().contains("set `admin.token`"), "{error}");
    assert!(Admin::new(listener(), Some("s3cret".to_owned()), status()).is_ok());
    assert!(Admin::new(TcpListener::bind("127.0.0.1:0").unwrap(), Some(String::new()), status()).is_err());
}

#[test]
fn a_large_head_and_a_body_do_no_harm() {
    let endpoint = start(Program::default());
    let answer =
        endpoint.raw(&format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(100_000)));
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer =
        endpoint.raw("POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nx");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(endpoint.get("/healthz").0, 200);
}

#[test]
fn connections_beyond_the_most_wait_for_a_place() {
    let endpoint = start(Program::default());
    let mut idle: Vec<TcpStream> = (0..64).map(|_| endpoint.connect()).collect();
    // Each holds a place once it has been answered.
    for stream in &mut idle {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_ne!(stream.read(&mut [0; 1024]).unwrap(), 0);
    }
    let mut waiting = endpoint.connect();
    waiting.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(waiting.read(&mut [0; 1024]).is_err(), "there is no place for it");
    idle.pop();
    waiting.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The series of an OpenMetrics text: `name label=value …`, with escapes undone.
fn parsed(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (labelled, value) = line.rsplit_once(' ').expect("a value");
        let mut key = String::new();
        let (mut quoted, mut escaped) = (false, false);
        for letter in labelled.chars() {
            match (quoted, escaped, letter) {
                (true, true, 'n') => key.push('\n'),
                (true, true, other) => key.push(other),
                (true, false, '\\') => {
                    escaped = true;
                    continue;
                }
                (_, _, '"') => quoted = !quoted,
                (true, false, other) => key.push(other),
                (false, _, '{' | ',') => key.push(' '),
                (false, _, '}') => {}
                (false, _, other) => key.push(other),
            }
            escaped = false;
        }
        assert!(!quoted, "{line}");
        assert_eq!(series.insert(key, value.parse().expect("a number")), None, "{line} is there twice");
    }
    series
}
