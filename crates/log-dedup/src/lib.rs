//! Folds repeated events into summaries: an attack is a few lines, and nothing is lost.
//!
//! A server that refuses a million connections must say so, but not a million times. The first event of a kind is
//! written at once and as it is; what follows is counted, and once per interval there is one line with how often, why,
//! on which route and from whom. Nothing is keyed by address, so an attack from a million addresses folds into one line
//! like one from a single address, and memory is bounded.
//!
//! There are two ways in, and both may be used at once:
//!
//! - [`FoldFilter`], for programs that use [`tracing`]: events with a field `fold`, and those of chosen libraries, are
//!   folded; all others pass untouched and in their order. [`install`] sets up everything at once.
//! - [`Dedup::record`], for hot paths: kind, reason, route and source, at a fraction of the cost.
//!
//! A [`Guard`] sees to it that lines are written in time, and nothing is lost at the end.
//!
//! ```
//! use log_dedup::{Dedup, Guard, Kind};
//!
//! const REFUSED: usize = 0;
//! let dedup = Dedup::builder()
//!     .kind(Kind::new("refused").reads("refused", "connection", "connections"))
//!     .routes(|route| (route == 7).then(|| "shop".to_owned()))
//!     .build();
//! let guard = Guard::ticking(&dedup)?;
//!
//! let client = "203.0.113.7".parse().ok();
//! // Written: refused connection reason=client_limit route=shop source=203.0.113.7
//! assert!(dedup.record(REFUSED, "client_limit", Some(7), client));
//! for _ in 0..1500 {
//!     assert!(!dedup.record(REFUSED, "client_limit", Some(7), client), "counted");
//! }
//! // Written: refused 1 500 connections in 0.0s (97 943/s) clients≈1 reasons client_limit=1 500 routes shop=1 500
//! //          top 203.0.113.7×1 500 from 10:39:13.120 to 10:39:13.135
//! drop(guard);
//! assert_eq!(dedup.totals(REFUSED).recorded(), 1501);
//! # Ok::<(), std::io::Error>(())
//! ```
#![forbid(unsafe_code)]

mod books;
mod builder;
mod cell;
mod clock;
mod core;
mod counts;
mod dedup;
mod episode;
mod filter;
mod guard;
mod keys;
mod kind;
mod local;
mod origin;
mod record;
mod sink;
mod sketch;
mod spelled;
mod summary;
mod sweep;
mod sync;
mod text;
mod wording;

pub use builder::Builder;
pub use clock::{Clock, SystemClock};
pub use counts::{Count, Route, Totals};
pub use dedup::Dedup;
pub use filter::{FoldFilter, Source};
pub use guard::{Guard, InstallError, install};
pub use kind::{Folding, Kind, Settings};
pub use sink::{Sink, ToTracing};
pub use sketch::Foremost;
pub use summary::{Closing, Occurrence, Summary, TopSource};

/// What the README shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
