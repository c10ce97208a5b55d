//! What models of the counting share: a small table whose every refusal is held against its ledgers.

use conn_tracker::{Arrival, ConnectionTracker, Inspect, Permit, Prefixes, Reason, Rejection, RequestPermit, RouteId};
use limits_core::{Limits, RouteLimits, Table, TableConfig, ghost};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One table, the time at which it was made, and the highest limits that it ever has.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) table: Arc<Table>,
    pub(crate) tracker: Arc<dyn ConnectionTracker>,
    pub(crate) now: Instant,
    highest: Limits,
}

impl World {
    pub(crate) fn new(limits: Limits) -> Self {
        Self::with_room(limits, 100)
    }

    pub(crate) fn with_room(limits: Limits, tracked_clients: u32) -> Self {
        ghost::clear();
        let now = Instant::now();
        let config = TableConfig { tracked_clients, ..TableConfig::default() };
        let table = Table::new(config, limits.clone(), now).unwrap();
        Self { tracker: table.for_worker(), table, now, highest: limits }
    }

    /// For a model that reloads: the highest limits of all.
    pub(crate) fn whose_highest_are(self, highest: Limits) -> Self {
        Self { highest, ..self }
    }

    pub(crate) fn open(&self, last: u8) -> Result<Permit, Reason> {
        self.arrive(Arrival::client(client(last)), last)
    }

    pub(crate) fn arrive(&self, arrival: Arrival, last: u8) -> Result<Permit, Reason> {
        self.decide(last, || Permit::open(&self.tracker, self.now, arrival))
    }

    pub(crate) fn identify(&self, permit: &mut Permit, last: u8) -> Result<(), Reason> {
        self.decide(last, || permit.identify(self.now, client(last)))
    }

    pub(crate) fn bind(&self, permit: &mut Permit) -> Result<(), Reason> {
        self.decide(0, || permit.bind(self.now, self.route()))
    }

    pub(crate) fn begin(&self, last: u8) -> Result<RequestPermit, Reason> {
        self.decide(last, || RequestPermit::begin(&self.tracker, self.now, Some(client(last)), self.route()))
    }

    pub(crate) fn route(&self) -> RouteId {
        self.table.route_ids()[0]
    }

    /// One decision. If it refuses, the scope that it names was full at some step of it.
    fn decide<T>(&self, last: u8, decision: impl FnOnce() -> Result<T, Rejection>) -> Result<T, Reason> {
        let step = ghost::step();
        decision().map_err(|rejection| {
            let (reason, limit) = (rejection.reason, rejection.limit());
            let was_full = || self.table.ghost_stood_at(reason, key(last), self.any_route(), limit, step);
            assert!(
                !LEDGERS.contains(&reason) || was_full(),
                "{reason} of {limit} was not full at any step of the call"
            );
            reason
        })
    }

    fn any_route(&self) -> Option<RouteId> {
        self.table.route_ids().first().copied()
    }

    /// No scope was ever above its highest limit, nothing is held, nobody is remembered.
    pub(crate) fn assert_empty(&self) {
        while !self.table.expire(self.now + Duration::from_secs(3_600), 1_000).ended {}
        let snapshot = self.table.snapshot();
        assert!(snapshot.scopes.iter().all(|scope| scope.active == 0), "{snapshot:?}");
        assert_eq!((snapshot.tracked_clients, snapshot.anomalies), (0, 0));
        let route = self.highest.routes.first();
        let of_route = |limit: fn(&RouteLimits) -> u32| route.map_or(0, limit);
        for (reason, most) in [
            (Reason::GlobalLimit, self.highest.max_connections),
            (Reason::PendingLimit, self.highest.pending),
            (Reason::ClientLimit, self.highest.per_client),
            (Reason::RouteLimit, of_route(|route| route.max_connections)),
            (Reason::RequestLimit, of_route(|route| route.max_requests)),
        ] {
            for last in 0..4 {
                let (peak, rest) = self.table.ghost_peak_and_rest(reason, key(last), self.any_route());
                assert!(most == 0 || peak <= most, "{reason}: {peak} of {most}");
                assert_eq!(rest, 0, "{reason} at the end");
            }
        }
    }
}

/// Reasons whose scope has a ledger; rates and pairs have none.
const LEDGERS: [Reason; 6] = [
    Reason::GlobalLimit,
    Reason::PendingLimit,
    Reason::ClientLimit,
    Reason::RouteLimit,
    Reason::RequestLimit,
    Reason::TableFull,
];

pub(crate) fn client(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn key(last: u8) -> conn_tracker::ClientKey {
    Prefixes::default().key(client(last))
}

pub(crate) fn with_route(route: RouteLimits) -> Limits {
    Limits { routes: vec![route], ..Limits::default() }
}

pub(crate) fn shop() -> RouteLimits {
    RouteLimits::new("shop")
}
