//! Exact, memory-lean connection counting: clients, routes, rates and expiry, without a clock or a socket.
//!
//! A [`Table`] is the [`ConnectionTracker`](conn_tracker::ConnectionTracker) that really counts. It promises:
//!
//! - **Never above.** No admission brings a scope above its limit, from any number of threads.
//! - **Never below.** A refusal names the first scope that was full of connections that were admitted. An attempt that
//!   is itself refused is never visible to another one.
//! - **All or nothing.** A refused decision took no slot and no rate token.
//! - **Small.** 12 bytes per IPv4 client, 16 per IPv6 /64, in hash tables that grow by an eighth and give memory back;
//!   1,024 refused clients are remembered in a fixed sketch. Nothing is evicted while it holds a slot or has used up some of its rate.
//!
//! Time comes in as an argument, so a virtual clock can drive it. Nothing here knows what a socket is:
//!
//! ```
//! use conn_tracker::{Arrival, ConnectionTracker, Inspect, Permit, Reason};
//! use limits_core::{Limits, RouteLimits, Table, TableConfig};
//! use std::{net::IpAddr, sync::Arc, time::{Duration, Instant}};
//!
//! // At most 2 jobs of one host at a time, and 1 of all of them that prints.
//! let now = Instant::now();
//! let printer = RouteLimits { max_connections: 1, ..RouteLimits::new("printer") };
//! let limits = Limits { per_client: 2, routes: vec![printer], ..Limits::default() };
//! let table = Table::new(TableConfig::default(), limits, now)?;
//! let printer = table.route_id("printer").expect("it was just named");
//!
//! let tracker: Arc<dyn ConnectionTracker> = table.for_worker();
//! let host = |last| Arrival::client(IpAddr::from([192, 0, 2, last]));
//! let mut first = Permit::open(&tracker, now, host(1)).expect("there is room");
//! let mut second = Permit::open(&tracker, now, host(1)).expect("there is room");
//! let third = Permit::open(&tracker, now, host(1)).expect_err("two is all");
//! assert_eq!((third.reason, third.limit()), (Reason::ClientLimit, 2));
//!
//! first.bind(now, printer).expect("the printer is free");
//! assert_eq!(second.bind(now, printer).unwrap_err().reason, Reason::RouteLimit);
//! drop(first);
//! second.bind(now, printer).expect("the printer is free again");
//!
//! drop(second);
//! assert_eq!(table.snapshot().tracked_clients, 0);
//!
//! // Clients with a rate are forgotten once it has recovered: let the walk tick.
//! table.expire(now + Duration::from_secs(1), 65_536);
//! # Ok::<(), limits_core::LimitsError>(())
//! ```
#![deny(unsafe_code)]

mod admission;
mod binding;
mod capacity;
mod clock;
mod dense;
mod entry;
mod expiry;
#[cfg(any(loom, shuttle))]
pub mod ghost;
mod inspect;
mod known;
#[cfg(any(loom, shuttle))]
mod ledger;
mod limits;
mod listed;
mod on_route;
mod packed;
mod prefetch;
mod rate;
mod release;
mod requests;
mod routes;
mod secret;
mod settings;
mod shard;
mod sizing;
mod sketch;
mod sync;
mod table;
mod walk;
mod worker;

pub use conn_tracker::{SweepQueue, Swept, Verdict};
pub use expiry::Expired;
pub use limits::{ClientOverride, Limits, LimitsError, RequestRate, RouteLimits};
pub use table::{Table, TableConfig};
