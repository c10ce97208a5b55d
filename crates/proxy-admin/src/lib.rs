//! Metrics, health and limits API of smartproxy.
//!
//! An operator asks three things: is it well, what do the limits do, and who is behind it. [`Admin`] answers over HTTP
//! from a [`Status`], which the program fills; [`EventCounters`] is the part of it that counts.
//!
//! | path | answer |
//! |---|---|
//! | `GET /healthz` | 200 `ok` while the process lives; needs no token |
//! | `GET /readyz` | 200 `ready`, or 503 `starting` or `draining` |
//! | `GET /metrics` | OpenMetrics text; labels are `route`, `scope`, `reason`, `listener`, `result`, never an address |
//! | `GET /api/v1/status` | version, uptime, listeners |
//! | `GET /api/v1/limits?top=20` | every scope with its limit and counts, the address table, the foremost clients |
//! | `GET /api/v1/routes` | the routes and their backends |
//! | `POST /api/v1/reload`, `/api/v1/drain` | 501 where the program cannot |
//!
//! The endpoint cannot be used against the program: at most 64 connections, small requests, time-outs everywhere, no
//! listening beyond loopback and Unix sockets without a token, and no answers to web pages in an operator's browser.
//!
//! ```no_run
//! use proxy_admin::{Admin, Status};
//! use std::{net::TcpListener, sync::Arc};
//!
//! /// On a thread of its own, so that a scrape never takes time from traffic.
//! fn serve(status: Arc<dyn Status>) -> std::io::Result<()> {
//!     let admin = Admin::new(TcpListener::bind("127.0.0.1:9901")?, None, status)?;
//!     let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//!     runtime.block_on(admin.serve(std::future::pending()))
//! }
//! ```
#![forbid(unsafe_code)]

mod access;
mod api;
mod counters;
mod documents;
mod metrics;
mod process;
mod server;
mod status;

pub use counters::{CountedRoute, Counts, EventCount, EventCounters, RequestCount};
pub use server::{Admin, AdminListener};
pub use status::{BackendOverview, HandshakeOverview, Overview, Readiness, RouteOverview, Status};
