//! Every key of the reference is either built or refused by name.

use crate::mistakes;
use proxy_config::Format;

/// A key, and what to write as its value.
type Key = (&'static str, Option<&'static str>);

/// Keys by the table they are in, and what to write as their value (none: not built).
const KEYS: &[(&str, &[Key])] = &[
    (
        "",
        &[
            ("acme", None),
            ("metrics", None),
            ("socketTimeout", None),
            ("maxPendingDataSize", None),
            ("keepAlive", None),
            ("noDelay", None),
            ("inactivityCheckInterval", None),
            ("enableRandomizedTimeouts", None),
        ],
    ),
    ("routes: [{ name: a, match: { ports: 80 }, action: { type: block }, KEY }]", &[("challenge", None)]),
    ("routes: [{ name: a, match: { ports: 80, KEY }, action: { type: block } }]", &[("transport", None)]),
    (
        "routes: [{ name: a, match: { ports: 80 }, action: { type: block, KEY } }]",
        &[("advanced", None), ("options", None), ("forwardingEngine", None), ("nftables", None)],
    ),
    (
        "routes: [{ name: a, match: { ports: 80 }, action: { type: block }, security: { KEY } }]",
        &[("jwtAuth", None), ("authentication", None)],
    ),
    (
        "routes: [{ name: a, match: { ports: 80 }, action: { type: block }, security: { rateLimit: { maxRequests: 5, KEY } } }]",
        &[("headerName", None), ("keyBy", Some("path"))],
    ),
    (
        "routes: [{ name: a, match: { ports: 80 }, action: { type: block }, security: { basicAuth: { users: [{ username: a, password: b }], KEY } } }]",
        &[("excludePaths", None)],
    ),
    ("routes: [{ name: a, match: { ports: 80 }, action: { type: block }, headers: { KEY } }]", &[("cors", None)]),
    (
        "routes: [{ name: a, match: { ports: 80 }, action: { type: forward, targets: [{ host: b, port: 1, KEY }] } }]",
        &[("match", None), ("tls", None), ("priority", None)],
    ),
    (
        "routes: [{ name: a, match: { ports: 80 }, action: { type: forward, targets: [{ host: b, port: 1 }], websocket: { KEY } } }]",
        &[("pingInterval", None), ("allowedOrigins", None)],
    ),
    (
        "routes: [{ name: a, match: { ports: 80 }, action: { type: forward, targets: [{ host: b, port: 1 }], tls: { mode: passthrough, KEY } } }]",
        &[("acme", None), ("certificate", Some("auto"))],
    ),
];

#[test]
fn what_is_not_built_is_refused_by_name() {
    for (table, keys) in KEYS {
        for (key, value) in *keys {
            let entry = format!("{key}: {}", value.unwrap_or("{}"));
            let text = if table.is_empty() { entry } else { table.replace("KEY", &entry) };
            let found = mistakes(&text, Format::Yaml);
            let refused: Vec<_> = found.iter().filter(|one| one.contains("is not supported yet")).collect();
            assert_eq!(refused.len(), 1, "{text}\n{found:#?}");
            assert!(!found.iter().any(|one| one.contains("no key that is known")), "{text}\n{found:#?}");
        }
    }
    let terminated_tcp = "routes: [{ name: a, match: { ports: 1, protocol: tcp }, action: { type: forward, \
        targets: [{ host: b, port: 1 }], tls: { mode: terminate, certificate: { certFile: a.pem, keyFile: a.key } } } }]";
    let found = mistakes(terminated_tcp, Format::Yaml);
    assert!(found.len() == 1 && found[0].contains("terminating TLS for tcp is not supported yet"), "{found:?}");
}

#[test]
fn the_examples_of_the_reference_mean_the_same() {
    let reference = include_str!("../../../../docs/CONFIG.md");
    let example = |fence: &str| {
        let (_, rest) = reference.split_once(&format!("```{fence}\n")).expect("an example");
        rest.split_once("```").expect("its end").0.to_owned()
    };
    let configs = [("yaml", Format::Yaml), ("json", Format::Json), ("toml", Format::Toml)].map(|(fence, format)| {
        let loaded = crate::read(&example(fence), format).unwrap_or_else(|found| panic!("{found}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        assert_eq!(loaded.config.routes[0].name, "web");
        format!("{:?}", loaded.config)
    });
    assert_eq!(configs[0], configs[1]);
    assert_eq!(configs[0], configs[2]);
}

/// The first column of the table of the top level in the reference, and the keys of its other tables.
#[test]
fn every_key_of_the_reference_is_known() {
    let reference = include_str!("../../../../docs/CONFIG.md");
    let built = include_str!("full.yaml");
    let refused: Vec<_> = KEYS.iter().flat_map(|(_, keys)| *keys).map(|(key, _)| *key).collect();
    let mut seen = 0;
    for line in reference.lines().filter(|line| line.starts_with("| `")) {
        let cell = line.split('|').nth(1).unwrap_or_default();
        for key in cell.split('`').skip(1).step_by(2) {
            let key = key.split(':').next().unwrap_or(key);
            let last = key.rsplit('.').next().unwrap_or(key);
            let written = [format!("{last}:"), format!("{last}\":")].iter().any(|spelt| built.contains(spelt));
            assert!(written || refused.contains(&last), "{key} is in the reference, but in no test");
            seen += 1;
        }
    }
    assert!(seen > 80, "only {seen} keys were found in the reference");
}
