//! What a user of the table may ask for, and the mistakes that are refused.

use ipnet::IpNet;
use std::fmt;
use std::time::Duration;

/// Every limit in force. `0` is unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Concurrent connections of the process, at most 33,554,431, which `0` stands for too.
    pub max_connections: u32,
    /// Concurrent connections of one client.
    pub per_client: u32,
    /// New connections of one client per minute, at most 60,000,000.
    pub rate_per_minute: u32,
    /// How many of them may come at once; `None` is the rate. Never 0.
    pub rate_burst: Option<u32>,
    /// Accepted connections whose route is not known yet, at most 16,777,215, which `0` stands for too.
    pub pending: u32,
    /// Networks that no limit refuses, matched on the whole address.
    pub exempt: Vec<IpNet>,
    /// Concurrent connections of exempt clients, at most 4,095, which `0` stands for too. Beyond it they are counted
    /// like others.
    pub exempt_slots: u32,
    /// Limits of the clients inside some networks. The most specific network wins.
    pub overrides: Vec<ClientOverride>,
    /// `false` is a dry run: everything is admitted, and what a limit would have refused is counted.
    pub enforce: bool,
    /// Limits of the routes. A route keeps its number and its counts for as long as its key stays the same.
    pub routes: Vec<RouteLimits>,
}

impl Default for Limits {
    /// Unlimited, with 256 slots for exempt clients.
    fn default() -> Self {
        Self {
            max_connections: 0,
            per_client: 0,
            rate_per_minute: 0,
            rate_burst: None,
            pending: 0,
            exempt: Vec::new(),
            exempt_slots: 256,
            overrides: Vec::new(),
            enforce: true,
            routes: Vec::new(),
        }
    }
}

/// Limits of each client inside a network. `None` keeps the general limit, `Some(0)` is unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOverride {
    /// The network; never longer than the prefix that makes a client.
    pub network: IpNet,
    /// Concurrent connections of one client.
    pub per_client: Option<u32>,
    /// New connections of one client per minute; as many may come at once.
    pub rate_per_minute: Option<u32>,
}

/// Limits of a route. `0` is unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteLimits {
    /// What makes it the same route after a reload.
    pub key: String,
    /// Concurrent connections of the route.
    pub max_connections: u32,
    /// Concurrent connections of one client on the route.
    pub per_client: u32,
    /// New connections of one client to the route per minute, at most 60,000,000; as many may come at once.
    pub rate_per_minute: u32,
    /// Requests in flight.
    pub max_requests: u32,
    /// Requests in flight of one client.
    pub max_requests_per_client: u32,
    /// Requests of one client in some time; `None` is unlimited.
    pub request_rate: Option<RequestRate>,
    /// `false` is a dry run of the limits of this route.
    pub enforce: bool,
}

impl RouteLimits {
    /// A route without limits.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), ..Self::default() }
    }
}

impl Default for RouteLimits {
    fn default() -> Self {
        Self {
            key: String::new(),
            max_connections: 0,
            per_client: 0,
            rate_per_minute: 0,
            max_requests: 0,
            max_requests_per_client: 0,
            request_rate: None,
            enforce: true,
        }
    }
}

/// How often a client may send a request to a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRate {
    /// Requests in `window`, all of which may come at once; at most one per microsecond. `0` is unlimited.
    pub requests: u32,
    /// The time in which they may come: a millisecond to a day.
    pub window: Duration,
}

/// Limits that cannot be put in force. What was in force stays so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitsError {
    /// A table for no clients.
    NoClients,
    /// A burst of 0 would refuse everything.
    NoBurst,
    /// A number beyond what can be counted: its name, the number, the largest.
    TooLarge(&'static str, u32, u32),
    /// The network of an override is longer than the prefix that makes a client.
    OverrideTooLong {
        /// The network.
        network: IpNet,
        /// The longest prefix in bits.
        longest: u8,
    },
    /// Two overrides for one network.
    DuplicateOverride(IpNet),
    /// Two routes with one key.
    DuplicateRoute(String),
    /// A window of a request rate shorter than a millisecond or longer than a day, on the route with this key.
    Window(String),
    /// More different route keys than a process can ever know.
    TooManyRoutes,
}

impl fmt::Display for LimitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoClients => f.write_str("the address table needs room for at least 1 client"),
            Self::NoBurst => f.write_str("a burst of 0 refuses every connection: use 1 or more, or leave it out"),
            Self::TooLarge(name, given, most) => {
                write!(f, "{name} is {given}, but at most {most} can be counted: lower it, or use 0 for no limit")
            }
            Self::OverrideTooLong { network, longest } => write!(
                f,
                "the override for {network} is narrower than one client (/{longest}): shorten its prefix to {longest} bits or less"
            ),
            Self::DuplicateOverride(network) => {
                write!(f, "there are two overrides for {network}: keep one of them")
            }
            Self::DuplicateRoute(key) => write!(f, "two routes are called \"{key}\": give each a name of its own"),
            Self::Window(key) => {
                write!(f, "the request rate of route \"{key}\" needs a window between 1 ms and 24 h")
            }
            Self::TooManyRoutes => {
                f.write_str("this process has seen too many different route names: restart it to forget the old ones")
            }
        }
    }
}

impl std::error::Error for LimitsError {}
