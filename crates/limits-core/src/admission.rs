//! Connections: the order of decisions, top to bottom.
//!
//! A decision locks one shard, peeks at everything that it needs without writing, changes one atomic word by
//! compare-and-swap — the only step that can fail late — and then writes the counts of the client. An attempt that
//! fails has changed nothing that another could have seen. (The one exception is room for a new client, which is
//! taken before that step and may be given back: a table within an entry of being full may refuse one too early.)

use crate::capacity::Family;
use crate::entry::{PairUsage, Pairs, Usage, hash};
use crate::routes::RouteSlot;
use crate::shard::Shard;
use crate::sync::MutexGuard;
use crate::table::{Place, Table};
use conn_tracker::{Arrival, Binding, ClientKey, Hold, Origin, Reason, Rejection, RouteId, Slots, canonical};
use std::net::IpAddr;
use std::time::Instant;

impl Table {
    pub(crate) fn open(&self, desk: usize, now: Instant, arrival: Arrival) -> Result<Hold, Rejection> {
        let now = self.micros(now);
        let slots = if arrival.pending { Slots::GLOBAL.with(Slots::PENDING) } else { Slots::GLOBAL };
        match arrival.origin {
            Origin::Client(address) => self.open_client(now, canonical(address), slots),
            Origin::Proxy | Origin::Balancer => self.open_anonymous(desk, now, slots),
        }
    }

    #[inline]
    fn open_client(&self, now: u64, address: IpAddr, slots: Slots) -> Result<Hold, Rejection> {
        let place = self.place(address);
        let mut shard = self.lock(place, now);
        if shard.settings.is_exempt(address) && self.process.exempt(Slots::NONE, shard.settings.most) {
            shard.cold.exempt += 1;
            return Ok(Hold::new(None, Slots::EXEMPT));
        }
        if self.take_known(&mut shard, place, slots) {
            return Ok(opened(&mut shard, place, slots));
        }
        self.open_slowly(shard, place, now, slots)
    }

    /// The same decision for those who are not known or not admitted.
    #[inline(never)]
    fn open_slowly<'a>(
        &'a self,
        shard: MutexGuard<'a, Shard>,
        place: Place,
        now: u64,
        slots: Slots,
    ) -> Result<Hold, Rejection> {
        let (mut shard, answer) = self.take_client(shard, place, now, slots);
        let Err(rejection) = answer else { return Ok(opened(&mut shard, place, slots)) };
        let answer = shard.refuse(rejection);
        drop(shard);
        self.sketch.note(place);
        answer.map(|()| unheld(Some(place.key), rejection.reason))
    }

    fn open_anonymous(&self, desk: usize, now: u64, slots: Slots) -> Result<Hold, Rejection> {
        let mut shard = self.lock_desk(desk, now);
        match self.process.take(slots, shard.settings.most) {
            Ok(()) => {
                shard.admitted.note_opened(slots);
                Ok(Hold::new(None, slots))
            }
            Err(rejection) => shard.refuse(rejection).map(|()| unheld(None, rejection.reason)),
        }
    }

    pub(crate) fn would_open(&self, desk: usize, now: Instant, arrival: Arrival) -> Result<(), Rejection> {
        let now = self.micros(now);
        let slots = if arrival.pending { Slots::GLOBAL.with(Slots::PENDING) } else { Slots::GLOBAL };
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
            if settings.is_exempt(address) && self.process.has_exempt_slot(settings.most) {
                return Ok(());
            }
            let usage = clients.find(hash, key, ()).copied();
            settings.client(key).admit(usage.unwrap_or_default(), age)?;
            if usage.is_none() && !self.clients.has_room(Family::of(key)) {
                return Err(Rejection::full(Reason::TableFull, self.clients.most()));
            }
        }
        self.process.check(slots, settings.most)
    }

    /// Takes what [`Table::take_client`] takes, if the client is known and nothing refuses. Else nothing has happened.
    #[inline]
    fn take_known(&self, shard: &mut Shard, place: Place, slots: Slots) -> bool {
        let age = shard.age();
        let Shard { settings, clients, .. } = shard;
        let Some(usage) = clients.find(place.hash, place.key, ()) else { return false };
        let Ok(after) = settings.client(place.key).admit(*usage, age) else { return false };
        let taken = self.process.try_take(slots, settings.most).is_ok();
        if taken {
            *usage = after;
            note_client(place.key, after.connections);
        }
        taken
    }

    /// Takes client rate, client, table and then `slots` of the process, or nothing. If there is no room for a new client it
    /// looks for some first, with no lock held.
    fn take_client<'a>(
        &'a self,
        mut shard: MutexGuard<'a, Shard>,
        place: Place,
        now: u64,
        slots: Slots,
    ) -> (MutexGuard<'a, Shard>, Result<(), Rejection>) {
        let family = Family::of(place.key);
        if !self.clients.has_room(family) && shard.clients.find(place.hash, place.key, ()).is_none() {
            drop(shard);
            self.reclaim_client(family, now);
            shard = self.lock(place, now);
        }
        let answer = self.try_take_client(&mut shard, place, slots);
        (shard, answer)
    }

    fn try_take_client(&self, shard: &mut Shard, place: Place, slots: Slots) -> Result<(), Rejection> {
        let Place { key, hash } = place;
        let age = shard.age();
        let Shard { settings, clients, .. } = shard;
        let rule = settings.client(key);
        if let Some(usage) = clients.find(hash, key, ()) {
            let after = rule.admit(*usage, age)?;
            self.process.take(slots, settings.most)?;
            *usage = after;
            note_client(key, after.connections);
            return Ok(());
        }
        let after = rule.admit(Usage::default(), age)?;
        let family = Family::of(key);
        let table_full = Rejection::full(Reason::TableFull, self.clients.most());
        if !self.clients.has_room(family) {
            return Err(table_full);
        }
        self.process.check(slots, settings.most)?;
        if !self.clients.take(family) {
            return Err(table_full);
        }
        if let Err(rejection) = self.process.take(slots, settings.most) {
            self.expect(self.clients.give(family, 1));
            return Err(rejection);
        }
        clients.insert(&self.hasher, hash, key, (), after);
        note_client(key, after.connections);
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
        let mut shard = self.lock(place, now);
        if shard.settings.is_exempt(address) && self.process.exempt(slots, shard.settings.most) {
            shard.cold.exempt += 1;
            hold.set_slots(Slots::EXEMPT);
            return Ok(());
        }
        let (mut shard, answer) = self.take_client(shard, place, now, Slots::NONE);
        match answer {
            Ok(()) => {
                shard.admitted.note_client();
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
        let mut shard = match client {
            Some(place) => self.lock_with_pair_room(place, now, route),
            None => self.lock_desk(desk, now),
        };
        let age = shard.age();
        let Shard { settings, cold, .. } = &mut *shard;
        let pairs = &mut cold.pairs;
        let rule = settings.route(route);
        let full = rule.connections.rejection(Reason::RouteLimit);
        let fits = |(connections, _)| !rule.connections.refuses(connections);
        let held = state.held(RouteSlot::Connection);

        let answer = match client {
            None if held.take((1, 0), fits) => Ok(()),
            None => Err(full),
            Some(_) if !held.check(fits) => Err(full),
            Some(Place { key, .. }) => {
                let hash = hash(&self.hasher, key, route);
                let pair = pairs.find(hash, key, route);
                match rule.bind(pair.as_deref().copied().unwrap_or_default(), age) {
                    Err(rejection) => Err(rejection),
                    Ok(_) if pair.is_none() && rule.connection_rate.is_some() && !self.has_pair_room(key) => {
                        Err(Rejection::full(Reason::TableFull, self.pairs.most()))
                    }
                    Ok(_) if !held.take((1, 1), fits) => Err(full),
                    Ok(after) => {
                        match pair {
                            Some(usage) => *usage = after,
                            None => self.insert_pair(pairs, hash, key, route, after),
                        }
                        Ok(())
                    }
                }
            }
        };
        let enforced = settings.enforce && rule.enforce;
        drop(shard);
        match answer {
            Ok(()) => {
                state.note_admitted(RouteSlot::Connection, client.is_some());
                hold.push(Binding::new(route, true, client.is_some()));
                Ok(())
            }
            Err(rejection) => {
                state.note_refused(RouteSlot::Connection, rejection.reason, enforced);
                if let Some(place) = client {
                    self.sketch.note(place);
                }
                if enforced {
                    return Err(rejection);
                }
                // Not bound: the next decision for this route is one more, as it would be if this one were enforced.
                hold.mark_over(rejection.reason);
                Ok(())
            }
        }
    }

    /// Whether there is room for a pair that may outlive what it counts. Only one with a rate does, so only then the table
    /// bounds the number of pairs; others are at most as many as connections and requests.
    pub(crate) fn has_pair_room(&self, key: ClientKey) -> bool {
        self.pairs.has_room(Family::of(key))
    }

    pub(crate) fn insert_pair(&self, pairs: &mut Pairs, hash: u64, key: ClientKey, route: RouteId, usage: PairUsage) {
        self.pairs.take_always(Family::of(key));
        pairs.insert(&self.hasher, hash, key, route, usage);
    }

    /// Locks the shard of a client, after looking for room for its pair with the route if there is neither.
    pub(crate) fn lock_with_pair_room(&self, place: Place, now: u64, route: RouteId) -> MutexGuard<'_, Shard> {
        let mut shard = self.lock(place, now);
        let key = place.key;
        if !self.has_pair_room(key) && shard.cold.pairs.find(hash(&self.hasher, key, route), key, route).is_none() {
            drop(shard);
            self.reclaim_pair(Family::of(key), now);
            shard = self.lock(place, now);
        }
        shard
    }
}

/// Tells models how many connections a client holds from now on; nothing in a program.
#[inline]
pub(crate) fn note_client(key: ClientKey, connections: u32) {
    #[cfg(any(loom, shuttle))]
    crate::ghost::note(crate::ghost::Id::Client(key), connections);
    #[cfg(not(any(loom, shuttle)))]
    let _ = (key, connections);
}

/// A connection that holds all it asked for.
#[inline]
fn opened(shard: &mut Shard, place: Place, slots: Slots) -> Hold {
    shard.admitted.note_opened(slots);
    shard.admitted.note_client();
    Hold::new(Some(place.key), slots.with(Slots::CLIENT))
}

/// A connection that only a dry run lets in: it holds nothing, so that the counts are those of enforcing.
fn unheld(client: Option<ClientKey>, reason: Reason) -> Hold {
    let mut hold = Hold::new(client, Slots::NONE);
    hold.mark_over(reason);
    hold
}
