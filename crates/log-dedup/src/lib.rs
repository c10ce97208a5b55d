//! Folds repeated events into summaries: an attack is a few lines, and nothing is lost.
//!
//! A server that refuses a million connections must say so, but not a million times. The first event of a kind is
//! written at once, as it is; what follows is counted, and once per interval there is one line with how often, why, on
//! which route and from whom. Nothing is keyed by address, so an attack from a million addresses folds into one line
//! like one from a single address, and memory is bounded.
//!
//! - [`Dedup`] is the handle that events are recorded with: cheap, from any thread, with the time as an argument.
//! - [`Ticker`] ends the intervals and writes what is left when it drops.
//! - [`ToTracing`] writes the lines as [`tracing`] events; anything else can be a [`Sink`].
//!
//! ```
//! use log_dedup::{Dedup, Kind, Settings, ToTracing};
//! use std::time::{Duration, Instant};
//!
//! const REFUSED: usize = 0;
//! let kinds = [Kind::new("refused", "refused", "connection", "connections")];
//! let start = Instant::now();
//! let routes = |route| (route == 7).then(|| "shop".to_owned());
//! let dedup = Dedup::new(Settings::default(), &kinds, start, routes, ToTracing::Message);
//!
//! let client = "203.0.113.7".parse().ok();
//! // Written: refused connection reason=client_limit route=shop source=203.0.113.7
//! assert!(dedup.record(start, REFUSED, "client_limit", Some(7), client));
//! for _ in 0..1500 {
//!     assert!(!dedup.record(start, REFUSED, "client_limit", Some(7), client), "counted");
//! }
//! // Written: refused 1 500 connections in 5.0s (300/s) clients≈1 reasons client_limit=1 500 routes shop=1 500
//! //          top 203.0.113.7×1 500
//! dedup.tick(start + Duration::from_secs(5));
//! assert_eq!(dedup.totals(REFUSED).recorded(), 1501);
//! ```
#![forbid(unsafe_code)]

mod dedup;
mod distinct;
mod foremost;
mod settings;
mod sink;
mod summary;
mod tally;
mod ticker;

pub use dedup::{Dedup, Totals};
pub use settings::{Kind, Settings};
pub use sink::{Sink, ToTracing};
pub use summary::{Occurrence, Summary};
pub use ticker::Ticker;
