//! Requests in flight and request rates: decided like bindings, counted on their own.

use crate::on_route::{Passed, Wanted};
use crate::routes::RouteSlot;
use crate::settings::Settings;
use crate::table::Table;
use conn_tracker::{Reason, Rejection, RequestHold, RouteId, Slots, canonical};
use std::net::IpAddr;
use std::time::Instant;

impl Table {
    pub(crate) fn begin(
        &self,
        desk: usize,
        now: Instant,
        client: Option<IpAddr>,
        route: RouteId,
        hold: &mut RequestHold,
    ) -> Result<(), Rejection> {
        let now = self.micros(now);
        let Some(state) = self.routes.state(route) else {
            debug_assert!(false, "{route} was never given out");
            return Err(Rejection::full(Reason::RequestLimit, 0));
        };
        let address = client.map(canonical);
        let client = address.map(|address| self.place(address));
        let shard = self.lock_for_route(desk, now, client);
        let wanted = Wanted { route, state, slot: RouteSlot::Request, client };
        let is_exempt = |settings: &Settings| address.is_some_and(|address| settings.is_exempt(address));
        let key = client.map(|place| place.key);
        let slots = if client.is_some() { Slots::REQUEST.with(Slots::REQUEST_CLIENT) } else { Slots::REQUEST };
        match self.take_on_route(shard, now, wanted, is_exempt)? {
            Passed::Held => hold.fill(key, route, slots),
            Passed::Exempt => hold.fill(None, route, Slots::NONE),
            Passed::Over(reason) => hold.fill_over(key, route, reason),
        }
        Ok(())
    }

    pub(crate) fn finish(&self, hold: &mut RequestHold) {
        let (slots, route) = (hold.slots(), hold.route());
        let of_client = slots.has(Slots::REQUEST_CLIENT);
        if let Some(key) = hold.client().filter(|_| of_client) {
            let place = self.place_of(key);
            self.give_pair(&mut self.shard_of(place).lock(), place, route, RouteSlot::Request);
        }
        if slots.has(Slots::REQUEST) {
            self.give_route(route, RouteSlot::Request, of_client);
        }
        hold.settle();
    }
}
