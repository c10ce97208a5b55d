//! Connections that are passed on to a backend, byte by byte.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use conn_tracker::{EventKind, RouteId};
use proxy_route::{AccessList, Action, ProxyVersion, Route, RouteTable, Settings};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use support::{Proxy, accepted, backend, pair, refused, start, tcp, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BULK: usize = 64 << 20;

/// Bytes that are told apart from themselves moved by any small distance.
fn pattern() -> Vec<u8> {
    let mut state = 1_u32;
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()
    };
    (0..BULK / 4).flat_map(|_| next(&mut state)).collect()
}

async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    all
}

/// Everything was opened, bound and closed `count` times, and nothing was worth an event.
async fn settled(proxy: &Proxy, count: usize) {
    until("every permit is back", || proxy.tracker.closed() == count).await;
    assert_eq!((proxy.tracker.opened(), proxy.tracker.bound()), (count, count));
    assert_eq!(proxy.heard.reasons(), []);
}

#[tokio::test]
async fn carries_64_mib_both_ways_at_once() {
    let (listener, address) = backend().await;
    let proxy = start(Settings::default(), vec![tcp(&[address])]);
    let (client, server) = pair(&proxy, &listener).await;
    let data = pattern();
    let exchange = |stream: TcpStream| {
        let data = &data;
        async move {
            let (mut out, mut into) = stream.into_split();
            let mut got = Vec::with_capacity(BULK);
            let send = async {
                into.write_all(data).await?;
                into.shutdown().await
            };
            let (written, read) = tokio::join!(send, out.read_to_end(&mut got));
            written.unwrap();
            read.unwrap();
            assert!(got == *data, "the bytes came as they were sent");
        }
    };
    tokio::join!(exchange(client), exchange(server));
    settled(&proxy, 1).await;
}

/// A route whose connections end with their backend.
fn brief(targets: &[SocketAddr]) -> Route {
    brief_with(targets, None)
}

/// The same, whose backends are told of their clients.
fn brief_with(targets: &[SocketAddr], header: Option<ProxyVersion>) -> Route {
    let mut route = tcp(targets);
    let Action::Forward(forward) = &mut route.action else { unreachable!("it forwards") };
    forward.half_close = false;
    forward.targets.iter_mut().for_each(|target| target.send_proxy = header);
    route
}

#[tokio::test]
async fn a_slow_reader_gets_everything() {
    read_slowly(tcp).await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything_without_half_close() {
    read_slowly(brief).await;
}

async fn read_slowly(route: fn(&[SocketAddr]) -> Route) {
    let (listener, address) = backend().await;
    let proxy = start(Settings::default(), vec![route(&[address])]);
    let (mut client, mut server) = pair(&proxy, &listener).await;
    let data = pattern();
    let send = async {
        server.write_all(&data).await.unwrap();
        server.shutdown().await.unwrap();
    };
    let receive = async {
        let mut got = 0;
        let mut piece = vec![0; 10_007];
        loop {
            let count = client.read(&mut piece).await.unwrap();
            if count == 0 {
                break got;
            }
            assert_eq!(piece[..count], data[got..got + count], "at {got}");
            got += count;
        }
    };
    let ((), got) = tokio::join!(send, receive);
    assert_eq!(got, BULK);
    drop(client);
    settled(&proxy, 1).await;
}

#[tokio::test]
async fn a_server_may_speak_first() {
    let (listener, address) = backend().await;
    let proxy = start(Settings::default(), vec![tcp(&[address])]);
    let (mut client, mut server) = pair(&proxy, &listener).await;
    server.write_all(b"220 ready").await.unwrap();
    let mut greeting = [0; 9];
    client.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 ready");
}

#[tokio::test]
async fn pitfall_22_half_closes_pass_in_either_order() {
    for client_first in [true, false] {
        let (listener, address) = backend().await;
        let proxy = start(Settings::default(), vec![tcp(&[address])]);
        let (client, server) = pair(&proxy, &listener).await;
        let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
        first.write_all(b"question").await.unwrap();
        first.shutdown().await.unwrap();
        assert_eq!(read_all(&mut second).await, b"question");
        assert_eq!(proxy.tracker.closed(), 0, "one direction is open");
        second.write_all(b"answer").await.unwrap();
        second.shutdown().await.unwrap();
        assert_eq!(read_all(&mut first).await, b"answer");
        settled(&proxy, 1).await;
    }
}

#[tokio::test]
async fn without_half_close_a_client_that_never_closes_has_no_slot_once_its_backend_has_ended() {
    for announced in [None, Some(ProxyVersion::V2)] {
        let (listener, address) = backend().await;
        let proxy = start(Settings::default(), vec![brief_with(&[address], announced)]);
        let (mut client, mut server) = pair(&proxy, &listener).await;
        client.write_all(b"question").await.unwrap();
        let mut said = vec![0; announced.map_or(0, |_| 28) + 8];
        server.read_exact(&mut said).await.unwrap();
        assert!(said.ends_with(b"question"));
        server.write_all(b"answer").await.unwrap();
        server.shutdown().await.unwrap();
        settled(&proxy, 1).await;
        assert_eq!(read_all(&mut server).await, b"");
        assert_eq!(read_all(&mut client).await, b"answer");
    }
}

#[tokio::test]
async fn without_half_close_a_client_that_ends_first_gets_its_answer() {
    let (listener, address) = backend().await;
    let proxy = start(Settings::default(), vec![brief(&[address])]);
    let (mut client, mut server) = pair(&proxy, &listener).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await, b"question");
    assert_eq!(proxy.tracker.closed(), 0, "the answer is to come");
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    settled(&proxy, 1).await;
    assert_eq!(read_all(&mut client).await, b"answer");
}

#[tokio::test]
async fn a_drain_without_half_close_waits_for_the_end_of_the_backend_alone() {
    let (listener, address) = backend().await;
    let proxy = start(Settings::default(), vec![brief(&[address])]);
    let (mut client, mut server) = pair(&proxy, &listener).await;
    proxy.drain.start();
    server.write_all(b"answer").await.unwrap();
    drop(server);
    proxy.drain.finished().await;
    settled(&proxy, 1).await;
    assert_eq!(read_all(&mut client).await, b"answer");
}

#[tokio::test]
async fn a_connection_ends_by_the_configuration_that_it_came_by() {
    let (listener, address) = backend().await;
    let proxy = start(Settings::default(), vec![tcp(&[address])]);
    let (mut before, mut before_server) = pair(&proxy, &listener).await;
    let table = RouteTable::new([(RouteId::new(0).unwrap(), brief(&[address]))]).unwrap();
    let next = proxy.live.borrow().successor(Settings::default(), table);
    proxy.live.send(Arc::new(next)).unwrap();
    let (mut after, mut after_server) = pair(&proxy, &listener).await;
    for server in [&mut before_server, &mut after_server] {
        server.shutdown().await.unwrap();
    }
    assert_eq!(read_all(&mut after).await, b"");
    assert_eq!(read_all(&mut before).await, b"");
    until("the newer one is closed", || proxy.tracker.closed() == 1).await;
    before.write_all(b"more").await.unwrap();
    before.shutdown().await.unwrap();
    assert_eq!(read_all(&mut before_server).await, b"more");
    settled(&proxy, 2).await;
}

#[tokio::test]
async fn a_reset_of_one_side_resets_the_other() {
    for client_first in [true, false] {
        let (listener, address) = backend().await;
        let proxy = start(Settings::default(), vec![tcp(&[address])]);
        let (client, server) = pair(&proxy, &listener).await;
        let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
        first.write_all(b"x").await.unwrap();
        second.read_exact(&mut [0]).await.unwrap();
        first.set_zero_linger().unwrap();
        drop(first);
        assert_eq!(second.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        settled(&proxy, 1).await;
    }
}

#[tokio::test]
async fn a_client_that_resets_frees_its_slot_though_the_backend_takes_nothing() {
    // In one piece it is copied, as a stream it goes through a pipe; either way it gets stuck.
    for pause in [Duration::ZERO, Duration::from_millis(1)] {
        let (listener, address) = backend().await;
        let proxy = start(Settings::default(), vec![tcp(&[address])]);
        let (client, _server) = pair(&proxy, &listener).await;
        // Stuck is who waits for room in vain. If it is too early to say, less is on its way than could be: that makes nothing
        // fail.
        while let Ok(room) = tokio::time::timeout(Duration::from_millis(200), client.writable()).await {
            room.unwrap();
            _ = client.try_write(&[0; 64 * 1024]);
            tokio::time::sleep(pause).await;
        }
        assert_eq!(proxy.tracker.closed(), 0);
        client.set_zero_linger().unwrap();
        drop(client);
        settled(&proxy, 1).await;
    }
}

#[tokio::test]
async fn what_a_side_said_before_it_broke_off_arrives() {
    let (listener, address) = backend().await;
    let proxy = start(Settings::default(), vec![tcp(&[address])]);
    let (client, mut server) = pair(&proxy, &listener).await;
    let (mut from, mut to) = client.into_split();
    // More than anybody on the way takes, to a server that answers without reading it.
    let send = tokio::spawn(async move { to.write_all(&pattern()).await });
    server.readable().await.unwrap();
    server.write_all(b"too much").await.unwrap();
    drop(server);
    let mut got = [0; 8];
    from.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"too much");
    assert!(send.await.unwrap().is_err());
    drop(from);
    settled(&proxy, 1).await;
}

#[tokio::test]
async fn the_second_backend_is_dialled_if_the_first_is_not_there() {
    let (listener, address) = backend().await;
    let proxy = start(Settings::default(), vec![tcp(&[refused().await, address])]);
    let (mut client, mut server) = pair(&proxy, &listener).await;
    client.write_all(b"x").await.unwrap();
    server.read_exact(&mut [0]).await.unwrap();
    assert_eq!(proxy.heard.reasons(), [(EventKind::BackendFailed, "dial_refused")]);
}

#[tokio::test]
async fn without_a_backend_the_client_is_closed() {
    let proxy = start(Settings::default(), vec![tcp(&[refused().await, refused().await])]);
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(read_all(&mut client).await, b"");
    until("the permit is back", || proxy.tracker.closed() == 1).await;
    assert_eq!(proxy.heard.reasons(), [(EventKind::BackendFailed, "dial_refused"); 2]);
}

#[tokio::test]
async fn a_client_that_resets_while_dialling_frees_its_slot() {
    // A full queue: the kernel drops further attempts to connect, which go on until they time out.
    let full = support::full_backend().await;
    let proxy = start(Settings::default(), vec![tcp(&[full.address])]);
    let client = TcpStream::connect(proxy.address).await.unwrap();
    until("it is bound", || proxy.tracker.bound() == 1).await;
    client.set_zero_linger().unwrap();
    drop(client);
    settled(&proxy, 1).await;
}

#[tokio::test]
async fn an_unused_tunnel_ends() {
    for (client_closes, server_closes) in [(false, false), (true, false), (false, true)] {
        let (listener, address) = backend().await;
        let mut settings = Settings::default();
        settings.keep_alive.tunnel_idle = Some(Duration::from_millis(60));
        let proxy = start(settings, vec![tcp(&[address])]);
        let (mut client, mut server) = pair(&proxy, &listener).await;
        if client_closes {
            client.shutdown().await.unwrap();
        }
        if server_closes {
            server.shutdown().await.unwrap();
        }
        assert_eq!(read_all(&mut client).await, b"");
        assert_eq!(read_all(&mut server).await, b"");
        until("the permit is back", || proxy.tracker.closed() == 1).await;
        assert_eq!(proxy.heard.reasons(), [(EventKind::Swept, "idle_timeout")]);
    }
}

#[tokio::test]
async fn a_used_tunnel_lives_until_its_lifetime_is_over() {
    let (listener, address) = backend().await;
    let mut settings = Settings::default();
    settings.keep_alive.tunnel_idle = Some(Duration::from_millis(150));
    settings.timeouts.lifetime = Some(Duration::from_millis(600));
    let proxy = start(settings, vec![tcp(&[address])]);
    let (mut client, mut server) = pair(&proxy, &listener).await;
    let mut pings = 0;
    let mut every = tokio::time::interval(Duration::from_millis(20));
    while client.write_all(b"x").await.is_ok() && server.read(&mut [0; 8]).await.is_ok_and(|count| count > 0) {
        pings += 1;
        every.tick().await;
    }
    assert!(pings >= 10, "it lived longer than the idle time-out: {pings}");
    until("the permit is back", || proxy.tracker.closed() == 1).await;
    assert_eq!(proxy.heard.reasons(), [(EventKind::Terminated, "lifetime")]);
}

#[tokio::test]
async fn a_full_route_is_not_dialled() {
    let (listener, address) = backend().await;
    let proxy = start(Settings::default(), vec![tcp(&[address])]);
    *proxy.tracker.refuse_bind.lock().unwrap() = Some(conn_tracker::Reason::RouteLimit);
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(read_all(&mut client).await, b"");
    until("the permit is back", || proxy.tracker.closed() == 1).await;
    let event = proxy.heard.last().unwrap();
    assert_eq!((event.kind, event.reason), (EventKind::Refused, "route_limit"));
    assert!(event.route.is_some());
    support::nobody_came(&listener).await;
}

#[tokio::test]
async fn lists_and_blocks_of_a_route_close() {
    let (listener, address) = backend().await;
    let mut listed = tcp(&[address]);
    listed.security.access = AccessList { block: ["127.0.0.0/8".parse().unwrap()].into_iter().collect(), allow: None };
    let mut block = tcp(&[address]);
    block.action = Action::Block;
    for (route, reason) in [(listed, "block_list"), (block, "block_route")] {
        let proxy = start(Settings::default(), vec![route]);
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(read_all(&mut client).await, b"");
        until("the permit is back", || proxy.tracker.closed() == 1).await;
        assert_eq!(proxy.heard.reasons(), [(EventKind::Blocked, reason)]);
        assert_eq!(proxy.tracker.bound(), 0, "a blocked client takes no slot of the route");
    }
    support::nobody_came(&listener).await;
}

#[tokio::test]
async fn pitfall_07_a_panic_costs_one_connection_and_no_slot() {
    let (listener, address) = backend().await;
    let route = tcp(&[address]);
    let mut named = tcp(&[address]);
    named.name = "tls".into();
    named.tls = Some(proxy_route::TlsMode::Passthrough);
    named.matching.domains = vec!["shop.test".parse().unwrap()];
    let proxy = start(Settings::default(), vec![route, named]);
    *proxy.tracker.panic_on_bind.lock().unwrap() = true;
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(b"plain").await.unwrap();
    assert!(matches!(client.read(&mut [0]).await, Ok(0) | Err(_)));
    until("the permit is back", || proxy.tracker.closed() == 1).await;
    *proxy.tracker.panic_on_bind.lock().unwrap() = false;
    let (mut client, server) = tokio::join!(
        async {
            let mut client = TcpStream::connect(proxy.address).await.unwrap();
            client.write_all(b"plain").await.unwrap();
            client
        },
        accepted(&listener)
    );
    drop(server);
    assert!(matches!(client.read(&mut [0]).await, Ok(0) | Err(_)));
    until("the permit is back", || proxy.tracker.closed() == 2).await;
}
