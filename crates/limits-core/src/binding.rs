//! Binding: a connection whose route is known takes a slot of it, and gives the one of those who wait for a route back.

use crate::on_route::{Passed, Wanted};
use crate::routes::RouteSlot;
use crate::table::Table;
use conn_tracker::{Binding, Hold, Reason, Rejection, RouteId, Slots};
use std::time::Instant;

impl Table {
    pub(crate) fn bind(&self, desk: usize, now: Instant, hold: &mut Hold, route: RouteId) -> Result<(), Rejection> {
        if hold.is_bound(route) {
            return Ok(());
        }
        if !hold.slots().has(Slots::GLOBAL) {
            hold.push(Binding::new(route, false, false)); // exempt, or let in by a dry run
            return Ok(());
        }
        let answer = self.bind_counted(desk, self.micros(now), hold, route);
        if hold.slots().has(Slots::PENDING) {
            self.expect(self.process.give(Slots::PENDING));
            hold.set_slots(hold.slots().without(Slots::PENDING));
        }
        answer
    }

    fn bind_counted(&self, desk: usize, now: u64, hold: &mut Hold, route: RouteId) -> Result<(), Rejection> {
        let client = hold.client().filter(|_| hold.slots().has(Slots::CLIENT)).map(|key| self.place_of(key));
        let Some(state) = self.routes.state(route) else {
            debug_assert!(false, "{route} was never given out");
            return Err(Rejection::full(Reason::RouteLimit, 0));
        };
        let shard = self.lock_for_route(desk, now, client);
        let wanted = Wanted { route, state, slot: RouteSlot::Connection, client };
        // Whether it is exempt was decided when it was let in.
        match self.take_on_route(shard, now, wanted, |_| false)? {
            Passed::Held => hold.push(Binding::new(route, true, client.is_some())),
            Passed::Exempt => {}
            // Not bound: the next decision for this route is one more, as it would be if this one were enforced.
            Passed::Over(reason) => hold.mark_over(reason),
        }
        Ok(())
    }
}
