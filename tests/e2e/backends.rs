//! Backends that are ill, full, away or elsewhere, and what clients notice of it.

use crate::support::backend::Backend;
use crate::support::client::{hold_http, http1, in_time, ping, tcp};
use crate::support::ports::{free_port, local};
use crate::support::proxy::Proxy;
use crate::support::{admin, eventually, on_eight_threads};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// A configuration with one HTTP route on `port`; `more` are keys of its action.
fn config(port: u16, targets: &str, more: &str) -> String {
    format!(
        "bind: [\"127.0.0.1\"]
connectionRateLimitPerMinute: 0
routes:
  - name: web
    match: {{ ports: {port}, path: \"/*\" }}
    action: {{ type: forward, targets: [{targets}], {more} }}
"
    )
}

/// One request on a connection of its own: status and body.
async fn get(port: u16, path: &str) -> (u16, String) {
    let mut sender = http1(tcp(local(port)).await.expect("accepted")).await;
    let empty = Empty::new().map_err(|never| match never {}).boxed();
    let request = Request::get(path).header("host", "end.test").body(empty).expect("a request");
    let response = in_time("an answer", sender.send_request(request)).await.expect("an answer");
    let status = response.status().as_u16();
    let body = in_time("the body", response.into_body().collect()).await.expect("a whole body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// The same as it comes.
async fn answer_of(port: u16) -> String {
    let mut stream = tcp(local(port)).await.expect("accepted");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("the way is open");
    let mut answer = String::new();
    in_time("an answer", stream.read_to_string(&mut answer)).await.expect("a whole answer");
    answer
}

/// The backends of the first route, as the admin endpoint shows them, by address.
fn shown(proxy: &Proxy) -> BTreeMap<String, Value> {
    let (status, text) = admin::get(proxy.admin, "/api/v1/routes");
    assert_eq!(status, 200);
    let routes: Value = serde_json::from_str(&text).expect("JSON");
    let backends = routes["routes"][0]["backends"].as_array().expect("a list").clone();
    backends.into_iter().map(|one| (one["address"].as_str().expect("an address").to_owned(), one)).collect()
}

async fn state(proxy: &Proxy, port: u16, expected: &str) {
    eventually(&format!("{port} is {expected}"), Duration::from_secs(20), || {
        let one = shown(proxy)[&local(port).to_string()].clone();
        if one["state"] == expected { Ok(()) } else { Err(one.to_string()) }
    })
    .await;
}

/// A backend that says its name, and answers `/up` with a status that can be changed.
async fn moody(name: &'static str) -> (Backend, Arc<AtomicU16>) {
    let mood = Arc::new(AtomicU16::new(200));
    let shared = Arc::clone(&mood);
    let backend = Backend::start(move |mut stream| {
        let mood = Arc::clone(&shared);
        async move {
            let mut head = Vec::new();
            while stream.read_buf(&mut head).await.is_ok_and(|count| count > 0) {
                if !head.ends_with(b"\r\n\r\n") {
                    continue;
                }
                let status = if head.starts_with(b"GET /up ") { mood.load(Ordering::SeqCst) } else { 200 };
                let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                head.clear();
            }
        }
    })
    .await;
    (backend, mood)
}

const CHECK: &str = "loadBalancing: { healthCheck: { path: /up, interval: 400ms, timeout: 400ms, unhealthyThreshold: 2, healthyThreshold: 2 } }";

#[test]
fn who_fails_its_checks_gets_nothing_until_it_is_well() {
    on_eight_threads(async {
        let (one, one_mood) = moody("one").await;
        let (two, two_mood) = moody("two").await;
        let port = free_port();
        let targets =
            format!("{{ host: 127.0.0.1, port: {} }}, {{ host: 127.0.0.1, port: {} }}", one.port(), two.port());
        let text = config(port, &targets, CHECK);
        let proxy = Proxy::start(&text);
        state(&proxy, one.port(), "up").await;
        one_mood.store(500, Ordering::SeqCst);
        state(&proxy, one.port(), "down").await;
        for _ in 0..20 {
            assert_eq!(get(port, "/").await, (200, "two".to_owned()));
        }
        let down = shown(&proxy)[&local(one.port()).to_string()].clone();
        assert_eq!((&down["healthy"], &down["state"]), (&Value::Bool(false), &Value::from("down")), "{down}");
        assert!(down["lastFailure"].as_str().is_some_and(|why| why.contains("500")), "{down}");
        let (_, metrics) = admin::get(proxy.admin, "/metrics");
        assert!(metrics.contains("smartproxy_backends{route=\"web\",state=\"down\"} 1"), "{metrics}");
        assert_eq!(proxy.log().matches("a backend is down").count(), 1, "{}", proxy.log());

        // What was found is not forgotten by a reload.
        proxy.reload(&text.replace("connectionRateLimitPerMinute: 0", "connectionRateLimitPerMinute: 100000"));
        assert_eq!(shown(&proxy)[&local(one.port()).to_string()]["state"], "down");

        two_mood.store(503, Ordering::SeqCst);
        state(&proxy, two.port(), "down").await;
        let answer = answer_of(port).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\r\nretry-after: "), "{answer}");
        assert!(admin::get(proxy.admin, "/metrics").1.contains("reason=\"no_healthy_backend\""));
        one_mood.store(204, Ordering::SeqCst);
        state(&proxy, one.port(), "up").await;
        assert_eq!(get(port, "/").await, (200, "one".to_owned()));
        assert_eq!(proxy.log().matches("a backend is up again").count(), 1, "{}", proxy.log());

        // Without checks nobody is down.
        proxy.reload(&config(port, &targets, "websocket: { enabled: true }"));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..10 {
            seen.insert(get(port, "/").await.1);
        }
        assert_eq!(seen.len(), 2, "{seen:?}");
    });
}

#[test]
fn who_cannot_be_reached_is_set_aside_and_nobody_fails_for_it() {
    on_eight_threads(async {
        let (well, _) = moody("well").await;
        let (port, nobody) = (free_port(), free_port());
        let targets = format!("{{ host: 127.0.0.1, port: {nobody} }}, {{ host: 127.0.0.1, port: {} }}", well.port());
        let ejection = "loadBalancing: { ejection: { afterFailures: 3, holdFor: 1h, maxHoldFor: 1h } }";
        let proxy = Proxy::start(&config(port, &targets, ejection));
        for _ in 0..30 {
            assert_eq!(get(port, "/").await, (200, "well".to_owned()));
        }
        state(&proxy, nobody, "ejected").await;
        let (_, metrics) = admin::get(proxy.admin, "/metrics");
        assert!(
            metrics.contains("smartproxy_backend_failures_total{reason=\"dial_refused\",route=\"web\"} 3"),
            "dialled three times, by all workers together: {metrics}"
        );
        assert_eq!(proxy.log().matches("is set aside for 3600s").count(), 1, "{}", proxy.log());
        // If all the others fail it is tried nevertheless.
        drop(well);
        // Connections to it that are kept end a little later.
        in_time("the end of the last connection", async { while get(port, "/").await.0 == 200 {} }).await;
        assert_eq!(get(port, "/").await.0, 502);
    });
}

#[test]
fn who_was_set_aside_is_tried_by_one_and_back_for_all_once_it_is_well() {
    on_eight_threads(async {
        let (well, _) = moody("well").await;
        let (port, ill) = (free_port(), free_port());
        let targets = format!("{{ host: 127.0.0.1, port: {ill} }}, {{ host: 127.0.0.1, port: {} }}", well.port());
        let ejection = "loadBalancing: { ejection: { afterFailures: 1, holdFor: 200ms, maxHoldFor: 200ms } }";
        let proxy = Proxy::start(&config(port, &targets, ejection));
        let seen = |text: &str| admin::get(proxy.admin, "/metrics").1.contains(text);
        // Nobody fails for those that try it in vain.
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while !seen("smartproxy_backend_failures_total{reason=\"dial_refused\",route=\"web\"} 3") {
            let answer = answer_of(port).await;
            assert!(answer.ends_with("well"), "{answer}");
            assert!(std::time::Instant::now() < deadline, "{}", admin::get(proxy.admin, "/metrics").1);
        }
        assert_eq!(shown(&proxy)[&local(ill).to_string()]["state"], "ejected", "until somebody was served by it");
        let back = tokio::net::TcpListener::bind(local(ill)).await.expect("the port is free");
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = back.accept().await.expect("it listens");
                let _ = stream.read(&mut [0; 1024]).await;
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nback").await;
            }
        });
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while get(port, "/").await.1 != "back" {
            assert!(std::time::Instant::now() < deadline, "{}", shown(&proxy)[&local(ill).to_string()]);
        }
        state(&proxy, ill, "up").await;
        let mut names = std::collections::BTreeSet::new();
        for _ in 0..4 {
            names.insert(get(port, "/").await.1);
        }
        assert_eq!(names.len(), 2, "both have their share again: {names:?}");
    });
}

#[test]
fn a_target_has_no_more_than_it_may_from_all_workers_together() {
    on_eight_threads(async {
        let (http, echo) = (Backend::http().await, Backend::echo().await);
        let (port, raw) = (free_port(), free_port());
        let limit = |limit: u32| {
            format!(
                "{}  - name: raw
    match: {{ ports: {raw} }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {}, maxConnections: {limit} }}] }}
",
                config(port, &format!("{{ host: 127.0.0.1, port: {}, maxConnections: {limit} }}", http.port()), ""),
                echo.port()
            )
        };
        let proxy = Proxy::start(&limit(3));
        let (mut requests, mut tunnels) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            requests.push(hold_http(tcp(local(port)).await.expect("accepted"), "end.test").await.expect("held"));
            tunnels.push(ping(tcp(local(raw)).await.expect("accepted")).await.expect("an echo"));
        }
        for _ in 0..8 {
            let answer = answer_of(port).await;
            assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\r\nretry-after: "), "{answer}");
            let refused = ping(tcp(local(raw)).await.expect("accepted")).await;
            assert!(refused.is_err_and(|error| crate::support::client::is_close(&error)));
        }
        let one = shown(&proxy)[&local(http.port()).to_string()].clone();
        assert_eq!((&one["inFlight"], &one["maxConnections"]), (&Value::from(3), &Value::from(3)), "{one}");
        let (_, metrics) = admin::get(proxy.admin, "/metrics");
        assert!(metrics.contains("{reason=\"target_limit\",route=\"web\"} 8"), "{metrics}");
        assert!(metrics.contains("{reason=\"target_limit\",route=\"raw\"} 8"), "{metrics}");

        // A raised limit counts at once, with those that are there.
        proxy.reload(&limit(4));
        requests.push(hold_http(tcp(local(port)).await.expect("accepted"), "end.test").await.expect("held"));
        assert_eq!(get(port, "/").await.0, 503);
        requests.clear();
        eventually("there is room again", Duration::from_secs(20), || {
            let one = shown(&proxy)[&local(http.port()).to_string()].clone();
            if one["inFlight"] == 0 { Ok(()) } else { Err(one.to_string()) }
        })
        .await;
        assert_eq!(get(port, "/").await.0, 200);
    });
}

#[test]
fn backends_may_be_behind_unix_sockets() {
    on_eight_threads(async {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("app.sock");
        let listener = UnixListener::bind(&path).expect("it can be bound");
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("it listens");
                tokio::spawn(serve_unix(stream));
            }
        });
        let (port, raw) = (free_port(), free_port());
        let target = format!("{{ host: \"unix:{}\" }}", path.display());
        let text = format!(
            "{}  - {{ name: raw, match: {{ ports: {raw} }}, action: {{ type: forward, targets: [{target}] }} }}\n",
            config(port, &target, "loadBalancing: { healthCheck: { path: /, interval: 50ms, timeout: 50ms } }")
        );
        let proxy = Proxy::start(&text);
        for _ in 0..3 {
            assert_eq!(get(port, "/").await, (200, "from a socket".to_owned()));
        }
        eventually("it is checked", Duration::from_secs(20), || {
            let one = shown(&proxy)[&format!("unix:{}", path.display())].clone();
            if one["healthy"] == true { Ok(()) } else { Err(one.to_string()) }
        })
        .await;
        // Bulk goes through pipes, also where one end is a Unix socket.
        let mut stream = tcp(local(raw)).await.expect("accepted");
        stream.write_all(b"PUSH").await.expect("the way is open");
        let mut got = Vec::new();
        in_time("all of it", stream.read_to_end(&mut got)).await.expect("a whole stream");
        assert_eq!(got.len(), 32 << 20);
        assert!(got.iter().all(|byte| *byte == b'x'));

        std::fs::remove_file(&path).expect("it is there");
        let mut gone = tcp(local(raw)).await.expect("accepted");
        assert!(matches!(in_time("the end", gone.read_to_end(&mut got)).await, Ok(0) | Err(_)));
    });
}

async fn serve_unix(mut stream: UnixStream) {
    let mut head = Vec::new();
    while stream.read_buf(&mut head).await.is_ok_and(|count| count > 0) {
        if head == b"PUSH" {
            for _ in 0..32 {
                if stream.write_all(&vec![b'x'; 1 << 20]).await.is_err() {
                    return;
                }
            }
            return;
        }
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nfrom a socket";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

#[test]
fn names_of_backends_are_looked_up() {
    on_eight_threads(async {
        let backend = Backend::http().await;
        let port = free_port();
        let target = format!("{{ host: localhost, port: {} }}", backend.port());
        let proxy = Proxy::start(&format!("dnsRefreshInterval: 100ms\n{}", config(port, &target, "")));
        assert_eq!(get(port, "/").await.0, 200);
        let one = shown(&proxy)[&format!("localhost:{}", backend.port())].clone();
        let resolved = one["resolved"].as_array().expect("a list");
        assert!(resolved.contains(&Value::from("127.0.0.1")), "{one}");

        // A name without an address is a bad gateway, and does not keep anybody waiting for the dial's whole time.
        proxy.reload(&config(port, "{ host: nowhere.invalid, port: 80 }", ""));
        assert_eq!(get(port, "/").await.0, 502);
        assert!(admin::get(proxy.admin, "/metrics").1.contains("reason=\"dial_no_address\""));
    });
}
