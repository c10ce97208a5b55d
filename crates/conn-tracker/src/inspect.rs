//! Reading the counts.

use crate::{ClientKey, Reason, RouteId, Scope};
use std::fmt::Debug;
use std::net::IpAddr;

/// One scope as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeState {
    /// What is limited. For `Client` and `RouteClient` the counts are sums over all clients.
    pub scope: Scope,
    /// The route, for scopes that belong to one.
    pub route: Option<RouteId>,
    /// Slots held now.
    pub active: u64,
    /// The limit in force; `None` is unlimited.
    pub limit: Option<u32>,
    /// Slots ever taken.
    pub admitted: u64,
    /// Refusals by reason since the start; only reasons that occurred.
    pub refused: Vec<(Reason, u64)>,
    /// What a dry run let pass, by reason; only reasons that occurred.
    pub would_refuse: Vec<(Reason, u64)>,
}

/// Every scope at one time. Each figure is exact; figures of different scopes may be some microseconds apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// `global`, `pending`, `client`, `exempt`, then `route` and `route_client` of each route.
    pub scopes: Vec<ScopeState>,
    /// Clients in the address table.
    pub tracked_clients: u64,
    /// How many clients the table may hold.
    pub table_capacity: u64,
    /// Bytes that the address table occupies.
    pub table_bytes: u64,
    /// Releases of slots that were not held: anything but 0 is a bug.
    pub anomalies: u64,
}

/// By what [`Inspect::top`] orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopBy {
    /// Connections open now.
    Active,
    /// Refusals, as estimated by a fixed sketch.
    Refused,
}

/// One client among the foremost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopClient {
    /// The client.
    pub client: ClientKey,
    /// Connections open now.
    pub active: u32,
    /// Refusals, at most; 0 where the sketch does not know the client.
    pub refused: u64,
    /// By how much `refused` may be too high.
    pub refused_error: u64,
}

/// All that is known of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The key that the client is counted by.
    pub client: ClientKey,
    /// Whether limits do not apply to it.
    pub exempt: bool,
    /// Connections open now.
    pub active: u32,
    /// How many it may hold; `None` is unlimited.
    pub limit: Option<u32>,
    /// How many it may open a minute; `None` is unlimited.
    pub rate_per_minute: Option<u32>,
    /// Connections open now, per route.
    pub routes: Vec<(RouteId, u32)>,
}

/// Reads what a tracker counts.
///
/// **Contract.** Reading changes nothing. **Cost.** Bounded work under any one lock; admissions go on meanwhile.
/// **Called.** By an operator's tools, a few times a second at most.
pub trait Inspect: Debug + Send + Sync + 'static {
    /// Every scope.
    fn snapshot(&self) -> Snapshot;

    /// The `most` foremost clients, largest first.
    fn top(&self, by: TopBy, most: usize) -> Vec<TopClient>;

    /// One client.
    fn explain(&self, client: IpAddr) -> Explanation;
}
