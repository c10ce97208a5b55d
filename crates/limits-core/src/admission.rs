//! Admission: the order of decisions, top to bottom.
//!
//! A decision locks one shard, peeks at everything that it needs without writing, changes one atomic word by
//! compare-and-swap — the only step that can fail late — and then writes the counts of the client. An attempt that
//! fails has changed nothing that another could have seen. (The one exception is room for a new client, which is
//! taken before that step and may be given back: a table within an entry of being full may refuse one too early.)

use crate::capacity::Family;
use crate::entry::Usage;
use crate::secret::Place;
use crate::settings::Reasons;
use crate::shard::Shard;
use crate::sizing;
use crate::sync::MutexGuard;
use crate::table::Table;
use conn_tracker::{Arrival, ClientKey, Hold, Origin, Reason, Rejection, Slots, canonical};
use std::net::IpAddr;
use std::time::Instant;

impl Table {
    /// Admits a connection of a client.
    #[inline(never)]
    pub(crate) fn open_slowly(
        &self,
        now: u64,
        address: &IpAddr,
        pending: bool,
        hold: &mut Hold,
    ) -> Result<(), Rejection> {
        let address = canonical(*address);
        let place = self.place(address);
        let shard = self.lock(place, now);
        let (mut shard, answer) = self.take_as_client(shard, address, place, now, Slots::NONE, process_slots(pending));
        let rejection = match answer {
            Ok(Taken::Exempt) => {
                hold.fill(None, Slots::EXEMPT);
                return Ok(());
            }
            Ok(Taken::Counted) => {
                opened(&mut shard, place, pending, hold);
                return Ok(());
            }
            Err(rejection) => rejection,
        };
        let answer = shard.refuse(rejection);
        drop(shard);
        self.sketch.note(place);
        answer?;
        let_in(Some(place.key), rejection.reason, hold);
        Ok(())
    }

    /// Admits a connection that is of no client, or whose client will be named.
    #[inline(never)]
    pub(crate) fn open_anonymous(
        &self,
        desk: usize,
        now: u64,
        pending: bool,
        hold: &mut Hold,
    ) -> Result<(), Rejection> {
        let slots = process_slots(pending);
        let mut shard = self.lock_desk(desk, now);
        match self.process.take(slots, &shard.settings.most) {
            Ok(()) => {
                shard.admitted.anonymous += 1;
                shard.admitted.pending += u64::from(slots.has(Slots::PENDING));
                hold.fill(None, slots);
            }
            Err(rejection) => {
                shard.refuse(rejection)?;
                let_in(None, rejection.reason, hold);
            }
        }
        Ok(())
    }

    pub(crate) fn would_open(&self, desk: usize, now: Instant, arrival: Arrival) -> Result<(), Rejection> {
        let now = self.micros(now);
        let slots = process_slots(arrival.pending);
        let place = match arrival.origin {
            Origin::Client(address) => Some((canonical(address), self.place(address))),
            Origin::Proxy | Origin::Balancer => None,
        };
        let mut shard = match place {
            Some((_, place)) => self.lock(place, now),
            None => self.lock_desk(desk, now),
        };
        let age = shard.age();
        let Shard { settings, clients, .. } = &mut *shard;
        if !settings.enforce {
            return Ok(());
        }
        if let Some((address, Place { key, hash })) = place {
            if settings.is_exempt(address) && self.process.has_exempt_slot(&settings.most) {
                return Ok(());
            }
            let usage = clients.find(hash, key, ()).copied();
            settings.client(key).admit(Reasons::CLIENT, usage.unwrap_or_default(), age)?;
            if usage.is_none() && !self.clients.has_room(Family::of(key)) {
                return Err(Rejection::full(Reason::TableFull, self.clients.most()));
            }
        }
        self.process.check(slots, &settings.most)
    }

    /// Takes an exempt slot in place of those `held`; or client rate, client, table and then `slots` of the process; or nothing.
    ///
    /// All of it under one lock, by the settings of one moment. Where there is no room for a new client, or no place, the
    /// lock is let go to look for some, and then the decision begins anew.
    fn take_as_client<'a>(
        &'a self,
        mut shard: MutexGuard<'a, Shard>,
        address: IpAddr,
        place: Place,
        now: u64,
        held: Slots,
        slots: Slots,
    ) -> (MutexGuard<'a, Shard>, Result<Taken, Rejection>) {
        let family = Family::of(place.key);
        let mut has_looked = false;
        loop {
            if shard.settings.is_exempt(address) && self.process.exempt(held, &shard.settings.most) {
                shard.cold.exempt += 1;
                return (shard, Ok(Taken::Exempt));
            }
            let is_known = |shard: &mut Shard| shard.clients.find(place.hash, place.key, ()).is_some();
            if !has_looked && !self.clients.has_room(family) && !is_known(&mut shard) {
                has_looked = true;
                drop(shard);
                self.reclaim_client(family, now);
                shard = self.lock(place, now);
                continue;
            }
            match self.make_place(shard, place, now, sizing::clients) {
                Ok(mut shard) => {
                    let answer = self.try_take_client(&mut shard, place, slots);
                    return (shard, answer.map(|()| Taken::Counted));
                }
                Err(again) => shard = again,
            }
        }
    }

    fn try_take_client(&self, shard: &mut Shard, place: Place, slots: Slots) -> Result<(), Rejection> {
        let Place { key, hash } = place;
        let age = shard.age();
        let Shard { settings, clients, .. } = shard;
        let rule = settings.client(key);
        if let Some(usage) = clients.find(hash, key, ()) {
            let after = rule.admit(Reasons::CLIENT, *usage, age)?;
            self.process.take(slots, &settings.most)?;
            *usage = after;
            note_client(key, after.held);
            return Ok(());
        }
        let after = rule.admit(Reasons::CLIENT, Usage::default(), age)?;
        let family = Family::of(key);
        let table_full = Rejection::full(Reason::TableFull, self.clients.most());
        if !self.clients.has_room(family) {
            return Err(table_full);
        }
        self.process.check(slots, &settings.most)?;
        if !self.clients.take(family) {
            return Err(table_full);
        }
        if let Err(rejection) = self.process.take(slots, &settings.most) {
            self.expect(self.clients.give(family, 1));
            return Err(rejection);
        }
        clients.insert(&self.secret, hash, key, (), after);
        note_client(key, after.held);
        Ok(())
    }

    pub(crate) fn identify(&self, now: Instant, hold: &mut Hold, client: IpAddr) -> Result<(), Rejection> {
        let slots = hold.slots();
        if hold.client().is_some() || slots.has(Slots::EXEMPT) {
            return Ok(());
        }
        let address = canonical(client);
        let place = self.place(address);
        if !slots.has(Slots::GLOBAL) {
            hold.set_client(Some(place.key)); // let in by a dry run: it takes nothing, as if it had been refused
            return Ok(());
        }
        let now = self.micros(now);
        let shard = self.lock(place, now);
        let (mut shard, answer) = self.take_as_client(shard, address, place, now, slots, Slots::NONE);
        match answer {
            Ok(Taken::Exempt) => {
                hold.set_slots(Slots::EXEMPT);
                Ok(())
            }
            Ok(Taken::Counted) => {
                shard.admitted.named += 1;
                hold.set_client(Some(place.key));
                hold.set_slots(slots.with(Slots::CLIENT));
                Ok(())
            }
            Err(rejection) => {
                let answer = shard.refuse(rejection);
                drop(shard);
                self.sketch.note(place);
                answer?;
                // Refused in earnest, the connection would be closed: its slots are free for others here too.
                self.expect(self.process.give(slots));
                hold.set_client(Some(place.key));
                hold.set_slots(Slots::NONE);
                hold.mark_over(rejection.reason);
                Ok(())
            }
        }
    }
}

/// As what a connection was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// One that no limit is for.
    Exempt,
    /// One of its client.
    Counted,
}

/// Tells models how many connections a client holds from now on; nothing in a program.
#[inline]
pub(crate) fn note_client(key: ClientKey, connections: u32) {
    #[cfg(any(loom, shuttle))]
    crate::ledger::note(crate::ledger::Id::Client(key), connections);
    #[cfg(not(any(loom, shuttle)))]
    let _ = (key, connections);
}

/// The slots of the process that a new connection asks for.
#[inline]
const fn process_slots(pending: bool) -> Slots {
    if pending { Slots::GLOBAL.with(Slots::PENDING) } else { Slots::GLOBAL }
}

/// A connection that holds all it asked for.
#[inline]
pub(crate) fn opened(shard: &mut Shard, Place { key, hash }: Place, pending: bool, hold: &mut Hold) {
    shard.admitted.direct += 1;
    shard.admitted.pending += u64::from(pending);
    hold.fill(Some(key), process_slots(pending).with(Slots::CLIENT));
    hold.set_hint(hash);
}

/// A connection that only a dry run lets in: it holds nothing, so that the counts are those of enforcing.
fn let_in(client: Option<ClientKey>, reason: Reason, hold: &mut Hold) {
    hold.fill(client, Slots::NONE);
    hold.mark_over(reason);
}
