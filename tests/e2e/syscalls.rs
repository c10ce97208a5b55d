//! What it costs to turn a connection away, to serve one with a single request, and to pass a request on, in system calls.

use crate::support::backend::Backend;
use crate::support::client::{self, hold_http, hold_tls_echo, in_time, tcp, tcp_from, tls};
use crate::support::http::Http;
use crate::support::ports::free_port;
use crate::support::strace::{Traced, by_name};
use crate::support::{admin, certs, eventually, on_eight_threads};
use futures_util::future::join_all;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const REFUSED: usize = 512;

/// Refuses many connections that wait in the queue; `limits` are the settings, `tls` is whether the listener ends TLS.
async fn refuse(tls: bool, settings: &str, per_refusal: &[&str]) {
    let port = free_port();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (plain, secret) = (Backend::http().await, Backend::tls_echo().await);
    let route = if tls {
        format!(
            "- name: pass
    match: {{ ports: {port}, domains: pass.test }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}], tls: {{ mode: passthrough }} }}
  - name: end
    match: {{ ports: {port}, domains: end.test }}
    action: {{ type: static, static: {{ status: 200 }}, tls: {{ mode: terminate, certificate: {} }} }}",
            secret.port(),
            certs::inline(),
        )
    } else {
        format!(
            "- name: web
    match: {{ ports: {port}, protocol: http }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}] }}",
            plain.port()
        )
    };
    let limits = "bind: [\"127.0.0.1\"]\nmaxConnectionsPerIP: 1\nconnectionRateLimitPerMinute: 0\n";
    let Some(traced) = Traced::start(&format!("{limits}{settings}\nroutes:\n  {route}\n")) else { return };
    let (mut held_plain, mut held_secret) = (None, None);
    if tls {
        let source = Ipv4Addr::LOCALHOST.into();
        held_secret = Some(hold_tls_echo(source, address, "pass.test").await.expect("there is room"));
    } else {
        held_plain = Some(hold_http(tcp(address).await.expect("accepted"), "a.test").await.expect("there is room"));
    }

    traced.stop();
    let before = traced.calls().len();
    let mut clients = Vec::new();
    for _ in 0..REFUSED {
        clients.push(tcp(address).await.expect("the kernel shakes hands"));
    }
    traced.go_on();
    for mut client in clients {
        // An end or a reset.
        assert_eq!(in_time("the end", client.read(&mut [0])).await.unwrap_or(0), 0);
    }
    eventually("all are refused", Duration::from_secs(10), || {
        match admin::refused(traced.proxy.admin, "client", None, "client_limit") {
            512 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    let mut calls = traced.calls().split_off(before);
    if cfg!(debug_assertions) {
        // The standard library makes sure that a descriptor is open before it closes it.
        calls.retain(|(name, _)| name != "fcntl");
    }
    let counts = by_name(&calls);
    for call in per_refusal {
        let count = counts.get(call).copied().unwrap_or(0);
        // The accepts that find nobody are on top.
        let more = if *call == "accept4" { REFUSED / 16 } else { 0 };
        assert!((REFUSED..=REFUSED + more).contains(&count), "{call}: {count} of {counts:?}");
    }
    let others = counts.iter().filter(|(name, _)| !per_refusal.contains(name)).map(|(_, count)| count).sum::<usize>();
    // Out of a queue, others have their turn after each two.
    assert!(others <= REFUSED / 2 + REFUSED / 16, "{others} other calls: {counts:?}");

    let mut accepts = 0;
    for (name, result) in &calls {
        match name.as_str() {
            "accept4" if !result.starts_with('-') => accepts += 1,
            "epoll_wait" => accepts = 0,
            _ => {}
        }
        assert!(accepts <= 2, "more than two are accepted before others get their turn");
    }
    drop((held_plain, held_secret));
    let other = tcp_from(Ipv4Addr::new(127, 0, 0, 9), address).await;
    drop(other.expect("it still listens"));
}

#[test]
fn a_refusal_on_a_plain_listener_is_two_calls() {
    on_eight_threads(refuse(false, "onReject: close", &["accept4", "close"]));
}

#[test]
fn a_refusal_on_a_tls_listener_is_two_calls() {
    on_eight_threads(refuse(true, "onReject: close", &["accept4", "close"]));
}

#[test]
fn a_reset_is_three_calls() {
    for tls in [false, true] {
        on_eight_threads(refuse(tls, "onReject: reset", &["accept4", "setsockopt", "close"]));
    }
}

/// An accept that finds nobody costs the kernel a socket and a file for nothing.
async fn accept_one_by_one() {
    let backend = Backend::http().await;
    let Some((traced, address)) = Traced::limited(1, &backend) else { return };
    let held = hold_http(tcp(address).await.expect("accepted"), "a.test").await.expect("there is room");
    let before = traced.calls().len();
    for _ in 0..CONNECTIONS {
        let mut client = tcp(address).await.expect("the kernel shakes hands");
        assert_eq!(in_time("the end", client.read(&mut [0])).await.unwrap_or(0), 0);
    }
    drop(held);
    let calls = traced.calls().split_off(before);
    let found_nobody = calls.iter().filter(|(name, result)| name == "accept4" && result.starts_with('-')).count();
    // After eight in a row more are expected.
    assert!(found_nobody <= CONNECTIONS / 8, "{found_nobody}: {:?}", by_name(&calls));
}

#[test]
fn an_accept_finds_somebody() {
    on_eight_threads(accept_one_by_one());
}

const CONNECTIONS: usize = 64;

/// Serves connections that bring their only request along, by a route with this action; each makes `expected` calls.
async fn serve_each(protocol: &str, action: &str, expected: &[(&str, usize)]) {
    let port = free_port();
    let settings = format!(
        "bind: [\"127.0.0.1\"]
routes:
  - name: web
    match: {{ ports: {port}, protocol: {protocol} }}
    action: {action}
"
    );
    let Some(traced) = Traced::start(&settings) else { return };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    traced.stop();
    let before = traced.calls().len();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = tcp(address).await.expect("the kernel shakes hands");
        client
            .write_all(b"GET /sink HTTP/1.1\r\nHost: end.test\r\nConnection: close\r\n\r\n")
            .await
            .expect("it is sent");
        clients.push(client);
    }
    traced.go_on();
    for mut client in clients {
        let mut answer = String::new();
        in_time("the end", client.read_to_string(&mut answer)).await.expect("it ends in order");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    // The last ones may be closed, and the calls for that written down, only now.
    let closes = expected.iter().find(|(name, _)| *name == "close").map_or(0, |(_, each)| each * CONNECTIONS);
    let calls = || traced.calls().split_off(before);
    eventually("all are closed", Duration::from_secs(10), || {
        match calls().iter().filter(|(name, _)| name == "close").count() {
            closed if closed >= closes => Ok(()),
            closed => Err(format!("{closed} of {closes}")),
        }
    })
    .await;
    let mut calls = calls();
    if cfg!(debug_assertions) {
        // The standard library makes sure that a descriptor is open before it closes it.
        calls.retain(|(name, _)| name != "fcntl");
    }
    let counts = by_name(&calls);
    for (call, each) in expected {
        let count = counts.get(call).copied().unwrap_or(0);
        // Those that come too early are on top: accepts that find nobody, and what is sent while packets of this machine wait.
        let most = each * CONNECTIONS + CONNECTIONS / 4;
        assert!((each * CONNECTIONS..=most).contains(&count), "{call}: {count} of {counts:?}");
    }
    // What the runtime does by itself, beside waiting for events, and asking whether anybody waits to be accepted.
    let named = |name: &&str| matches!(*name, "epoll_wait" | "ppoll") || expected.iter().any(|(call, _)| call == name);
    let others = counts.iter().filter(|(name, _)| !named(name)).map(|(_, count)| count).sum::<usize>();
    assert!(others <= CONNECTIONS / 4, "{others} other calls: {counts:?}");
}

#[test]
fn a_connection_with_a_request_is_six_calls() {
    // Read, and asked at the end whether more has come.
    let calls = [("accept4", 1), ("recvfrom", 2), ("sendto", 1), ("shutdown", 1), ("close", 1)];
    on_eight_threads(serve_each("http", "{ type: static, static: { status: 200, body: hello } }", &calls));
}

#[test]
fn a_connection_on_a_tcp_route_is_seventeen_calls() {
    on_eight_threads(async {
        let backend = Backend::http().await;
        let action = format!("{{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}] }}", backend.port());
        let calls = [
            ("accept4", 1),
            ("socket", 1),
            ("setsockopt", 1),
            ("connect", 1),
            ("epoll_ctl", 4),
            ("recvfrom", 4),
            ("sendto", 2),
            ("shutdown", 1),
            ("close", 2),
        ];
        serve_each("tcp", &action, &calls).await;
    });
}

const REQUESTS: usize = 256;

/// What moves bytes through a socket.
const MOVES: [&str; 8] = ["read", "readv", "recvfrom", "recvmsg", "write", "writev", "sendto", "sendmsg"];

/// Passes requests on, one after the other over a kept connection, through a listener that ends TLS or not.
async fn pass_on(secret: bool) {
    let (port, backend) = (free_port(), Backend::http().await);
    let end = match secret {
        true => format!(", tls: {{ mode: terminate, certificate: {} }}", certs::inline()),
        false => String::new(),
    };
    let target = format!("targets: [{{ host: 127.0.0.1, port: {} }}]", backend.port());
    let routes = format!(
        "bind: [\"127.0.0.1\"]
routes:
  - name: web
    match: {{ ports: {port}, domains: end.test, protocol: http }}
    action: {{ type: forward, {target}{end} }}
"
    );
    let Some(traced) = Traced::start(&routes) else { return };
    let stream = tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.expect("accepted");
    let mut http = Http::One(match secret {
        true => client::http1(tls(stream, "end.test", &["http/1.1"]).await.expect("a handshake")).await,
        false => client::http1(stream).await,
    });
    // The first ones dial the backend, and end what is left of the handshake.
    for _ in 0..4 {
        assert_eq!(http.status("/sink", &[]).await, 200);
    }
    let before = traced.calls().len();
    for _ in 0..REQUESTS {
        assert_eq!(http.status("/sink", &[]).await, 200);
    }
    let calls = traced.calls().split_off(before);
    assert_eq!(backend.accepted(), 1, "the connection to the backend is kept");
    let counts = by_name(&calls);
    let moves = calls.iter().filter(|(name, _)| MOVES.contains(&name.as_str())).count();
    // The last answer may be here before its call is written down.
    assert!((4 * REQUESTS - 1..=4 * REQUESTS + REQUESTS / 16).contains(&moves), "{moves}: {counts:?}");
    let others = calls.len() - moves - counts.get("epoll_wait").copied().unwrap_or(0);
    assert!(others <= REQUESTS / 8, "{others} other calls: {counts:?}");
}

#[test]
fn a_request_over_kept_connections_is_four_calls() {
    on_eight_threads(pass_on(false));
}

#[test]
fn a_request_over_kept_connections_is_four_calls_inside_tls() {
    on_eight_threads(pass_on(true));
}

/// What many streams of one connection are answered at once leaves together.
async fn answer_streams() {
    let port = free_port();
    let body = "x".repeat(1024);
    let routes = format!(
        "bind: [\"127.0.0.1\"]
routes:
  - name: web
    match: {{ ports: {port}, domains: end.test, protocol: http }}
    action: {{ type: static, static: {{ status: 200, body: {body} }}, tls: {{ mode: terminate, certificate: {} }} }}
",
        certs::inline()
    );
    let Some(traced) = Traced::start(&routes) else { return };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let http = Http::connect(Ipv4Addr::LOCALHOST.into(), address, "h2").await.expect("a connection");
    assert_eq!(http.another().status("/", &[]).await, 200);
    let before = traced.calls().len();
    for _ in 0..REQUESTS / STREAMS {
        let all = (0..STREAMS).map(|_| http.another()).map(|mut http| async move { http.status("/", &[]).await });
        assert!(join_all(all).await.into_iter().all(|status| status == 200));
    }
    let calls = traced.calls().split_off(before);
    let sent =
        calls.iter().filter(|(name, _)| matches!(name.as_str(), "write" | "writev" | "sendto" | "sendmsg")).count();
    // A record of TLS has room for fifteen of them. How many the client asks for at once is its business.
    assert!(sent <= REQUESTS / 2, "{sent} writes for {REQUESTS} answers: {:?}", by_name(&calls));
}

const STREAMS: usize = 32;

#[test]
fn the_answers_to_many_streams_share_their_calls() {
    on_eight_threads(answer_streams());
}
