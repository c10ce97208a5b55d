//! Connections: the order of decisions, top to bottom.
//!
//! A decision locks one shard, peeks at everything that it needs without writing, changes one atomic word by
//! compare-and-swap — the only step that can fail late — and then writes the counts of the client. An attempt that
//! fails has changed nothing that another could have seen. (The one exception is room for a new client, which is
//! taken before that step and may be given back: a table within an entry of being full may refuse one too early.)

use crate::capacity::Family;
use crate::entry::{Clients, PairUsage, Pairs, Usage, hash};
use crate::routes::RouteSlot;
use crate::settings::Settings;
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

    fn open_client(&self, now: u64, address: IpAddr, slots: Slots) -> Result<Hold, Rejection> {
        let place = self.place(address);
        let mut shard = self.lock_with_room(place, now);
        let age = shard.age();
        let Shard { settings, clients, tally, .. } = &mut *shard;
        if settings.is_exempt(address) && self.process.exempt(Slots::NONE, settings.most) {
            tally.exempt += 1;
            return Ok(Hold::new(None, Slots::EXEMPT));
        }
        match self.take_client(settings, clients, place, age, slots) {
            Ok(()) => {
                tally.note_opened(slots);
                tally.note_client();
                Ok(Hold::new(Some(place.key), slots.with(Slots::CLIENT)))
            }
            Err(rejection) => {
                let answer = tally.refuse(rejection, settings.enforce);
                drop(shard);
                self.sketch.note(place);
                answer.map(|()| unheld(Some(place.key), rejection.reason))
            }
        }
    }

    fn open_anonymous(&self, desk: usize, now: u64, slots: Slots) -> Result<Hold, Rejection> {
        let mut shard = self.lock_desk(desk, now);
        let Shard { settings, tally, .. } = &mut *shard;
        match self.process.take(slots, settings.most) {
            Ok(()) => {
                tally.note_opened(slots);
                Ok(Hold::new(None, slots))
            }
            Err(rejection) => tally.refuse(rejection, settings.enforce).map(|()| unheld(None, rejection.reason)),
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

    /// Takes client rate, client, table and then `slots` of the process, or nothing.
    fn take_client(
        &self,
        settings: &Settings,
        clients: &mut Clients,
        place: Place,
        age: u64,
        slots: Slots,
    ) -> Result<(), Rejection> {
        let Place { key, hash } = place;
        let rule = settings.client(key);
        if let Some(usage) = clients.find(hash, key, ()) {
            let after = rule.admit(*usage, age)?;
            self.process.take(slots, settings.most)?;
            *usage = after;
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
        let mut shard = self.lock_with_room(place, self.micros(now));
        let age = shard.age();
        let Shard { settings, clients, tally, .. } = &mut *shard;
        if settings.is_exempt(address) && self.process.exempt(slots, settings.most) {
            tally.exempt += 1;
            hold.set_slots(Slots::EXEMPT);
            return Ok(());
        }
        match self.take_client(settings, clients, place, age, Slots::NONE) {
            Ok(()) => {
                tally.note_client();
                hold.set_client(Some(place.key));
                hold.set_slots(slots.with(Slots::CLIENT));
                Ok(())
            }
            Err(rejection) => {
                let answer = tally.refuse(rejection, settings.enforce);
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
            Some(place) => self.lock(place, now),
            None => self.lock_desk(desk, now),
        };
        let Shard { settings, pairs, .. } = &mut *shard;
        let rule = settings.route(route);
        let full = rule.connections.rejection(Reason::RouteLimit);
        let fits = |(connections, _)| !rule.connections.refuses(connections);
        let held = state.held(RouteSlot::Connection);

        let answer = match client {
            None if held.take((1, 0), fits) => Ok(()),
            None => Err(full),
            Some(Place { key, .. }) => {
                let hash = hash(&self.hasher, key, route);
                let pair = pairs.find(hash, key, route);
                let connections = pair.as_ref().map_or(0, |usage| usage.connections);
                if !fits(held.read()) {
                    Err(full)
                } else if rule.connections_per_client.refuses(connections) {
                    Err(rule.connections_per_client.rejection(Reason::RouteClientLimit))
                } else if !held.take((1, 1), fits) {
                    Err(full)
                } else {
                    match pair {
                        Some(usage) => usage.connections += 1,
                        None => self.insert_pair(pairs, hash, key, route, |usage| usage.connections = 1),
                    }
                    Ok(())
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
                state.note_refused(rejection.reason, enforced);
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

    pub(crate) fn insert_pair(
        &self,
        pairs: &mut Pairs,
        hash: u64,
        key: ClientKey,
        route: RouteId,
        set: impl FnOnce(&mut PairUsage),
    ) {
        let mut usage = PairUsage::default();
        set(&mut usage);
        self.pairs.take_always(Family::of(key));
        pairs.insert(&self.hasher, hash, key, route, usage);
    }

    /// Locks the shard of a client that may need a new entry, after making room for it if there is none.
    fn lock_with_room(&self, place: Place, now: u64) -> MutexGuard<'_, Shard> {
        let mut shard = self.lock(place, now);
        let family = Family::of(place.key);
        if !self.clients.has_room(family) && shard.clients.find(place.hash, place.key, ()).is_none() {
            drop(shard);
            self.reclaim_client(family, now);
            shard = self.lock(place, now);
        }
        shard
    }
}

/// A connection that only a dry run lets in: it holds nothing, so that the counts are those of enforcing.
fn unheld(client: Option<ClientKey>, reason: Reason) -> Hold {
    let mut hold = Hold::new(client, Slots::NONE);
    hold.mark_over(reason);
    hold
}
