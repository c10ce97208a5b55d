//! The table as a tracker: directly, or once per worker.

use crate::sync::{Arc, Ordering};
use crate::table::{SHARDS, Table};
use conn_tracker::{Arrival, ConnectionTracker, Hold, Rejection, RequestHold, RouteId};
use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

/// One worker's way into a shared table.
///
/// Its `desk` is the shard under whose lock it decides about connections of no client.
pub(crate) struct Worker {
    table: Arc<Table>,
    desk: usize,
}

impl Worker {
    pub(crate) fn new(table: Arc<Table>, desk: usize) -> Self {
        Self { table, desk }
    }
}

impl Table {
    /// A tracker for one worker: its permits do not contend with those of other workers for one reference count.
    #[must_use]
    pub fn for_worker(self: &Arc<Self>) -> Arc<dyn ConnectionTracker> {
        // Ordering: any distinct number does.
        let number = self.workers.fetch_add(1, Ordering::Relaxed) + 1;
        Arc::new(Worker::new(Arc::clone(self), number % SHARDS))
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("desk", &self.desk).finish_non_exhaustive()
    }
}

impl ConnectionTracker for Worker {
    fn open(&self, now: Instant, arrival: Arrival, hold: &mut Hold) -> Result<(), Rejection> {
        self.table.open(self.desk, now, &arrival, hold)
    }

    fn expect(&self, client: IpAddr) {
        self.table.prefetch(client);
    }

    fn would_open(&self, now: Instant, arrival: Arrival) -> Result<(), Rejection> {
        self.table.would_open(self.desk, now, arrival)
    }

    fn identify(&self, now: Instant, hold: &mut Hold, client: IpAddr) -> Result<(), Rejection> {
        self.table.identify(now, hold, client)
    }

    fn bind(&self, now: Instant, hold: &mut Hold, route: RouteId) -> Result<(), Rejection> {
        self.table.bind(self.desk, now, hold, route)
    }

    fn unbind(&self, hold: &mut Hold, route: RouteId) {
        self.table.unbind(hold, route);
    }

    fn close(&self, hold: &mut Hold) {
        self.table.close(hold);
    }

    fn begin(
        &self,
        now: Instant,
        client: Option<IpAddr>,
        route: RouteId,
        hold: &mut RequestHold,
    ) -> Result<(), Rejection> {
        self.table.begin(self.desk, now, client, route, hold)
    }

    fn finish(&self, hold: &mut RequestHold) {
        self.table.finish(hold);
    }
}

impl ConnectionTracker for Table {
    fn open(&self, now: Instant, arrival: Arrival, hold: &mut Hold) -> Result<(), Rejection> {
        Self::open(self, 0, now, &arrival, hold)
    }

    fn expect(&self, client: IpAddr) {
        self.prefetch(client);
    }

    fn would_open(&self, now: Instant, arrival: Arrival) -> Result<(), Rejection> {
        Self::would_open(self, 0, now, arrival)
    }

    fn identify(&self, now: Instant, hold: &mut Hold, client: IpAddr) -> Result<(), Rejection> {
        Self::identify(self, now, hold, client)
    }

    fn bind(&self, now: Instant, hold: &mut Hold, route: RouteId) -> Result<(), Rejection> {
        Self::bind(self, 0, now, hold, route)
    }

    fn unbind(&self, hold: &mut Hold, route: RouteId) {
        Self::unbind(self, hold, route);
    }

    fn close(&self, hold: &mut Hold) {
        Self::close(self, hold);
    }

    fn begin(
        &self,
        now: Instant,
        client: Option<IpAddr>,
        route: RouteId,
        hold: &mut RequestHold,
    ) -> Result<(), Rejection> {
        Self::begin(self, 0, now, client, route, hold)
    }

    fn finish(&self, hold: &mut RequestHold) {
        Self::finish(self, hold);
    }
}
