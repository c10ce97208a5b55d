//! The tracker that admits everything.

use crate::{Arrival, ConnectionTracker, Hold, Prefixes, Rejection, RequestHold, RouteId, Slots};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Admits everything and counts open connections: the floor in benchmarks, the default in examples and tests.
#[derive(Debug, Default)]
pub struct Unlimited {
    active: AtomicU64,
    prefixes: Prefixes,
}

impl Unlimited {
    /// Connections open now.
    #[must_use]
    pub fn active(&self) -> u64 {
        // Ordering: the count stands for itself, no other memory is read because of it.
        self.active.load(Ordering::Relaxed)
    }
}

impl ConnectionTracker for Unlimited {
    fn open(&self, _now: Instant, arrival: Arrival, hold: &mut Hold) -> Result<(), Rejection> {
        // Ordering: see `active`.
        self.active.fetch_add(1, Ordering::Relaxed);
        let client = match arrival.origin {
            crate::Origin::Client(address) => Some(self.prefixes.key(address)),
            crate::Origin::Proxy | crate::Origin::Balancer => None,
        };
        hold.fill(client, Slots::GLOBAL);
        Ok(())
    }

    fn identify(&self, _now: Instant, hold: &mut Hold, client: IpAddr) -> Result<(), Rejection> {
        hold.set_client(Some(self.prefixes.key(client)));
        Ok(())
    }

    fn bind(&self, _now: Instant, hold: &mut Hold, route: RouteId) -> Result<(), Rejection> {
        if !hold.is_bound(route) {
            hold.push(crate::Binding::new(route, false, false));
        }
        Ok(())
    }

    fn unbind(&self, hold: &mut Hold, route: RouteId) {
        hold.take(route);
    }

    fn close(&self, hold: &mut Hold) {
        // Ordering: see `active`.
        self.active.fetch_sub(u64::from(hold.slots().has(Slots::GLOBAL)), Ordering::Relaxed);
        hold.settle();
    }

    fn begin(
        &self,
        _now: Instant,
        client: Option<IpAddr>,
        route: RouteId,
        hold: &mut RequestHold,
    ) -> Result<(), Rejection> {
        hold.fill(client.map(|address| self.prefixes.key(address)), route, Slots::NONE);
        Ok(())
    }

    fn finish(&self, hold: &mut RequestHold) {
        hold.settle();
    }
}
