//! The short way: a client that is known comes or goes, and nothing is special about it.
//!
//! What is decided is what is decided on the long way (`admission`, `release`), by the same steps under the same lock. Here
//! is only what nearly every connection needs, without a call but for a lock that is held, so that few registers have to be
//! saved. Where that is not enough nothing has happened yet, and the long way decides from the beginning, under the same lock.

use crate::admission::{note_client, opened};
use crate::entry::Key;
use crate::shard::Shard;
use crate::table::Table;
use conn_tracker::{Arrival, ClientKey, Hold, Origin, Rejection, Slots};
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
        let Some(rule) = settings.every_client(age) else { return false };
        let Some(usage) = clients.find_near(hash, key) else { return false };
        let Some(after) = rule.take(*usage, settings.ticks.passed_in_epoch(age)) else { return false };
        let taken = self.process.take_quickly(pending, &settings.most);
        if taken {
            *usage = after;
            note_client(key.client(), after.held);
        }
        taken
    }

    #[inline(always)]
    pub(crate) fn close(&self, hold: &mut Hold) {
        let plain = hold.slots().without(Slots::PENDING) == Slots::GLOBAL.with(Slots::CLIENT);
        match hold.client() {
            Some(ClientKey::V4(key)) if plain && !hold.is_bound_at_all() => self.close_client(key, hold),
            Some(ClientKey::V6(key)) if plain && !hold.is_bound_at_all() => self.close_client(key, hold),
            _ => self.close_slowly(hold),
        }
    }

    #[inline(always)]
    fn close_client<K: Key>(&self, key: K, hold: &mut Hold) {
        let hash = self.secret.number(key.into());
        let mut shard = self.shard_by(hash).lock();
        if !give_known(&mut shard, key, hash) {
            return self.close_locked(shard, hold);
        }
        drop(shard);
        let pending = hold.slots().has(Slots::PENDING);
        hold.settle();
        self.expect(self.process.give_quickly(pending));
    }
}

/// Takes one off the count of a client that stays known.
#[inline(always)]
fn give_known<K: Key>(shard: &mut Shard, key: K, hash: u64) -> bool {
    let age = shard.age();
    let Shard { settings, clients, admitted, .. } = shard;
    let Some(usage) = clients.find_near(hash, key) else { return false };
    let stays = usage.held > 1 || usage.held == 1 && usage.spent > settings.ticks.passed(age);
    if stays {
        usage.held -= 1;
        note_client(key.client(), usage.held);
        admitted.released += 1;
    }
    stays
}
