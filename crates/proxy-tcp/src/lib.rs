//! The data plane of smartproxy below HTTP: from `accept` to the last byte of a passed-on connection.
//!
//! Data flows one way: accept → admit → identify → classify → route → bind → tunnel or serve → drop.
//!
//! - [`Listeners`] opens every port once per worker, before anything runs; [`Worker`] is one thread of the data plane.
//! - Admission comes before a byte is read and before the socket is registered anywhere: a refusal is an accept and a
//!   close. The [`Permit`](conn_tracker::Permit) taken there goes wherever the connection goes, and its slots are given
//!   back when the last owner drops it.
//! - A PROXY header of a trusted peer names the client; [`proxy_header`] tells backends the same.
//! - [`HelloReader`] finds out what a TLS connection is for, without decrypting it. A port whose only route needs no
//!   bytes waits for none, so that servers may speak first.
//! - A connection is bound to its route before a backend is dialled. Tunnels move bulk with `splice(2)`, and hold no
//!   buffer and no pipe while they are idle.
//! - What turns out to be HTTP, in plain or in TLS that ends here, is handed to a [`ServeHttp`].
//! - [`Shed`] drops the connection attempts of clients that keep knocking while they are refused, in the kernel.
//! - [`Timers`] is the one clock of all time-outs of a worker.
//! - [`Generation`] is one configuration in force, [`Live`] always the newest; [`Drain`] ends everything in order.
//!
//! A TCP proxy in a few lines:
//!
//! ```
//! use conn_tracker::{Ignore, RouteId, Unlimited};
//! use proxy_route::{Action, Forward, PortRange, Protocol, Route, RouteTable, Settings, Target, TargetPort};
//! use proxy_tcp::{Drain, Generation, Listeners, Live, NoHttp, Shed, Timers, Worker};
//! use std::{net::Ipv4Addr, num::NonZeroUsize, sync::Arc};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tokio::net::{TcpListener, TcpStream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let backend = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
//! let target = Target::new("127.0.0.1", TargetPort::Fixed(backend.local_addr()?.port()));
//! let mut route = Route::new("echo", Action::Forward(Box::new(Forward::new(vec![target]))));
//! route.protocol = Protocol::Tcp;
//! route.matching.ports = vec![PortRange::single(0)]; // a free one
//! let table = RouteTable::new([(RouteId::new(0).unwrap(), route)])?;
//!
//! let listeners = Listeners::bind(&[Ipv4Addr::LOCALHOST.into()], [0], NonZeroUsize::MIN)?;
//! let address = listeners.addresses()[0];
//! let (_reload, newest) = tokio::sync::watch::channel(Arc::new(Generation::new(Settings::default(), table)));
//! let (drain, watch) = Drain::new();
//! let worker = Worker {
//!     tracker: Arc::new(Unlimited::default()),
//!     report: Arc::new(Ignore),
//!     live: Live::new(newest),
//!     drain: watch,
//!     http: Arc::new(NoHttp),
//!     timers: Timers::new(),
//!     shed: Shed::new(),
//! };
//! let worker = tokio::spawn(worker.run(listeners.into_workers().remove(0)));
//!
//! let mut client = TcpStream::connect(address).await?;
//! let (mut server, _) = backend.accept().await?;
//! server.write_all(b"hello").await?;
//! drop(server);
//! let mut greeting = String::new();
//! client.read_to_string(&mut greeting).await?;
//! assert_eq!(greeting, "hello");
//!
//! drop(client);
//! drain.start();
//! worker.await??; // the listeners are closed
//! drain.finished().await; // and the last connection is over
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod access;
mod admit;
mod chance;
mod connection;
mod dialling;
mod drain;
pub mod fuzzing;
mod generation;
mod hello;
mod lifespan;
mod listen;
mod pipe;
mod proxy_header;
mod respond;
mod serve;
mod shed;
mod socket;
mod timers;
mod tunnel;
mod upstream;
mod worker;

pub use chance::chance;
pub use drain::{Drain, DrainWatch, Draining};
pub use generation::{Generation, Live};
pub use hello::{ClientHello, HelloProgress, HelloReader};
pub use lifespan::{End, Lifespan, Signs};
pub use listen::{BACKLOG, ListenError, Listeners, SocketFile, WorkerListener, listen_unix};
pub use proxy_header::{local_proxy_header, proxy_header};
pub use respond::retry_after;
pub use serve::{HttpConnection, NoHttp, ServeHttp};
pub use shed::Shed;
pub use socket::{ClientSocket, poll_recv, poll_send};
pub use timers::{TICK, Tick, TimedOut, Timer, Timers, Within};
pub use upstream::{Backend, Change, Checked, Cluster, DialError, InFlight, Order, keep_resolved, system_lookup};
pub use worker::Worker;
