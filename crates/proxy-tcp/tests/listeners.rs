//! Opening, changing and draining listeners.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use conn_tracker::{EventKind, RouteId};
use proxy_route::{RouteTable, Settings};
use proxy_tcp::{Generation, Listeners, WorkerListener};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use support::{accepted, backend, pair, start, tcp, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn workers(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

#[test]
fn all_workers_listen_on_one_free_port() {
    let listeners = Listeners::bind(&[LOCALHOST], [0, 0], workers(3)).unwrap();
    let [one, other] = listeners.addresses() else { panic!("two addresses") };
    assert_ne!(one.port(), other.port());
    assert!(one.port() != 0 && other.port() != 0);
    for worker in listeners.into_workers() {
        assert_eq!(worker.iter().map(WorkerListener::port).collect::<Vec<_>>(), [0, 0]);
    }
}

#[test]
fn both_families_share_a_port() {
    let port = Listeners::bind(&[LOCALHOST], [0], workers(1)).unwrap().addresses()[0].port();
    let both = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let listeners = Listeners::bind(&both, [port], workers(2)).unwrap();
    assert!(listeners.addresses().iter().all(|address| address.port() == port));
}

#[test]
fn what_cannot_be_opened_is_said_before_anything_starts() {
    let taken = std::net::TcpListener::bind((LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let error = Listeners::bind(&[LOCALHOST], [address.port()], workers(1)).unwrap_err();
    assert_eq!(error.address(), Some(address));
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {address}: another program has this port; stop it or choose another port")
    );
    let error = Listeners::bind(&["192.0.2.1".parse().unwrap()], [0], workers(1)).unwrap_err();
    assert!(error.to_string().contains("choose one that this machine has"), "{error}");
}

#[tokio::test]
async fn a_drain_takes_who_is_queued_and_waits_for_everybody() {
    let (listener, address) = backend().await;
    let mut proxy = start(Settings::default(), vec![tcp(&[address])]);
    let (mut client, mut server) = pair(&proxy, &listener).await;
    // The kernel completes this one by itself; nobody has had a chance to accept it when the drain begins.
    let queued = std::net::TcpStream::connect(proxy.address).unwrap();
    proxy.drain.start();
    let mut second = accepted(&listener).await;
    (&mut proxy.worker).await.unwrap().unwrap();
    assert!(TcpStream::connect(proxy.address).await.is_err(), "nobody listens any more");

    client.write_all(b"still here").await.unwrap();
    let mut got = [0; 10];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"still here");
    let finished = proxy.drain.finished();
    tokio::pin!(finished);
    tokio::select! {
        biased;
        () = &mut finished => panic!("two connections are open"),
        () = tokio::task::yield_now() => {}
    }
    drop((client, server, queued));
    assert_eq!(second.read(&mut got).await.unwrap(), 0);
    drop(second);
    finished.await;
    assert_eq!(proxy.tracker.closed(), 2);
}

#[tokio::test]
async fn a_port_without_routes_is_closed() {
    let (listener, address) = backend().await;
    let proxy = start(Settings::default(), vec![tcp(&[address])]);
    let (mut client, mut server) = pair(&proxy, &listener).await;
    proxy.live.send(Arc::new(Generation::new(Settings::default(), RouteTable::default()))).unwrap();
    until("the listener is closed", || std::net::TcpStream::connect(proxy.address).is_err()).await;
    let reasons = proxy.heard.reasons();
    assert!(reasons.iter().all(|reason| *reason == (EventKind::BadRequest, "no_route")), "{reasons:?}");
    client.write_all(b"x").await.unwrap();
    server.read_exact(&mut [0]).await.unwrap();
}

#[tokio::test]
async fn new_connections_follow_the_newest_routes() {
    let ((old, old_address), (new, new_address)) = (backend().await, backend().await);
    let proxy = start(Settings::default(), vec![tcp(&[old_address])]);
    let (mut client, mut server) = pair(&proxy, &old).await;
    let table = RouteTable::new([(RouteId::new(0).unwrap(), tcp(&[new_address]))]).unwrap();
    proxy.live.send(Arc::new(Generation::new(Settings::default(), table))).unwrap();
    pair(&proxy, &new).await;
    client.write_all(b"x").await.unwrap();
    server.read_exact(&mut [0]).await.unwrap();
    support::nobody_came(&old).await;
}

#[tokio::test]
async fn a_listener_can_be_added() {
    let (listener, address) = backend().await;
    let proxy = start(Settings::default(), vec![tcp(&[address])]);
    let socket = std::net::TcpListener::bind((LOCALHOST, 0)).unwrap();
    let second = socket.local_addr().unwrap();
    proxy.added.send(WorkerListener::new(socket, 0).unwrap()).unwrap();
    let (client, mut server) = tokio::join!(TcpStream::connect(second), accepted(&listener));
    client.unwrap().write_all(b"x").await.unwrap();
    server.read_exact(&mut [0]).await.unwrap();
}
