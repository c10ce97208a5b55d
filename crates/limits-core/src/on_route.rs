//! Slots of a route, and of a client on it: bindings and requests take and give them alike.

use crate::capacity::Family;
use crate::entry::{PairUsage, Pairs};
use crate::routes::{RouteSlot, RouteState};
use crate::secret::Place;
use crate::settings::{Reasons, Settings};
use crate::shard::Shard;
use crate::sizing;
use crate::sync::MutexGuard;
use crate::table::Table;
use conn_tracker::{ClientKey, Reason, Rejection, RouteId};

/// A slot of a route that a connection or a request asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) route: RouteId,
    pub(crate) state: &'a RouteState,
    pub(crate) slot: RouteSlot,
    /// Who is counted on the route.
    pub(crate) client: Option<Place>,
}

/// What a decision came to that refused nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// The slots were taken.
    Held,
    /// Nothing was taken: only a dry run lets it pass.
    Over(Reason),
    /// Nothing was taken: no limit is for it.
    Exempt,
}

impl Table {
    /// Takes a slot of a route, and one of the client on it if there is a client, or nothing; and counts what came of it.
    ///
    /// All of it under one lock, by the settings of one moment, which say who `is_exempt` too. Where there is no room for a
    /// new pair, or no place, the lock is let go to look for some, and then the decision begins anew.
    #[inline]
    pub(crate) fn take_on_route<'a>(
        &'a self,
        mut shard: MutexGuard<'a, Shard>,
        now: u64,
        wanted: Wanted<'_>,
        is_exempt: impl Fn(&Settings) -> bool,
    ) -> Result<Passed, Rejection> {
        let mut has_looked = false;
        loop {
            if is_exempt(&shard.settings) {
                return Ok(Passed::Exempt);
            }
            if let Some(place) = wanted.client {
                match self.make_place(shard, place, now, sizing::pairs) {
                    Ok(made) => shard = made,
                    Err(again) => {
                        shard = again;
                        continue;
                    }
                }
            }
            let Err(rejection) = self.try_take_on_route(&mut shard, wanted) else {
                drop(shard);
                wanted.state.note_admitted(wanted.slot, wanted.client.is_some());
                return Ok(Passed::Held);
            };
            let Some(place) = wanted.client.filter(|_| rejection.reason == Reason::TableFull && !has_looked) else {
                return self.not_taken(shard, wanted, rejection);
            };
            has_looked = true;
            drop(shard);
            self.reclaim_pair(Family::of(place.key), now);
            shard = self.lock(place, now);
        }
    }

    /// Counts a refusal, and turns it into an admission in a dry run.
    #[cold]
    fn not_taken(
        &self,
        shard: MutexGuard<'_, Shard>,
        Wanted { route, state, slot, client }: Wanted<'_>,
        rejection: Rejection,
    ) -> Result<Passed, Rejection> {
        let enforced = shard.settings.enforce && shard.settings.route(route).enforce;
        drop(shard);
        state.note_refused(slot, rejection.reason, enforced);
        if let Some(place) = client {
            self.sketch.note(place);
        }
        if enforced { Err(rejection) } else { Ok(Passed::Over(rejection.reason)) }
    }

    /// Locks the shard of a client, or any shard.
    #[inline]
    pub(crate) fn lock_for_route(&self, desk: usize, now: u64, client: Option<Place>) -> MutexGuard<'_, Shard> {
        match client {
            Some(place) => self.lock(place, now),
            None => self.lock_desk(desk, now),
        }
    }

    #[inline(always)]
    fn try_take_on_route(
        &self,
        shard: &mut Shard,
        Wanted { route, state, slot, client }: Wanted<'_>,
    ) -> Result<(), Rejection> {
        let age = shard.age();
        let Shard { settings, cold, .. } = shard;
        let (rule, reasons, held) = (settings.route(route).of(slot), Reasons::of(slot), state.held(slot));
        let full = rule.most.rejection(reasons.all);
        let fits = |(held, _)| !rule.most.refuses(held);
        let Some(place @ Place { key, .. }) = client else {
            return if held.take((1, 0), fits) { Ok(()) } else { Err(full) };
        };
        // A binding names a full route before anything of the client, a request after it.
        if slot == RouteSlot::Connection && !held.check(fits) {
            return Err(full);
        }
        let hash = self.pair_hash(place, route);
        let known = cold.pairs.find(hash, key, route);
        let mut usage = known.as_deref().copied().unwrap_or_default();
        let after = rule.per_client.admit(reasons, *usage.of(slot), age)?;
        if known.is_none() && rule.per_client.rate.is_some() && !self.has_pair_room(key) {
            return Err(Rejection::full(Reason::TableFull, self.pairs.most()));
        }
        if !held.take((1, 1), fits) {
            return Err(full);
        }
        match known {
            Some(known) => *known.of(slot) = after,
            None => {
                *usage.of(slot) = after;
                self.insert_pair(&mut cold.pairs, hash, key, route, usage);
            }
        }
        Ok(())
    }

    /// Gives the slot of a client on a route back, and forgets the pair if nothing is left of it.
    #[inline]
    pub(crate) fn give_pair(&self, shard: &mut Shard, place: Place, route: RouteId, slot: RouteSlot) {
        let age = shard.age();
        let Shard { settings, cold, .. } = shard;
        let mut held = false;
        let gone = cold.pairs.change(&self.secret, self.pair_hash(place, route), place.key, route, |usage| {
            held = usage.of(slot).give();
            settings.route(route).is_idle(*usage, age)
        });
        if gone == Some(true) {
            self.expect(self.pairs.give(Family::of(place.key), 1));
        }
        self.expect(held);
    }

    /// Gives the slot of a route back, and says whether it was counted for a client too.
    #[inline]
    pub(crate) fn give_route(&self, route: RouteId, slot: RouteSlot, of_client: bool) {
        let less = (1, u32::from(of_client));
        self.expect(self.routes.state(route).is_some_and(|state| state.held(slot).give(less)));
    }

    #[inline]
    fn pair_hash(&self, place: Place, route: RouteId) -> u32 {
        self.secret.pair(place.hash, route)
    }

    /// Whether there is room for a pair that may outlive what it counts. Only one with a rate does, so only then the table
    /// bounds the number of pairs; others are at most as many as connections and requests.
    #[inline]
    fn has_pair_room(&self, key: ClientKey) -> bool {
        self.pairs.has_room(Family::of(key))
    }

    #[inline]
    fn insert_pair(&self, pairs: &mut Pairs, hash: u32, key: ClientKey, route: RouteId, usage: PairUsage) {
        self.pairs.take_always(Family::of(key));
        pairs.insert(&self.secret, hash, key, route, usage);
    }
}
