//! The table: the order of decisions, top to bottom.
//!
//! A decision locks one shard, peeks at everything that it needs without writing, changes one atomic word by
//! compare-and-swap — the only step that can fail late — and then writes the counts of the client. An attempt that
//! fails has changed nothing that another could have seen. (The one exception is room for a new client, which is
//! taken before that step and may be given back: a table within an entry of being full may refuse one too early.)

use crate::capacity::{Capacity, Family};
use crate::entry::{Clients, PairUsage, Pairs, Usage, hash};
use crate::expiry::Walk;
use crate::limits::{Limits, LimitsError};
use crate::packed::Process;
use crate::routes::{RouteSlot, Routes};
use crate::settings::Settings;
use crate::shard::{Shard, is_idle, is_idle_pair};
use crate::sketch::Sketch;
use crate::sync::{Arc, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::worker::Worker;
use ahash::RandomState;
use conn_tracker::{
    Arrival, Binding, ClientKey, ConnectionTracker, Hold, Origin, Prefixes, Reason, Rejection, RouteId, Slots,
    canonical,
};
use crossbeam_utils::CachePadded;
use std::net::IpAddr;
use std::time::Instant;

/// What a table is made with and keeps for life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableConfig {
    /// How much of an address makes a client.
    pub prefixes: Prefixes,
    /// How many clients the table may hold. Never 0; each address family is guaranteed a quarter.
    pub tracked_clients: u32,
    /// Parts with a lock of their own; rounded up to a power of two of at least 1,024.
    pub shards: u32,
}

impl Default for TableConfig {
    /// Whole IPv4 addresses and IPv6 /64 networks, 4,000,000 clients, 2,048 shards.
    fn default() -> Self {
        Self { prefixes: Prefixes::default(), tracked_clients: 4_000_000, shards: 2048 }
    }
}

/// Counts every connection and request, exactly, in one place.
///
/// See the [crate] for what it promises.
#[derive(Debug)]
pub struct Table {
    prefixes: Prefixes,
    started: Instant,
    pub(crate) hasher: RandomState,
    pub(crate) shards: Box<[CachePadded<Mutex<Shard>>]>,
    pub(crate) process: CachePadded<Process>,
    pub(crate) clients: Capacity,
    pub(crate) pairs: Capacity,
    pub(crate) routes: Routes,
    pub(crate) sketch: Sketch,
    pub(crate) walk: Mutex<Walk>,
    /// Where the next search for room begins.
    pub(crate) hand: AtomicUsize,
    anomalies: AtomicU64,
    reloading: Mutex<()>,
    workers: AtomicUsize,
}

/// A client and where it is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) key: ClientKey,
    pub(crate) hash: u64,
}

impl Table {
    /// An empty table. `now` is where its time begins.
    ///
    /// # Errors
    /// A limit that cannot be counted, or settings that contradict each other.
    #[expect(clippy::needless_pass_by_value, reason = "limits in force belong to the table")]
    pub fn new(config: TableConfig, limits: Limits, now: Instant) -> Result<Arc<Self>, LimitsError> {
        if config.tracked_clients == 0 {
            return Err(LimitsError::NoClients);
        }
        let routes = Routes::new();
        let checked = Settings::check(&limits, config.prefixes)?;
        let settings = Arc::new(checked.with_routes(&routes.name(keys(&limits))?));
        let shards = config.shards.clamp(1024, 1 << 20).next_power_of_two();
        Ok(Arc::new(Self {
            prefixes: config.prefixes,
            started: now,
            hasher: RandomState::new(),
            shards: (0..shards).map(|_| CachePadded::new(Mutex::new(Shard::new(Arc::clone(&settings))))).collect(),
            process: CachePadded::default(),
            clients: Capacity::new(config.tracked_clients),
            pairs: Capacity::new(config.tracked_clients),
            routes,
            sketch: Sketch::new(),
            walk: Mutex::default(),
            hand: AtomicUsize::new(0),
            anomalies: AtomicU64::new(0),
            reloading: Mutex::new(()),
            workers: AtomicUsize::new(0),
        }))
    }

    /// Puts other limits in force and answers the routes of `limits.routes`, in their order. Every count stays; a
    /// decision that begins after this has returned goes by the new limits.
    ///
    /// # Errors
    /// As [`Table::new`]; then everything is as it was.
    #[expect(clippy::needless_pass_by_value, reason = "limits in force belong to the table")]
    pub fn reload(&self, now: Instant, limits: Limits) -> Result<Vec<RouteId>, LimitsError> {
        let _one_at_a_time = self.reloading.lock();
        let checked = Settings::check(&limits, self.prefixes)?;
        let ids = self.routes.name(keys(&limits))?;
        let settings = Arc::new(checked.with_routes(&ids));
        let now = self.micros(now);
        for shard in &self.shards {
            shard.lock().adopt(&settings, now);
        }
        Ok(ids)
    }

    /// The routes in force, in the order of the limits last given.
    #[must_use]
    pub fn route_ids(&self) -> Vec<RouteId> {
        self.routes.in_force()
    }

    /// The route with this key, in force or not any more.
    #[must_use]
    pub fn route_id(&self, key: &str) -> Option<RouteId> {
        self.routes.id(key)
    }

    /// The key of a route.
    #[must_use]
    pub fn route_key(&self, route: RouteId) -> Option<&str> {
        self.routes.key(route)
    }

    /// A tracker for one worker: its permits do not contend with those of other workers for one reference count.
    #[must_use]
    pub fn for_worker(self: &Arc<Self>) -> Arc<dyn ConnectionTracker> {
        // Ordering: any distinct number does.
        let number = self.workers.fetch_add(1, Ordering::Relaxed) + 1;
        Arc::new(Worker::new(Arc::clone(self), number % self.shards.len()))
    }

    /// Time as everything inside counts it: in whole microseconds since the table was made.
    pub(crate) fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn place(&self, address: IpAddr) -> Place {
        self.place_of(self.prefixes.key(address))
    }

    pub(crate) fn place_of(&self, key: ClientKey) -> Place {
        Place { key, hash: hash(&self.hasher, key, ()) }
    }

    pub(crate) fn shard_of(&self, place: Place) -> &Mutex<Shard> {
        // Bits that the hash tables inside do not use: they index by the lowest and tag by the highest.
        &self.shards[(place.hash >> 36) as usize & (self.shards.len() - 1)]
    }

    pub(crate) fn lock(&self, place: Place, now: u64) -> MutexGuard<'_, Shard> {
        let mut shard = self.shard_of(place).lock();
        shard.advance(now);
        shard
    }

    /// Locks any shard, for decisions that only read settings: each worker has one of its own.
    pub(crate) fn lock_desk(&self, desk: usize, now: u64) -> MutexGuard<'_, Shard> {
        let mut shard = self.shards[desk].lock();
        shard.advance(now);
        shard
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
                answer.map(|()| unheld(Some(place.key)))
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
            Err(rejection) => tally.refuse(rejection, settings.enforce).map(|()| unheld(None)),
        }
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
                hold.mark_over();
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
                hold.mark_over();
                hold.push(Binding::new(route, false, false));
                Ok(())
            }
        }
    }

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
            for binding in hold.bindings().filter(|binding| binding.holds_client()) {
                self.release_pair(&mut shard, key, binding);
            }
            self.release_client(&mut shard, place);
        }
        for binding in hold.bindings() {
            self.release_route(binding);
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
        let gone = shard.clients.change(hash, key, (), |usage| {
            held = usage.connections > 0;
            usage.connections = usage.connections.saturating_sub(1);
            is_idle(usage, passed)
        });
        if gone == Some(true) {
            self.expect(self.clients.give(Family::of(key), 1));
        }
        shard.tally.client_connections -= u64::from(held);
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

    /// Gives a slot of a pair back and forgets the pair if nothing is left of it; `give` tells whether it was held.
    pub(crate) fn change_pair(
        &self,
        shard: &mut Shard,
        key: ClientKey,
        route: RouteId,
        give: impl FnOnce(&mut PairUsage) -> bool,
    ) {
        let passed = shard.settings.route_ticks(route).passed(shard.age());
        let mut held = false;
        let gone = shard.pairs.change(hash(&self.hasher, key, route), key, route, |usage| {
            held = give(usage);
            is_idle_pair(usage, passed)
        });
        if gone == Some(true) {
            self.expect(self.pairs.give(Family::of(key), 1));
        }
        self.expect(held);
    }

    pub(crate) fn anomalies(&self) -> u64 {
        // Ordering: a statistic, nothing is read because of it.
        self.anomalies.load(Ordering::Relaxed)
    }

    /// Counts a release of something that was not held. It cannot happen through permits.
    pub(crate) fn expect(&self, held: bool) {
        if !held {
            // Ordering: see `anomalies`.
            self.anomalies.fetch_add(1, Ordering::Relaxed);
            debug_assert!(std::thread::panicking(), "a slot was given back that was not held");
        }
    }
}

/// A connection that only a dry run lets in: it holds nothing, so that the counts are those of enforcing.
fn unheld(client: Option<ClientKey>) -> Hold {
    let mut hold = Hold::new(client, Slots::NONE);
    hold.mark_over();
    hold
}

fn keys(limits: &Limits) -> impl Iterator<Item = &str> {
    limits.routes.iter().map(|route| &*route.key)
}
