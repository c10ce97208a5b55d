//! The shared words of connection limiting: tracker trait, permits, rejections, client keys.
//!
//! A proxy that limits connections has many places that *hold* slots (a splice task, an HTTP connection, a tunnel) and
//! one place that *counts* them. This crate is what both sides agree on, and nothing else: it counts nothing, reads no
//! clock, opens no socket and depends on no other crate.
//!
//! - [`ConnectionTracker`] decides and counts. `limits-core` has the real one, [`Unlimited`] admits everything.
//! - [`Permit`] owns every slot of one connection and gives all of them back, once, when it drops.
//! - [`RequestPermit`] does the same for one request.
//! - [`Rejection`] says why a slot was refused: small, `Copy`, no strings.
//! - [`ClientKey`] is what a per-client limit counts by: an address cut to its prefix, built once, by parsing.
//! - [`Inspect`] reads the counts, [`Report`] hears of everything that went wrong, and of every [access](AccessRecord).
//! - [`SweepQueue`] is how both sides go through what may be over: a snapshot, in bounded batches.
//!
//! ```
//! use conn_tracker::{Arrival, ConnectionTracker, Permit, Unlimited};
//! use std::{sync::Arc, time::Instant};
//!
//! let tracker: Arc<dyn ConnectionTracker> = Arc::new(Unlimited::default());
//! let arrival = Arrival::client("203.0.113.7".parse().unwrap());
//!
//! let permit = Permit::open(&tracker, Instant::now(), arrival).expect("nothing is limited");
//! // … serve the connection; the permit travels with it …
//! drop(permit); // every slot is free again
//! ```
#![forbid(unsafe_code)]

mod access;
mod address;
mod hold;
mod inspect;
mod permit;
mod rejection;
mod report;
mod request_hold;
mod route;
mod slots;
mod state;
mod sweep_queue;
mod tracker;
mod unlimited;

pub use access::{AccessRecord, RequestLine};
pub use address::{ClientKey, PrefixError, Prefixes, canonical};
pub use hold::{Hold, leaked_holds};
pub use inspect::{Explanation, Inspect, ScopeState, Snapshot, TopBy, TopClient};
pub use permit::{Permit, RequestPermit};
pub use rejection::{Reason, Rejection, Scope};
pub use report::{Event, EventKind, Ignore, Report, RequestOutcome};
pub use request_hold::RequestHold;
pub use route::{MAX_ROUTES, RouteId};
pub use slots::{Binding, Slots};
pub use sweep_queue::{SweepQueue, Swept, Verdict};
pub use tracker::{Arrival, ConnectionTracker, Origin};
pub use unlimited::Unlimited;
