//! Giving slots back: the same steps as taking them, in the opposite order, and none of them can fail.

use crate::admission::note_client;
use crate::capacity::Family;
use crate::entry::{PairUsage, hash};
use crate::routes::RouteSlot;
use crate::shard::{Shard, is_idle};
use crate::table::{Place, Table};
use conn_tracker::{Binding, ClientKey, Hold, RouteId, Slots};

impl Table {
    pub(crate) fn unbind(&self, hold: &mut Hold, route: RouteId) {
        let Some(binding) = hold.take(route) else { return };
        if let Some(place) = hold.client().filter(|_| binding.holds_client()).map(|key| self.place_of(key)) {
            self.release_pair(&mut self.shard_of(place).lock(), place.key, binding);
        }
        self.release_route(binding);
    }

    pub(crate) fn close(&self, mut hold: Hold) {
        if let Some(key) = hold.client().filter(|_| hold.slots().has(Slots::CLIENT)) {
            let place = self.place_of(key);
            let mut shard = self.shard_of(place).lock();
            if hold.is_bound_at_all() {
                for binding in hold.bindings().filter(|binding| binding.holds_client()) {
                    self.release_pair(&mut shard, key, binding);
                }
            }
            self.release_client(&mut shard, place);
        }
        if hold.is_bound_at_all() {
            for binding in hold.bindings() {
                self.release_route(binding);
            }
        }
        let slots = hold.slots().without(Slots::CLIENT);
        if slots != Slots::NONE {
            self.expect(self.process.give(slots));
        }
        hold.settle();
    }

    fn release_client(&self, shard: &mut Shard, Place { key, hash }: Place) {
        let passed = shard.settings.ticks.passed(shard.age());
        let mut held = false;
        let gone = shard.clients.change(&self.hasher, hash, key, (), |usage| {
            held = usage.connections > 0;
            usage.connections = usage.connections.saturating_sub(1);
            note_client(key, usage.connections);
            is_idle(usage, passed)
        });
        if gone == Some(true) {
            self.expect(self.clients.give(Family::of(key), 1));
        }
        shard.admitted.client_connections -= u64::from(held);
        self.expect(held);
    }

    fn release_pair(&self, shard: &mut Shard, key: ClientKey, binding: Binding) {
        let route = binding.route();
        self.change_pair(shard, key, route, |usage| {
            let held = usage.connections > 0;
            usage.connections = usage.connections.saturating_sub(1);
            held
        });
    }

    fn release_route(&self, binding: Binding) {
        if !binding.holds_route() {
            return;
        }
        let less = (1, u32::from(binding.holds_client()));
        let state = self.routes.state(binding.route());
        self.expect(state.is_some_and(|state| state.held(RouteSlot::Connection).give(less)));
    }

    /// Gives a slot of a pair back and forgets the pair if nothing is left of it; `give` tells whether it was held.
    pub(crate) fn change_pair(
        &self,
        shard: &mut Shard,
        key: ClientKey,
        route: RouteId,
        give: impl FnOnce(&mut PairUsage) -> bool,
    ) {
        let age = shard.age();
        let Shard { settings, cold, .. } = shard;
        let rule = settings.route(route);
        let mut held = false;
        let gone = cold.pairs.change(&self.hasher, hash(&self.hasher, key, route), key, route, |usage| {
            held = give(usage);
            rule.is_idle(usage, age)
        });
        if gone == Some(true) {
            self.expect(self.pairs.give(Family::of(key), 1));
        }
        self.expect(held);
    }
}
