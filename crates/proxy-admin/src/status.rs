//! What the endpoint asks the program.

use crate::EventCounters;
use conn_tracker::{Inspect, RouteId};
use std::fmt::Debug;
use std::time::{Duration, SystemTime};

/// Whether the program wants traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Every listener is open.
    Ready,
    /// Not every listener is open yet.
    Starting,
    /// It is about to end and finishes what it has.
    Draining,
}

impl Readiness {
    /// The name in the API.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Draining => "draining",
        }
    }
}

/// The program at large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// Its version.
    pub version: String,
    /// When it started.
    pub started: SystemTime,
    /// How long ago that was, by a clock that nobody sets.
    pub uptime: Duration,
    /// Data-plane threads.
    pub workers: usize,
    /// Addresses it listens on, as `203.0.113.7:443` or `unix:/path`.
    pub listeners: Vec<String>,
    /// Whether limits refuse; `false` is a dry run.
    pub enforce: bool,
    /// How often a new configuration was put in force since the start.
    pub reloads: u64,
    /// TLS handshakes.
    pub handshakes: HandshakeOverview,
}

/// TLS handshakes that are not over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeOverview {
    /// Those that go on.
    pub active: u64,
    /// Those that wait for their turn.
    pub waiting: u64,
    /// How many may go on at one time; `None` is unlimited.
    pub limit: Option<u64>,
}

/// One route of the configuration in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteOverview {
    /// What its counts are kept under.
    pub id: RouteId,
    /// Its name.
    pub name: String,
    /// Ports it is served on, as `443` or `8000-8010`.
    pub ports: Vec<String>,
    /// Domains it matches; empty is any.
    pub domains: Vec<String>,
    /// Path it matches.
    pub path: Option<String>,
    /// What it does, such as `forward`.
    pub action: String,
    /// Whether its own limits refuse.
    pub enforce: bool,
    /// Where it forwards to.
    pub backends: Vec<BackendOverview>,
}

/// One backend of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendOverview {
    /// Host and port.
    pub address: String,
    /// The addresses that its name stands for, as far as they are known.
    pub resolved: Vec<String>,
    /// Connections or requests that it is serving now.
    pub in_flight: u64,
    /// How many of them there may be; `None` is unlimited.
    pub limit: Option<u64>,
    /// Whether health checks find it well; `None` without health checks, and before the first one.
    pub healthy: Option<bool>,
    /// Why the last health check failed, if it did.
    pub failure: Option<String>,
    /// Whether it is set aside because it failed at work.
    pub ejected: bool,
}

impl BackendOverview {
    /// Its state in one word: `down`, by health checks; `ejected`, because it failed at work; or `up`.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self {
            Self { healthy: Some(false), .. } => "down",
            Self { ejected: true, .. } => "ejected",
            _ => "up",
        }
    }
}

/// The program as the endpoint sees it.
///
/// **Contract.** Reading changes nothing. **Cost.** Must not block; bounded work under any lock. **Called.** Per request to
/// the endpoint, on its thread: a few times a second.
pub trait Status: Debug + Send + Sync + 'static {
    /// The limits and their counts.
    fn inspect(&self) -> &dyn Inspect;

    /// What has happened since the start.
    fn counters(&self) -> &EventCounters;

    /// What folds the log; `None` if nothing does.
    fn log(&self) -> Option<&log_dedup::Dedup>;

    /// Whether the program wants traffic.
    fn readiness(&self) -> Readiness;

    /// The name of a route; `None` if it has none.
    fn route_name(&self, route: RouteId) -> Option<String>;

    /// The program at large.
    fn overview(&self) -> Overview;

    /// The routes of the configuration in force, in their order.
    fn routes(&self) -> Vec<RouteOverview>;

    /// Clients that are dropped in the kernel now; `None` if there is no shedding.
    fn shed_clients(&self) -> Option<u64> {
        None
    }

    /// Lines of the access log that were dropped; `None` without one.
    fn access_log_dropped(&self) -> Option<u64> {
        None
    }

    /// Reads the configuration again and puts it in force. `None` if this program cannot.
    ///
    /// The answer is what to tell the operator: what was not applied, or what is wrong. May read files.
    fn reload(&self) -> Option<Result<String, String>> {
        None
    }

    /// Begins to drain, as a SIGTERM does, and returns at once. `false` if this program cannot.
    fn drain(&self) -> bool {
        false
    }
}
