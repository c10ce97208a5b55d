//! Mistakes in what a route says of its backends, and of its clients' certificates.

use crate::mistakes::{one, with};

/// An HTTP route with this `loadBalancing`.
fn balanced(parts: &str) -> String {
    let targets = "targets: [{ host: b, port: 1 }]";
    with("ports: 80, path: /", &format!("type: forward, {targets}, loadBalancing: {{ {parts} }}"))
}

/// An action that ends TLS, with more keys of its `tls`.
fn terminated(keys: &str) -> String {
    let tls = "mode: terminate, certificate: { certFile: a.pem, keyFile: a.key }";
    format!("type: forward, targets: [{{ host: b, port: 1 }}], tls: {{ {tls}, {keys} }}")
}

#[test]
fn backends_and_how_they_are_used() {
    let forward = "type: forward, targets: [{ host: b, port: 1 }]";
    for (text, path, message) in [
        (
            with("ports: 80", "type: forward, targets: [{ host: \"unix:\" }]"),
            "routes[0].action.targets[0].host",
            "the path of the Unix socket is missing",
        ),
        (
            with("ports: 80", &format!("type: forward, targets: [{{ host: \"unix:/{}\" }}]", "a".repeat(107))),
            "routes[0].action.targets[0].host",
            "too long for a Unix socket",
        ),
        (
            with("ports: 80", "type: forward, targets: [{ host: [b, \"unix:/x\"] }]"),
            "routes[0].action.targets[0]",
            "\"port\" is missing",
        ),
        (balanced("healthCheck: { path: up }"), "routes[0].action.loadBalancing.healthCheck.path", "no path that can"),
        (
            balanced("healthCheck: { path: /, interval: 2s, timeout: 3s }"),
            "routes[0].action.loadBalancing.healthCheck.timeout",
            "a check may take 3s",
        ),
        (
            balanced("healthCheck: { path: /, interval: 500ms }"),
            "routes[0].action.loadBalancing.healthCheck.interval",
            "the next one begins after 500ms",
        ),
        (
            balanced("healthCheck: { path: /, healthyThreshold: 0 }"),
            "routes[0].action.loadBalancing.healthCheck.healthyThreshold",
            "0 makes no sense",
        ),
        (
            balanced("healthCheck: { host: a }"),
            "routes[0].action.loadBalancing.healthCheck.host",
            "without a path nothing is asked for",
        ),
        (
            with("ports: 80", &format!("{forward}, loadBalancing: {{ healthCheck: {{ path: / }} }}")),
            "routes[0].action.loadBalancing.healthCheck.path",
            "cannot be asked for a path",
        ),
        (
            balanced("ejection: { holdFor: 9s, maxHoldFor: 8s }"),
            "routes[0].action.loadBalancing.ejection.maxHoldFor",
            "shorter than the first one",
        ),
        (
            with("ports: 80", &format!("{forward}, tls: {{ mode: passthrough, clientAuth: {{ ca: a.pem }} }}")),
            "routes[0].action.tls.clientAuth",
            "no client can show a certificate",
        ),
        (with("ports: 80", &terminated("clientAuth: {}")), "routes[0].action.tls.clientAuth", "\"ca\" is missing"),
        (
            with("ports: 80", &terminated("clientAuth: { ca: a.key }")),
            "routes[0].action.tls.clientAuth.ca",
            "no certificate in PEM form",
        ),
        (
            with("ports: 80", &terminated("clientAuth: { ca: a.pem, mode: required }")),
            "routes[0].action.tls.clientAuth.mode",
            "is none of",
        ),
    ] {
        one(&text, path, message);
    }
}
