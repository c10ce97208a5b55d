//! Giving the slots of connections back: the same steps as taking them, in the opposite order, and none of them can fail.

use crate::admission::note_client;
use crate::capacity::Family;
use crate::routes::RouteSlot;
use crate::shard::Shard;
use crate::table::{Place, Table};
use conn_tracker::{Hold, RouteId, Slots};

impl Table {
    pub(crate) fn unbind(&self, hold: &mut Hold, route: RouteId) {
        let Some(binding) = hold.take(route) else { return };
        if let Some(place) = hold.client().filter(|_| binding.holds_client()).map(|key| self.place_of(key)) {
            self.give_pair(&mut self.shard_of(place).lock(), place, route, RouteSlot::Connection);
        }
        if binding.holds_route() {
            self.give_route(route, RouteSlot::Connection, binding.holds_client());
        }
    }

    #[inline]
    pub(crate) fn close(&self, hold: &mut Hold) {
        if let Some(key) = hold.client().filter(|_| hold.slots().has(Slots::CLIENT)) {
            let place = self.place_of(key);
            let mut shard = self.shard_of(place).lock();
            if hold.is_bound_at_all() {
                for binding in hold.bindings().filter(|binding| binding.holds_client()) {
                    self.give_pair(&mut shard, place, binding.route(), RouteSlot::Connection);
                }
            }
            self.release_client(&mut shard, place);
        }
        if hold.is_bound_at_all() {
            for binding in hold.bindings().filter(|binding| binding.holds_route()) {
                self.give_route(binding.route(), RouteSlot::Connection, binding.holds_client());
            }
        }
        let slots = hold.slots().without(Slots::CLIENT);
        if slots != Slots::NONE {
            self.expect(self.process.give(slots));
        }
        hold.settle();
    }

    #[inline]
    fn release_client(&self, shard: &mut Shard, Place { key, hash }: Place) {
        let age = shard.age();
        let Shard { settings, clients, admitted, .. } = shard;
        let mut held = false;
        let gone = clients.change(&self.secret, hash, key, (), |usage| {
            held = usage.give();
            note_client(key, usage.held);
            usage.is_idle(|| settings.ticks.passed(age))
        });
        if gone == Some(true) {
            self.expect(self.clients.give(Family::of(key), 1));
        }
        admitted.released += u64::from(held);
        self.expect(held);
    }
}
