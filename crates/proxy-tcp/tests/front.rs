//! From accept to the route: who comes in, and where to.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use conn_tracker::{EventKind, Origin, Reason};
use proxy_route::{
    AcceptProxy, AccessList, Action, Forward, OnReject, ProxyVersion, Respond, Route, Settings, TlsMode, TlsVersion,
};
use proxy_tcp::proxy_header;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use support::{Call, Proxy, accepted, backend, start, tcp, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const CLIENT: &str = "203.0.113.7:4711";
const SERVER: &str = "192.0.2.1:443";

fn hello(name: &str) -> Vec<u8> {
    support::hello::modern(name, rustls::DEFAULT_VERSIONS)
}

/// A route for TLS of `domain`.
fn tls(domain: &str, mode: TlsMode, target: SocketAddr) -> Route {
    let mut route = tcp(&[target]);
    route.name = format!("tls {domain}");
    route.tls = Some(mode);
    route.matching.domains = vec![domain.parse().unwrap()];
    route
}

fn plain_http() -> Route {
    let mut route = tcp(&[]);
    route.name = "http".into();
    route.protocol = proxy_route::Protocol::Http;
    route.action = Action::Respond(Respond { status: 200, headers: Vec::new(), body: String::new() });
    route
}

/// Takes PROXY headers from this machine.
fn behind_proxy() -> Settings {
    let accept_proxy = AcceptProxy { ports: Some(Vec::new()), peers: vec!["127.0.0.1/32".parse().unwrap()] };
    Settings { accept_proxy, ..Settings::default() }
}

async fn connect(proxy: &Proxy) -> TcpStream {
    let client = TcpStream::connect(proxy.address).await.unwrap();
    client.set_nodelay(true).unwrap();
    client
}

/// Waits until the proxy closed the connection, however it did.
async fn closed(client: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(60), client.read_to_end(&mut rest));
    end.await.expect("it is not held open").unwrap_or_default();
    assert_eq!(rest, b"");
}

/// What a backend gets of a client that sends this and then ends its stream.
async fn passed_on(proxy: &Proxy, listener: &TcpListener, sent: &[u8]) -> Vec<u8> {
    let mut client = connect(proxy).await;
    client.write_all(sent).await.unwrap();
    // Not before the backend is reached: a TLS client that ends earlier has left.
    let mut server = accepted(listener).await;
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    got
}

/// Sends this, waits until the proxy closes, and says what it reported.
async fn refused(proxy: &Proxy, sent: &[u8]) -> Vec<(EventKind, &'static str)> {
    let mut client = connect(proxy).await;
    client.write_all(sent).await.unwrap();
    closed(&mut client).await;
    until("every permit is back", || proxy.tracker.closed() == proxy.tracker.opened()).await;
    proxy.heard.reasons()
}

#[tokio::test]
async fn pitfall_31_a_refusal_at_accept_closes_or_resets() {
    for (on_reject, outcome) in [(OnReject::Close, Ok(0)), (OnReject::Reset, Err(ErrorKind::ConnectionReset))] {
        let (_, address) = backend().await;
        let proxy = start(Settings { on_reject, ..Settings::default() }, vec![tcp(&[address])]);
        *proxy.tracker.refuse_open.lock().unwrap() = Some(Reason::ClientLimit);
        let mut client = connect(&proxy).await;
        assert_eq!(client.read(&mut [0]).await.map_err(|error| error.kind()), outcome);
        assert_eq!(proxy.heard.reasons(), [(EventKind::Refused, "client_limit")]);
        assert_eq!(proxy.heard.last().unwrap().source, Some(LOCALHOST));
        assert_eq!(proxy.tracker.calls.lock().unwrap()[..], []);
    }
}

#[tokio::test]
async fn pitfall_30_a_refusal_at_accept_can_be_read_where_everybody_speaks_plain_http() {
    let respond = || Settings { on_reject: OnReject::Respond, ..Settings::default() };
    let proxy = start(respond(), vec![plain_http()]);
    *proxy.tracker.refuse_open.lock().unwrap() = Some(Reason::ClientLimit);
    let mut client = connect(&proxy).await;
    client.write_all(&[b'x'; 50_000]).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    for part in ["\r\nconnection: close\r\n", "\r\nretry-after: ", "\r\n\r\n429 Too Many Requests\n"] {
        assert!(answer.contains(part), "{answer}");
    }
    assert_eq!(proxy.heard.reasons(), [(EventKind::Refused, "client_limit")]);

    // Who sends without end is cut off.
    let mut client = connect(&proxy).await;
    let sending = async { while client.write_all(&[b'x'; 16_384]).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), sending).await.expect("it is reset");

    let (_, address) = backend().await;
    for routes in [vec![plain_http(), tls("a.test", TlsMode::Passthrough, address)], vec![tcp(&[address])]] {
        let proxy = start(respond(), routes);
        *proxy.tracker.refuse_open.lock().unwrap() = Some(Reason::ClientLimit);
        closed(&mut connect(&proxy).await).await;
    }
}

#[tokio::test]
async fn block_lists_come_before_any_count() {
    let local = || ["127.0.0.0/8".parse().unwrap()].into_iter().collect();
    let other = || ["192.0.2.0/24".parse().unwrap()].into_iter().collect();
    for (access, reason) in [
        (AccessList { block: local(), allow: None }, "block_list"),
        (AccessList { block: local(), allow: Some(local()) }, "block_list"),
        (AccessList { block: other(), allow: Some(other()) }, "allow_list"),
    ] {
        let (_, address) = backend().await;
        let proxy = start(Settings { access, ..Settings::default() }, vec![tcp(&[address])]);
        closed(&mut connect(&proxy).await).await;
        assert_eq!(proxy.heard.reasons(), [(EventKind::Blocked, reason)]);
        assert_eq!(proxy.tracker.opened(), 0);
    }
}

#[tokio::test]
async fn a_port_that_needs_no_bytes_is_never_pending() {
    let (listener, address) = backend().await;
    let proxy = start(Settings::default(), vec![tcp(&[address])]);
    assert_eq!(passed_on(&proxy, &listener, b"x").await, b"x");
    let calls = proxy.tracker.calls.lock().unwrap().clone();
    assert!(matches!(calls[..2], [Call::Open(Origin::Client(LOCALHOST), false), Call::Bind(_)]), "{calls:?}");
}

#[tokio::test]
async fn balancers_are_in_no_client_scope() {
    let (listener, address) = backend().await;
    let settings = Settings { trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()], ..Settings::default() };
    let proxy = start(settings, vec![tcp(&[address])]);
    assert_eq!(passed_on(&proxy, &listener, b"x").await, b"x");
    assert_eq!(proxy.tracker.calls.lock().unwrap()[0], Call::Open(Origin::Balancer, false));
}

#[tokio::test]
async fn balancers_behind_a_proxy_are_in_no_client_scope_either() {
    let (listener, address) = backend().await;
    let settings = Settings { trusted_proxies: vec!["203.0.113.0/24".parse().unwrap()], ..behind_proxy() };
    let proxy = start(settings, vec![tcp(&[address])]);
    let header = proxy_header(ProxyVersion::V1, CLIENT.parse().unwrap(), SERVER.parse().unwrap());
    assert_eq!(passed_on(&proxy, &listener, &header).await, b"");
    let calls = proxy.tracker.calls.lock().unwrap().clone();
    assert!(matches!(calls[..2], [Call::Open(Origin::Proxy, true), Call::Bind(_)]), "{calls:?}");
}

#[tokio::test]
async fn a_proxy_header_names_the_client_however_it_is_split() {
    let (listener, address) = backend().await;
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let proxy = start(behind_proxy(), vec![tcp(&[address])]);
        let header = proxy_header(version, CLIENT.parse().unwrap(), SERVER.parse().unwrap());
        for split in 0..=header.len() {
            let (mut client, mut got) = (connect(&proxy).await, Vec::new());
            client.write_all(&header[..split]).await.unwrap();
            tokio::task::yield_now().await;
            client.write_all(&[&header[split..], b"payload"].concat()).await.unwrap();
            client.shutdown().await.unwrap();
            accepted(&listener).await.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"payload", "{version:?} {split}");
        }
        let calls = proxy.tracker.calls.lock().unwrap().clone();
        assert_eq!(calls[..2], [Call::Open(Origin::Proxy, true), Call::Identify("203.0.113.7".parse().unwrap())]);
        assert_eq!(proxy.heard.reasons(), []);
    }
}

#[tokio::test]
async fn pitfall_13_a_header_from_anybody_else_is_payload() {
    let (listener, address) = backend().await;
    let mut settings = behind_proxy();
    settings.accept_proxy.peers = vec!["192.0.2.0/24".parse().unwrap()];
    let proxy = start(settings, vec![tcp(&[address])]);
    let header = proxy_header(ProxyVersion::V1, CLIENT.parse().unwrap(), SERVER.parse().unwrap());
    assert_eq!(passed_on(&proxy, &listener, &header).await, header);
    assert_eq!(proxy.tracker.calls.lock().unwrap()[0], Call::Open(Origin::Client(LOCALHOST), false));
}

#[tokio::test]
async fn a_peer_that_speaks_for_itself_is_in_no_client_scope() {
    let (listener, address) = backend().await;
    let proxy = start(behind_proxy(), vec![tcp(&[address])]);
    assert_eq!(passed_on(&proxy, &listener, b"PROXY UNKNOWN\r\nhealth").await, b"health");
    assert_eq!(proxy.tracker.count(|call| matches!(call, Call::Identify(_))), 0);
}

#[tokio::test]
async fn a_trusted_peer_must_send_a_header() {
    let (_, address) = backend().await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXY TCP4 nonsense 1 2 3\r\n"] {
        let proxy = start(behind_proxy(), vec![tcp(&[address])]);
        assert_eq!(refused(&proxy, bytes).await, [(EventKind::BadRequest, "proxy_header")]);
    }
    let proxy = start(behind_proxy(), vec![tcp(&[address])]);
    let mut client = connect(&proxy).await;
    client.write_all(b"PROXY TCP4").await.unwrap();
    drop(client);
    until("the permit is back", || proxy.tracker.closed() == 1).await;
    assert_eq!(proxy.heard.reasons(), [(EventKind::BadRequest, "proxy_header")]);
}

#[tokio::test]
async fn pitfall_12_the_named_client_is_blocked_and_limited() {
    let (listener, address) = backend().await;
    let header = proxy_header(ProxyVersion::V2, CLIENT.parse().unwrap(), SERVER.parse().unwrap());
    let mut settings = behind_proxy();
    settings.access.block = ["203.0.113.0/24".parse().unwrap()].into_iter().collect();
    let proxy = start(settings, vec![tcp(&[address])]);
    assert_eq!(refused(&proxy, &header).await, [(EventKind::Blocked, "block_list")]);
    assert_eq!(proxy.heard.last().unwrap().source, Some("203.0.113.7".parse().unwrap()));

    let proxy = start(behind_proxy(), vec![tcp(&[address])]);
    *proxy.tracker.refuse_identify.lock().unwrap() = Some(Reason::ClientRate);
    assert_eq!(refused(&proxy, &header).await, [(EventKind::Refused, "client_rate")]);
    support::nobody_came(&listener).await;
}

#[tokio::test]
async fn a_backend_learns_who_the_client_is() {
    let (listener, address) = backend().await;
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut route = tcp(&[address]);
        let Action::Forward(forward) = &mut route.action else { unreachable!() };
        let Forward { targets, .. } = &mut **forward;
        targets[0].send_proxy = Some(version);
        let header = proxy_header(version, CLIENT.parse().unwrap(), SERVER.parse().unwrap());
        let proxy = start(behind_proxy(), vec![route.clone()]);
        let sent = [&header[..], b"payload"].concat();
        assert_eq!(passed_on(&proxy, &listener, &sent).await, sent, "the header comes out as it went in");

        let proxy = start(Settings::default(), vec![route]);
        let mut client = connect(&proxy).await;
        client.write_all(b"payload").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        accepted(&listener).await.read_to_end(&mut got).await.unwrap();
        let header = proxy_header(version, client.local_addr().unwrap(), proxy.address);
        assert_eq!(got, [&header[..], b"payload"].concat());
    }
}

#[tokio::test]
async fn a_hello_is_passed_through_untouched_by_its_name() {
    let ((one, one_address), (other, other_address)) = (backend().await, backend().await);
    let routes = vec![
        tls("one.test", TlsMode::Passthrough, one_address),
        tls("*.other.test", TlsMode::Passthrough, other_address),
    ];
    let proxy = start(Settings::default(), routes);
    for (name, listener) in [("one.test", &one), ("a.other.test", &other), ("ONE.test", &one)] {
        let sent = hello(name);
        assert_eq!(passed_on(&proxy, listener, &sent).await, sent, "{name}");
    }
    assert_eq!(proxy.heard.reasons(), []);
    assert_eq!(refused(&proxy, &hello("nobody.test")).await, [(EventKind::BadRequest, "no_route")]);
}

#[tokio::test]
async fn a_hello_may_come_byte_by_byte() {
    let (listener, address) = backend().await;
    let proxy = start(Settings::default(), vec![tls("one.test", TlsMode::Passthrough, address)]);
    let sent = hello("one.test");
    let mut client = connect(&proxy).await;
    let mut got = Vec::new();
    let drip = async {
        for byte in &sent {
            client.write_all(std::slice::from_ref(byte)).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (_, mut server) = tokio::join!(drip, accepted(&listener));
    client.shutdown().await.unwrap();
    server.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, sent);
}

#[tokio::test]
async fn tls_and_plain_share_a_port() {
    let (listener, address) = backend().await;
    let routes = vec![tls("one.test", TlsMode::Passthrough, address), tcp(&[address])];
    let proxy = start(Settings::default(), routes);
    assert_eq!(passed_on(&proxy, &listener, b"plain").await, b"plain");
    let sent = hello("one.test");
    assert_eq!(passed_on(&proxy, &listener, &sent).await, sent);
}

#[tokio::test]
async fn what_ends_here_is_handed_over_with_all_it_sent() {
    let (_, address) = backend().await;
    let proxy = start(Settings::default(), vec![tls("one.test", TlsMode::Terminate, address), plain_http()]);
    let sent = hello("one.test");
    let mut client = connect(&proxy).await;
    client.write_all(&sent).await.unwrap();
    until("it is handed over", || proxy.http.0.lock().unwrap().len() == 1).await;
    let mut connection = proxy.http.0.lock().unwrap().pop().unwrap();
    assert_eq!(connection.received, sent);
    let said = connection.hello.as_ref().unwrap();
    assert_eq!((said.sni.as_deref(), said.version), (Some("one.test"), Some(TlsVersion::V1_3)));
    assert_eq!((connection.client, connection.local), (LOCALHOST, proxy.address));
    assert_eq!(connection.peer, client.local_addr().unwrap());
    let io = connection.io.watched().unwrap();
    assert!(io.nodelay().unwrap(), "inherited from the listener");
    assert!(socket2::SockRef::from(&*io).keepalive().unwrap(), "inherited from the listener");
    assert_eq!((proxy.tracker.bound(), proxy.tracker.closed()), (0, 0), "who serves it binds it");
    drop(connection);
    assert_eq!(proxy.tracker.closed(), 1);

    client = connect(&proxy).await;
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    until("it is handed over", || proxy.http.0.lock().unwrap().len() == 1).await;
    let connection = proxy.http.0.lock().unwrap().pop().unwrap();
    assert_eq!((connection.hello, &connection.received[..]), (None, &b"GET / HTTP/1.1\r\n\r\n"[..]));
}

#[tokio::test]
async fn plain_http_is_handed_over_at_its_first_byte() {
    let proxy = start(behind_proxy(), vec![plain_http()]);
    let header = proxy_header(ProxyVersion::V1, CLIENT.parse().unwrap(), SERVER.parse().unwrap());
    let mut client = connect(&proxy).await;
    client.write_all(&header).await.unwrap();
    until("it is identified", || proxy.tracker.count(|call| matches!(call, Call::Identify(_))) == 1).await;
    assert_eq!(proxy.http.0.lock().unwrap().len(), 0, "no byte of a request is there");
    client.write_all(b"G").await.unwrap();
    until("it is handed over", || proxy.http.0.lock().unwrap().len() == 1).await;
    let connection = proxy.http.0.lock().unwrap().pop().unwrap();
    assert_eq!(connection.client, "203.0.113.7".parse::<IpAddr>().unwrap());
    assert_eq!((connection.local, connection.port), (SERVER.parse().unwrap(), 0));
}

#[tokio::test]
async fn what_nothing_is_routed_for_is_closed() {
    let (_, address) = backend().await;
    let passthrough = || tls("one.test", TlsMode::Passthrough, address);
    let terminate = || tls("one.test", TlsMode::Terminate, address);
    for (route, bytes, reason) in [
        (passthrough(), &b"SSH-2.0-x\r\n"[..], "no_route"),
        (terminate(), b"GET / HTTP/1.1\r\n\r\n", "not_http"),
        (terminate(), &[0x16, 3, 1, 0, 0], "hello_malformed"),
        (passthrough(), &[0x16, 3, 1, 0, 4, 1, 0, 0x40, 0], "hello_too_large"),
    ] {
        let proxy = start(Settings::default(), vec![route]);
        assert_eq!(refused(&proxy, bytes).await, [(EventKind::BadRequest, reason)]);
        assert_eq!(proxy.tracker.closed(), 1);
    }
}

#[tokio::test]
async fn who_leaves_early_gives_its_slot_back() {
    let (_, address) = backend().await;
    for (bytes, events) in
        [(&b""[..], &[][..]), (&hello("one.test")[..100], &[(EventKind::BadRequest, "hello_truncated")])]
    {
        let proxy = start(Settings::default(), vec![tls("one.test", TlsMode::Passthrough, address)]);
        let mut client = connect(&proxy).await;
        client.write_all(bytes).await.unwrap();
        until("it is admitted", || proxy.tracker.opened() == 1).await;
        drop(client);
        until("the permit is back", || proxy.tracker.closed() == 1).await;
        assert_eq!(proxy.heard.reasons(), events);
    }
}

#[tokio::test]
async fn who_says_too_little_is_closed_in_time() {
    let (_, address) = backend().await;
    let tls_route = || tls("one.test", TlsMode::Passthrough, address);
    for (settings, route, bytes) in [
        (Settings::default(), tls_route(), &b""[..]),
        (Settings::default(), tls_route(), &hello("one.test")[..100]),
        (Settings::default(), plain_http(), b""),
        (behind_proxy(), tcp(&[address]), b"PROXY TCP4 "),
    ] {
        let mut settings = settings;
        settings.timeouts.initial_data = Some(Duration::from_millis(50));
        let proxy = start(settings, vec![route]);
        assert_eq!(refused(&proxy, bytes).await, [(EventKind::Terminated, "initial_data_timeout")]);
        assert_eq!(proxy.tracker.closed(), 1);
    }
}

#[tokio::test]
async fn a_drain_waits_a_moment_for_those_who_have_not_said_where_to() {
    let (listener, address) = backend().await;
    let tls_route = || tls("one.test", TlsMode::Passthrough, address);
    let (first, rest) = (&hello("one.test")[..100], &hello("one.test")[100..]);
    for (settings, route, bytes) in [
        (Settings::default(), tls_route(), &b""[..]),
        (Settings::default(), tls_route(), first),
        (Settings::default(), plain_http(), b""),
        (behind_proxy(), plain_http(), b""),
        (behind_proxy(), plain_http(), b"PROXY TCP4 203.0."),
        (behind_proxy(), tls_route(), b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n"),
    ] {
        let mut settings = settings;
        settings.timeouts.initial_data = None;
        let proxy = start(settings, vec![route]);
        let mut silent = connect(&proxy).await;
        silent.write_all(bytes).await.unwrap();
        until("it is admitted", || proxy.tracker.opened() == 1).await;
        proxy.drain.start();
        closed(&mut silent).await;
        until("the permit is back", || proxy.tracker.closed() == 1).await;
        assert_eq!(proxy.heard.reasons(), []);
    }
    let proxy = start(Settings::default(), vec![tls_route()]);
    let (mut silent, mut begun) = (connect(&proxy).await, connect(&proxy).await);
    begun.write_all(first).await.unwrap();
    until("both are admitted", || proxy.tracker.opened() == 2).await;
    proxy.drain.start();
    begun.write_all(rest).await.unwrap();
    closed(&mut silent).await;
    let mut server = accepted(&listener).await;
    // Closed with something unread, it would reset the connection.
    server.read_exact(&mut vec![0; first.len() + rest.len()]).await.unwrap();
    server.write_all(b"hello yourself").await.unwrap();
    drop(server);
    let mut answer = String::new();
    begun.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "hello yourself");
}
