//! The command line: check, demo, run, and how the process ends.

use crate::support::backend::Backend;
use crate::support::client::{hold_http, in_time, tcp};
use crate::support::ports::free_port;
use crate::support::proxy::{Proxy, binary};
use crate::support::{admin, on_eight_threads};
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};

fn check(file: &str, text: &str) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(file);
    std::fs::write(&path, text).expect("it can be written");
    Command::new(binary()).args(["check", "-c"]).arg(&path).output().expect("the binary runs")
}

#[test]
fn check_reports_every_mistake_with_its_place_and_a_suggestion() {
    let yaml = "workers: 0\nmaxConnectionsPerIp: 5\nroutes:\n  - name: a\n    match: { ports: 80000 }\n    action: { type: frward }\n";
    let json = "{\n\"workers\": 0,\n\"maxConnectionsPerIp\": 5,\n\"routes\": [{ \"name\": \"a\",\n\"match\": { \"ports\": 80000 },\n\"action\": { \"type\": \"frward\" } }]\n}";
    let toml = "workers = 0\nmaxConnectionsPerIp = 5\n[[routes]]\nname = \"a\"\nmatch = { ports = 80000 }\naction = { type = \"frward\" }\n";
    for (file, text, lines) in
        [("a.yaml", yaml, [1, 2, 5, 6]), ("a.json", json, [2, 3, 5, 6]), ("a.toml", toml, [1, 2, 5, 6])]
    {
        let output = check(file, text);
        let told = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{told}");
        for line in lines {
            assert!(told.contains(&format!("{file}:{line}:")), "{file}: nothing about line {line}:\n{told}");
        }
        assert!(told.contains("maxConnectionsPerIP"), "{told}");
        assert!(told.contains("\"forward\""), "{told}");
        assert!(told.contains('^'), "{told}");
    }
}

#[test]
fn check_accepts_what_is_right_and_refuses_what_is_not_built() {
    let good = "routes:\n  - name: a\n    match: { ports: 8080 }\n    action: { type: forward, targets: [{ host: 127.0.0.1, port: 1 }] }\n";
    let output = check("good.yaml", good);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = check("later.yaml", &format!("acme: {{ email: me@a.test }}\n{good}"));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not supported yet"));
}

#[test]
fn check_does_everything_but_open_a_port() {
    let pair = || rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate can be made");
    let site = |cert: &str, key: &str| {
        format!(
            "routes:\n  - name: a\n    match: {{ ports: 443 }}\n    action: {{ type: forward, targets: [{{ host: b, port: 1 }}], \
             tls: {{ mode: terminate, certificate: {{ cert: {cert:?}, key: {key:?} }} }} }}\n"
        )
    };
    let (one, other) = (pair(), pair());
    let (cert, key) = (one.cert.pem(), one.signing_key.serialize_pem());
    for (text, told) in [
        (site(&cert, &key), None),
        (site(&cert, &other.signing_key.serialize_pem()), Some("does not belong to the first certificate")),
        (format!("maxConnections: 4000000000\n{}", site(&cert, &key)), Some("file descriptors")),
        (
            format!("maxTrackedClients: 1\nconnectionRateLimitPerMinute: 4000000000\n{}", site(&cert, &key)),
            Some("lower it"),
        ),
    ] {
        let output = check("a.yaml", &text);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), told.is_none(), "{error}");
        assert!(error.contains(told.unwrap_or_default()), "{error}");
    }
}

#[test]
fn check_looks_at_settings_and_routes_beside_each_other() {
    let forward = "type: forward, targets: [{ host: 127.0.0.1, port: 1 }]";
    let text = format!(
        "maxConnectionsPerIP: 50
connectionRateBurst: 10
routes:
  - name: bytes
    match: {{ ports: 81, domains: a.test, protocol: tcp }}
    action: {{ {forward} }}
  - name: one
    match: {{ ports: 80, domains: a.test }}
    action: {{ {forward} }}
  - name: twin
    match: {{ ports: 80, domains: a.test }}
    action: {{ type: block }}
  - name: wide
    priority: 1
    match: {{ ports: 82, domains: \"*.test\" }}
    action: {{ {forward} }}
  - name: narrow
    match: {{ ports: 82, domains: a.test }}
    action: {{ {forward} }}
  - name: raw
    match: {{ ports: 83 }}
    action: {{ {forward} }}
  - name: web
    match: {{ ports: 83, path: /x }}
    action: {{ {forward} }}
  - name: end
    match: {{ ports: 443 }}
    action: {{ {forward}, tls: {{ mode: terminate, certificate: {{ certFile: none.pem, keyFile: none.key }} }} }}
"
    );
    let output = check("a.yaml", &text);
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{told}");
    for (line, part) in [
        (2, "only 10 of them at once"),
        (5, "needs tls.mode: passthrough"),
        (10, "matches exactly what \"one\" matches"),
        (17, "is never reached: \"wide\" takes all"),
        (24, "no byte tells their clients apart"),
        (28, "none.pem cannot be read"),
    ] {
        assert!(told.contains(part) && told.contains(&format!("a.yaml:{line}:")), "nothing of {part:?}:\n{told}");
    }
}

#[test]
fn check_takes_routes_of_the_original() {
    let key = rcgen::generate_simple_self_signed(["shop.test".to_owned()]).expect("a certificate can be made");
    let text = format!(
        r#"{{
  "proxyIPs": ["10.0.0.5"], "acceptProxyProtocol": true, "initialDataTimeout": 15000, "keepAliveTreatment": "extended",
  "maxConnectionsPerIP": 80, "connectionRateLimitPerMinute": 240,
  "defaults": {{ "security": {{ "maxConnections": 400, "ipBlockList": ["198.51.100.0/24"] }} }},
  "routes": [
    {{
      "name": "shop-tls", "priority": 50, "tags": ["x"], "description": "y",
      "match": {{ "ports": 443, "domains": ["shop.test", "*.shop.test"], "path": "/api/*" }},
      "action": {{
        "type": "forward",
        "targets": [{{ "host": ["10.1.0.11", "10.1.0.12"], "port": 8080 }}],
        "tls": {{ "mode": "terminate", "certificate": {{ "cert": {cert:?}, "key": {key:?} }} }},
        "loadBalancing": {{ "algorithm": "least-connections" }},
        "websocket": {{ "enabled": true }}
      }},
      "security": {{
        "maxConnections": 200, "maxConnectionsPerIP": 30, "ipAllowList": ["*"], "ipBlockList": ["203.0.113.7"],
        "rateLimit": {{ "enabled": true, "maxRequests": 600, "window": 60, "keyBy": "ip", "errorMessage": "slow down" }},
        "basicAuth": {{ "enabled": true, "users": [{{ "username": "ann", "password": "sesame" }}], "realm": "shop" }}
      }},
      "headers": {{ "request": {{ "X-Env": "prod" }}, "response": {{ "X-Served-By": "us" }} }}
    }},
    {{
      "name": "mail", "match": {{ "ports": [{{ "from": 993, "to": 995 }}], "domains": "mail.shop.test" }},
      "action": {{
        "type": "forward", "targets": [{{ "host": "10.1.0.30", "port": "preserve" }}],
        "tls": {{ "mode": "passthrough" }}, "sendProxyProtocol": true
      }},
      "security": {{ "maxConnections": 50, "ipAllowList": ["192.0.2.0/24", "10.0.*"] }}
    }}
  ]
}}"#,
        cert = key.cert.pem(),
        key = key.signing_key.serialize_pem(),
    );
    let output = check("pasted.json", &text);
    let (told, warned) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("2 routes, no mistakes"), "{told}{warned}");
    assert!(!warned.contains("warning"), "{warned}");
}

#[test]
fn the_schema_is_json_and_describes_the_keys() {
    let output = Command::new(binary()).arg("schema").output().expect("the binary runs");
    assert!(output.status.success());
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(schema["properties"]["maxConnectionsPerIP"]["default"], 100);
}

#[test]
fn run_refuses_a_bad_configuration_and_more_connections_than_descriptors() {
    let folder = tempfile::tempdir().expect("a folder");
    for (text, told) in
        [("workers: many\n", "workers"), ("maxConnections: 4000000000\nroutes: []\n", "file descriptors")]
    {
        let path = folder.path().join("bad.yaml");
        std::fs::write(&path, text).expect("it can be written");
        let output = Command::new(binary()).args(["run", "-c"]).arg(&path).output().expect("the binary runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
    let port = taken.local_addr().expect("it is bound").port();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("taken.yaml");
    let text = format!(
        "bind: [\"127.0.0.1\"]\nroutes:\n  - name: a\n    match: {{ ports: {port} }}\n    action: {{ type: static, static: {{ status: 200, body: ok }} }}\n"
    );
    std::fs::write(&path, text).expect("it can be written");
    let output = Command::new(binary()).args(["run", "-c"]).arg(&path).output().expect("the binary runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
}

#[test]
fn a_signal_drains_and_the_process_ends_well() {
    on_eight_threads(async {
        let (backend, port) = (Backend::http().await, free_port());
        let mut proxy = Proxy::start(&format!(
            "bind: [\"127.0.0.1\"]
gracefulShutdownTimeout: 2s
routes:
  - name: web
    match: {{ ports: {port}, path: \"/*\" }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}] }}
  - name: idle
    match: {{ ports: {port}, path: /idle }}
    action: {{ type: static, static: {{ status: 200, body: ok }} }}
",
            backend.port()
        ));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let held = hold_http(tcp(address).await.expect("accepted"), "a.test").await.expect("an answer without end");
        assert_eq!(admin::get(proxy.admin, "/readyz").0, 200);
        proxy.signal(Signal::TERM);
        let code = in_time("the end", async { tokio::task::block_in_place(|| proxy.wait()) }).await;
        assert_eq!(code, Some(0), "{}", proxy.log());
        assert!(proxy.log().contains("draining"), "{}", proxy.log());
        drop(held);
    });
}

#[test]
fn the_demo_shows_its_addresses_and_serves_them() {
    let mut demo =
        Command::new(binary()).arg("demo").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut lines = BufReader::new(demo.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let told: Vec<String> = lines.by_ref().take_while(|line| !line.contains("as it happens")).collect();
    let told = told.join("\n");
    let url = |start: &str| {
        let rest = told.split(start).nth(1).unwrap_or_else(|| panic!("no {start} in {told}"));
        format!("{start}{}", rest.split(|char: char| !char.is_ascii_digit()).next().unwrap_or_default())
    };
    for (base, more) in [(url("http://127.0.0.1:"), ""), (url("https://127.0.0.1:"), "-k")] {
        let output =
            Command::new("curl").args(["-s", "--max-time", "20", &base]).args(more.split_whitespace()).output();
        let body = output.expect("curl is installed").stdout;
        assert!(String::from_utf8_lossy(&body).contains("hello from the backend"), "{base}: {body:?}");
    }
    // Eight at once: five are held, three are refused.
    let slow = format!("{}/slow", url("http://127.0.0.1:"));
    let curls: Vec<_> = (0..8)
        .map(|_| {
            Command::new("curl").args(["-s", "--max-time", "30", &slow]).stdout(Stdio::null()).spawn().expect("curl")
        })
        .collect();
    let served = curls.into_iter().filter_map(|mut curl| curl.wait().ok()).filter(|status| status.success()).count();
    assert_eq!(served, 5);
    let narrated = lines.find(|line| line.contains("refused by client_limit: 3"));
    assert!(narrated.is_some(), "the refusals are told as they happen");
    demo.kill().expect("it is ours");
    demo.wait().expect("it is ours");
}
