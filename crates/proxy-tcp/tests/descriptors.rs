//! Running out of descriptors. Alone in its process, whose limit it changes.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use conn_tracker::EventKind;
use proxy_route::Settings;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::time::Instant;
use support::{accepted, backend, pair, start, tcp, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn pitfall_37_clients_are_turned_away_until_there_are_descriptors_again() {
    let (listener, address) = backend().await;
    let proxy = start(Settings::default(), vec![tcp(&[address])]);
    let (mut client, mut server) = pair(&proxy, &listener).await;

    let clients: Vec<_> = (0..20).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    let waiting = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let before = getrlimit(Resource::Nofile);
    let lowest_free = u64::try_from(std::fs::File::open("/dev/null").unwrap().as_raw_fd()).unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(lowest_free), ..before }).unwrap();
    for client in &clients {
        client.connect(&proxy.address.into()).unwrap();
    }
    for client in clients {
        client.set_nonblocking(true).unwrap();
        let ended = || client.peek(&mut [MaybeUninit::uninit()]).is_ok_and(|count| count == 0);
        until("it is turned away", ended).await;
    }
    assert!(proxy.heard.reasons().iter().all(|reason| *reason == (EventKind::AcceptFailed, "descriptors")));
    assert_eq!(proxy.heard.reasons().len(), 20, "one event for each, and no spinning");
    client.write_all(b"x").await.unwrap();
    server.read_exact(&mut [0]).await.unwrap();

    // Not even what was kept for this can be had: whoever comes waits, and nobody spins meanwhile.
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..before }).unwrap();
    let told = proxy.heard.reasons().len();
    let begun = Instant::now();
    waiting.connect(&proxy.address.into()).unwrap();
    until("it is told some times", || proxy.heard.reasons().len() >= told + 4).await;
    let times = proxy.heard.reasons().len() - told;
    let most = begun.elapsed().as_millis() / 50 + 2;
    assert!(times as u128 <= most, "{times} times, and not more than {most} with a pause of 50 ms");
    setrlimit(Resource::Nofile, before).unwrap();
    let mut server = accepted(&listener).await;
    server.write_all(b"at last").await.unwrap();
    waiting.set_nonblocking(true).unwrap();
    let served = || waiting.peek(&mut [MaybeUninit::uninit(); 8]).is_ok_and(|count| count == 7);
    until("it is served", served).await;
    pair(&proxy, &listener).await;
}
