//! The short way: a client that is known comes or goes, and nothing is special about it.
//!
//! What is decided is what is decided on the long way (`admission`, `release`), by the same steps under the same lock. Here
//! is only what nearly every connection needs, without a call but for a lock that is held, so that few registers have to be
//! saved. Where that is not enough nothing has happened yet, and the long way decides from the beginning, under the same lock.

use crate::admission::{note_client, opened};
use crate::entry::Key;
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
        let (now, pending) = (self.micros(now), arrival.pending);
        match &arrival.origin {
            Origin::Client(address) => match self.prefixes.key(*address) {
                ClientKey::V4(key) => self.open_client(now, key, address, pending, hold),
                ClientKey::V6(key) => self.open_client(now, key, address, pending, hold),
            },
            Origin::Proxy | Origin::Balancer => self.open_anonymous(desk, now, pending, hold),
        }
    }

    /// Brings what is counted of a client nearer to the processor. Waits for nobody: neither for a lock nor for memory.
    pub(crate) fn prefetch(&self, client: IpAddr) {
        let place = self.place(client);
        if let Some(shard) = self.shard_of(place).try_lock() {
            shard.clients.prefetch(place.hash, place.key);
        }
    }

    #[inline(always)]
    fn open_client<K: Key>(
        &self,
        now: u64,
        key: K,
        address: &IpAddr,
        pending: bool,
        hold: &mut Hold,
    ) -> Result<(), Rejection> {
        let hash = self.secret.number(key.into());
        let mut shard = self.shard_by(hash).lock();
        if self.take_known(&mut shard, now, key, hash, pending) {
            opened(&mut shard, key.client(), pending, hold);
            return Ok(());
        }
        self.open_slowly(shard, now, address, pending, hold)
    }

    /// Takes what the long way would take, if the client is known, its limits are those of all, and nothing refuses.
    #[inline(always)]
    fn take_known<K: Key>(&self, shard: &mut Shard, now: u64, key: K, hash: u64, pending: bool) -> bool {
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
        let hash = self.secret.number(key.into());
        let Some(mut shard) = self.shard_by(hash).try_lock() else { return self.close_slowly(hold) };
        if !give_known(&mut shard, key, hash) {
            return self.close_locked(shard, hold);
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
fn give_known<K: Key>(shard: &mut Shard, key: K, hash: u64) -> bool {
    let Shard { settings, clients, admitted, time, .. } = shard;
    let Some(usage) = clients.find_near(hash, key) else { return false };
    let stays = usage.held > 1 || usage.held == 1 && usage.spent > settings.ticks.passed(time.age());
    if stays {
        usage.held -= 1;
        note_client(key.client(), usage.held);
        admitted.released += 1;
    }
    stays
}
