//! Giving the slots of connections back: the same steps as taking them, in the opposite order, and none of them can fail.

use crate::admission::note_client;
use crate::capacity::Family;
use crate::routes::RouteSlot;
use crate::secret::Place;
use crate::shard::Shard;
use crate::sync::MutexGuard;
use crate::table::Table;
use conn_tracker::{Binding, ClientKey, Hold, RouteId, Slots};

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

    #[inline(never)]
    pub(crate) fn close_slowly(&self, hold: &mut Hold) {
        let whole = |binding: &Binding| binding.holds_route() && binding.holds_client();
        if let Some(binding) = hold.only_binding().filter(whole).filter(|_| hold.slots().has(ADMITTED)) {
            match hold.client() {
                Some(ClientKey::V4(key)) => return self.close_bound(key, binding.route(), hold),
                Some(ClientKey::V6(key)) => return self.close_bound(key, binding.route(), hold),
                None => {}
            }
        }
        match hold.client().filter(|_| hold.slots().has(Slots::CLIENT)) {
            Some(key) => self.close_locked(self.shard_of(self.place_of(key)).lock(), hold),
            None => self.close_unlocked(hold),
        }
    }

    /// Gives everything back. The shard is that of the hold's client, which is counted there.
    #[inline(never)]
    pub(crate) fn close_locked(&self, mut shard: MutexGuard<'_, Shard>, hold: &mut Hold) {
        if let Some(place) = hold.client().map(|key| self.place_of(key)) {
            if hold.is_bound_at_all() {
                for binding in hold.bindings().filter(|binding| binding.holds_client()) {
                    self.give_pair(&mut shard, place, binding.route(), RouteSlot::Connection);
                }
            }
            self.release_client(&mut shard, place);
        }
        drop(shard);
        self.close_unlocked(hold);
    }

    /// Gives back what is counted in no shard.
    fn close_unlocked(&self, hold: &mut Hold) {
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
    pub(crate) fn release_client(&self, shard: &mut Shard, Place { key, hash }: Place) {
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

/// What is held on the way to a route, and behind it.
const ADMITTED: Slots = Slots::GLOBAL.with(Slots::CLIENT);
