//! The HTTP side of smartproxy: TLS termination, HTTP/1.1, HTTP/2, WebSocket, and the connections to backends.
//!
//! [`HttpServer`] is what the TCP side hands connections to. It takes the [`Permit`](conn_tracker::Permit) along and
//! counts nothing itself: each request binds the connection to its route before a backend is dialled, and the slots are
//! given back when the last request, or the tunnel that the connection became, is over.
//!
//! - A connection ends its TLS, tells HTTP/1.1 from HTTP/2 by ALPN or by the first bytes, and serves requests. An idle
//!   HTTP/1.1 connection is *parked*: socket, TLS state, permit and one timer are all that is kept of it. On HTTP/2 the
//!   first write of a turn waits for the others, so that one system call carries many responses.
//! - A request finds its route by host, path, headers, TLS version and client, is refused, answered or forwarded. Bodies
//!   stream both ways in constant memory; what a backend cut short never looks whole to the client.
//! - WebSocket and other upgrades, on HTTP/1.1 and as streams of HTTP/2 (RFC 8441), become tunnels.
//! - [`check_health`] asks backends at intervals whether they are well, once for all workers.
//! - [`HttpGeneration`] is one configuration with its TLS: [`TlsPorts`] towards clients, [`TlsBackends`] towards backends.
//!
//! ```
//! use conn_tracker::{Arrival, ConnectionTracker, Ignore, Permit, RouteId, Unlimited};
//! use proxy_http::{HttpGeneration, HttpServer, TlsShared};
//! use proxy_route::{Action, PortRange, Respond, Route, RouteTable, Settings};
//! use proxy_tcp::{Drain, Generation, HttpConnection, ServeHttp, Timers};
//! use std::{sync::Arc, time::Instant};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tokio::net::{TcpListener, TcpStream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut route = Route::new("hello", Action::Respond(Respond { status: 200, headers: vec![], body: "hi".into() }));
//! route.matching.ports = vec![PortRange::single(8080)];
//! let table = RouteTable::new([(RouteId::new(0).unwrap(), route)])?;
//! let generation = Arc::new(Generation::new(Settings::default(), table));
//! let newest = HttpGeneration::new(generation, &TlsShared::new()?)?;
//!
//! let (_reload, newest) = tokio::sync::watch::channel(Arc::new(newest));
//! let (_drain, watch) = Drain::new();
//! let server = HttpServer::new(newest, Arc::new(Ignore), watch, Timers::new());
//!
//! // What the TCP side does: accept, ask for slots, hand over.
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let mut client = TcpStream::connect(listener.local_addr()?).await?;
//! let (io, peer) = listener.accept().await?;
//! let tracker: Arc<dyn ConnectionTracker> = Arc::new(Unlimited::default());
//! let now = Instant::now();
//! let permit = Permit::open(&tracker, now, Arrival::client(peer.ip()))?;
//! tokio::spawn(server.serve(HttpConnection {
//!     local: io.local_addr()?,
//!     io: io.into(),
//!     received: Default::default(),
//!     peer,
//!     client: peer.ip(),
//!     permit,
//!     port: 8080,
//!     hello: None,
//!     accepted: now,
//! }));
//!
//! client.write_all(b"GET / HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n").await?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer).await?;
//! assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hi"));
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod body;
mod clock;
mod connection;
mod date;
mod fields;
pub mod fuzzing;
mod generation;
mod headers;
mod health;
mod http1;
mod io;
mod message;
mod request;
mod server;
mod special;
mod tls;
mod tunnel;
mod turn;
mod upstream;

pub use generation::HttpGeneration;
pub use health::check_health;
pub use server::HttpServer;
pub use tls::{Handshakes, TlsBackends, TlsError, TlsPorts, TlsShared};

#[cfg(test)]
mod tests;
