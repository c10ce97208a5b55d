//! The short way: a client that is known comes or goes, and nothing is special about it.
//!
//! What is decided is what is decided on the long way (`admission`, `release`), by the same steps under a lock of the same
//! shard. Here is only what nearly every connection needs, without a call, so that few registers have to be saved. Where that
//! is not enough, or the lock is held by another thread, nothing has happened yet, and the long way decides from the beginning.

use crate::admission::{note_client, opened};
use crate::entry::{Key, NOBODY};
use crate::routes::RouteSlot;
use crate::secret::Place;
use crate::shard::Shard;
use crate::table::Table;
use conn_tracker::{Arrival, ClientKey, Hold, Origin, Rejection, RouteId, Slots};
use std::net::IpAddr;
use std::time::Instant;

impl Table {
    #[inline(always)]
    pub(crate) fn open(&self, desk: usize, now: Instant, arrival: &Arrival, hold: &mut Hold) -> Result<(), Rejection> {
        let now = self.micros(now);
        let Origin::Client(address) = &arrival.origin else {
            return self.open_anonymous(desk, now, arrival.pending, hold);
        };
        let is_open = match self.prefixes.key(*address) {
            ClientKey::V4(key) => self.open_known(now, key, arrival.pending, hold),
            ClientKey::V6(key) => self.open_known(now, key, arrival.pending, hold),
        };
        if is_open { Ok(()) } else { self.open_slowly(now, address, arrival.pending, hold) }
    }

    /// Brings what is counted of a client nearer to the processor. Waits for nobody: neither for a lock nor for memory.
    #[inline(always)]
    pub(crate) fn prefetch(&self, client: IpAddr) {
        match self.prefixes.key(client) {
            ClientKey::V4(key) => self.prefetch_client(key),
            ClientKey::V6(key) => self.prefetch_client(key),
        }
    }

    #[inline(always)]
    fn prefetch_client<K: Key>(&self, key: K) {
        let hash = self.secret.number(key.into());
        if let Some(mut shard) = self.shard_by(hash).try_lock() {
            K::table(&mut shard.clients).prefetch(hash);
        }
    }

    /// Admits a connection of a client that is known. `false` says nothing: nothing has happened yet.
    #[inline(always)]
    fn open_known<K: Key>(&self, now: u64, key: K, pending: bool, hold: &mut Hold) -> bool {
        let hash = self.secret.number(key.into());
        let Some(mut shard) = self.shard_by(hash).try_lock() else { return false };
        let is_taken = self.take_known(&mut shard, now, key, hash, pending);
        if is_taken {
            opened(&mut shard, Place { key: key.client(), hash }, pending, hold);
        }
        is_taken
    }

    /// Takes what the long way would take, if the client is known, its limits are those of all, and nothing refuses.
    #[inline(always)]
    fn take_known<K: Key>(&self, shard: &mut Shard, now: u64, key: K, hash: u32, pending: bool) -> bool {
        let age = shard.note_time(now);
        let Shard { settings, clients, .. } = shard;
        let Some(rule) = settings.ordinary_client(key, age) else { return false };
        let Some(usage) = clients.find_near(hash, key) else { return false };
        let Some(after) = rule.take(*usage, settings.ticks.passed_in_epoch(age)) else { return false };
        let taken = self.process.take_quickly(pending, &settings.room);
        if taken {
            *usage = after;
            note_client(key.client(), after.held);
        }
        taken
    }

    #[inline(always)]
    pub(crate) fn close(&self, hold: &mut Hold) {
        match hold.unbound_client() {
            Some(ClientKey::V4(key)) => self.close_client(key, hold),
            Some(ClientKey::V6(key)) => self.close_client(key, hold),
            None => self.close_slowly(hold),
        }
    }

    #[inline(always)]
    fn close_client<K: Key>(&self, key: K, hold: &mut Hold) {
        // Whoever filled the hold may have noted something else. Then nobody is found by it, and the long way looks anew.
        let hash = hold.hint();
        let Some(mut shard) = self.shard_by(hash).try_lock() else { return self.close_slowly(hold) };
        if !give_known(&mut shard, key, hash) {
            drop(shard);
            return self.close_slowly(hold);
        }
        let pending = hold.slots().has(Slots::PENDING);
        hold.settle();
        self.expect(self.process.give_quickly(pending));
    }

    /// A connection of a client that is bound to one route, and holds all the slots of that.
    #[inline(always)]
    pub(crate) fn close_bound<K: Key>(&self, key: K, route: RouteId, hold: &mut Hold) {
        let pending = hold.slots().has(Slots::PENDING);
        let place = Place { key: key.client(), hash: self.secret.number(key.into()) };
        let mut shard = self.shard_by(place.hash).lock();
        self.give_pair(&mut shard, place, route, RouteSlot::Connection);
        if !give_known(&mut shard, key, place.hash) {
            self.release_client(&mut shard, place);
        }
        drop(shard);
        hold.settle();
        self.give_route(route, RouteSlot::Connection, true);
        self.expect(self.process.give_quickly(pending));
    }
}

/// Takes one off the count of a client that stays known.
#[inline(always)]
fn give_known<K: Key>(shard: &mut Shard, key: K, hash: u32) -> bool {
    let Shard { settings, clients, admitted, time, .. } = shard;
    let Some(usage) = clients.find_near(hash, key) else { return false };
    let left = usage.held.wrapping_sub(1);
    // Neither gone, nor vacant.
    let stays = (1..NOBODY - 1).contains(&left) || left == 0 && usage.spent > settings.ticks.passed(time.age());
    if stays {
        usage.held = left;
        note_client(key.client(), usage.held);
        admitted.released += 1;
    }
    stays
}
