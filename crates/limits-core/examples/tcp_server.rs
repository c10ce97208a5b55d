//! A TCP server that limits connections: 100 in all, 2 of a client, 60 a minute of a client.
//!
//! `cargo run -p limits-core --example tcp_server` serves an echo on a free port of loopback, tries its own limits and ends.
//! Everything up to `main` is what a server of yours would have.
#![allow(clippy::unwrap_used, reason = "an example shows the good path")]

use conn_tracker::{Arrival, ConnectionTracker, Inspect, Origin, Permit};
use limits_core::{Limits, Table, TableConfig};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Accepts for ever. Who is refused is closed before anything is read from it.
async fn serve(listener: TcpListener, tracker: Arc<dyn ConnectionTracker>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        // This server has no routes, so nothing is ever pending.
        let arrival = Arrival { origin: Origin::Client(peer.ip()), pending: false };
        match Permit::open(&tracker, Instant::now(), arrival) {
            Ok(permit) => drop(tokio::spawn(echo(stream, permit))),
            Err(rejection) => println!("refused {}: {rejection}", peer.ip()),
        }
    }
}

/// The permit lives as long as the connection: however this ends, its slots are free afterwards.
async fn echo(mut stream: TcpStream, _permit: Permit) -> std::io::Result<()> {
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await.map(drop)
}

/// Clients whose rate has recovered are forgotten, some thousand places of the table at a time.
async fn forget(table: Arc<Table>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        table.expire(Instant::now(), 20_000);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let limits = Limits { max_connections: 100, per_client: 2, rate_per_minute: 60, ..Limits::default() };
    let table = Table::new(TableConfig::default(), limits, Instant::now()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, table.for_worker()));
    tokio::spawn(forget(Arc::clone(&table)));

    let (first, second) = (echoes(address).await, echoes(address).await);
    assert!(first.is_some() && second.is_some(), "two are welcome");
    assert!(echoes(address).await.is_none(), "the third is closed");
    drop(first);
    let me: IpAddr = address.ip();
    while table.explain(me).active > 1 {
        tokio::task::yield_now().await;
    }
    assert!(echoes(address).await.is_some(), "a slot that was given back is free at once");
    println!("{:#?}", table.explain(me));
}

/// A connection that was answered.
async fn echoes(address: std::net::SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"x").await.ok()?;
    let mut byte = [0];
    stream.read_exact(&mut byte).await.ok()?;
    Some(stream)
}

#[test]
fn the_whole_example_runs() {
    main();
}
