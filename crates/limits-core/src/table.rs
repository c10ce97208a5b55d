//! The table: what it consists of, which limits are in force in it, and how its parts are found.

use crate::capacity::Capacity;
use crate::clock::Clock;
use crate::limits::{Limits, LimitsError};
use crate::packed::Process;
use crate::routes::Routes;
use crate::secret::{Place, Secret};
use crate::settings::Settings;
use crate::shard::Shard;
use crate::sketch::Sketch;
use crate::sync::{Arc, AtomicUsize, Counter, Mutex, MutexGuard, Ordering};
use crate::walk::{Part, walk};
use conn_tracker::{ClientKey, Prefixes, RouteId, SweepQueue};
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
}

impl Default for TableConfig {
    /// Whole IPv4 addresses and IPv6 /64 networks, 4,000,000 clients.
    fn default() -> Self {
        Self { prefixes: Prefixes::default(), tracked_clients: 4_000_000 }
    }
}

/// Counts every connection and request, exactly, in one place.
///
/// See the [crate] for what it promises.
#[derive(Debug)]
pub struct Table {
    pub(crate) prefixes: Prefixes,
    clock: Clock,
    pub(crate) secret: Secret,
    pub(crate) shards: Box<[CachePadded<Mutex<Shard>>; SHARDS]>,
    pub(crate) process: CachePadded<Process>,
    pub(crate) clients: Capacity,
    pub(crate) pairs: Capacity,
    pub(crate) routes: Routes,
    pub(crate) sketch: Sketch,
    pub(crate) walk: SweepQueue<Part>,
    /// Where the next search for room begins.
    pub(crate) hand: AtomicUsize,
    anomalies: Counter,
    reloading: Mutex<()>,
    pub(crate) workers: AtomicUsize,
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
        let shard = |_| CachePadded::new(Mutex::new(Shard::new(Arc::clone(&settings))));
        Ok(Arc::new(Self {
            prefixes: config.prefixes,
            clock: Clock::starting(now),
            secret: Secret::new(),
            shards: (0..SHARDS).map(shard).collect::<Vec<_>>().try_into().expect("so many were made"),
            process: CachePadded::default(),
            clients: Capacity::new(config.tracked_clients),
            pairs: Capacity::new(config.tracked_clients),
            routes,
            sketch: Sketch::new(),
            walk: walk(SHARDS as u32),
            hand: AtomicUsize::new(0),
            anomalies: Counter::new(0),
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
        // Freed once no shard has them, and none is locked.
        let _old = Arc::clone(&self.shards[0].lock().settings);
        for shard in &*self.shards {
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

    /// Time as everything inside counts it: in whole microseconds since the table was made.
    #[inline(always)]
    pub(crate) fn micros(&self, now: Instant) -> u64 {
        self.clock.micros(now)
    }

    #[inline]
    pub(crate) fn place(&self, address: IpAddr) -> Place {
        self.place_of(self.prefixes.key(address))
    }

    #[inline]
    pub(crate) fn place_of(&self, key: ClientKey) -> Place {
        self.secret.place(key)
    }

    #[inline]
    pub(crate) fn shard_of(&self, place: Place) -> &Mutex<Shard> {
        self.shard_by(place.hash)
    }

    #[inline]
    pub(crate) fn shard_by(&self, hash: u32) -> &Mutex<Shard> {
        // The lowest bits: the hash tables inside go by the highest.
        &self.shards[hash as usize % SHARDS]
    }

    #[inline]
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

    pub(crate) fn anomalies(&self) -> u64 {
        // Ordering: a statistic, nothing is read because of it.
        self.anomalies.load(Ordering::Relaxed)
    }

    /// Counts a release of something that was not held. It cannot happen through permits.
    pub(crate) fn expect(&self, held: bool) {
        if !held {
            self.note_anomaly();
        }
    }

    #[cold]
    fn note_anomaly(&self) {
        // Ordering: see `anomalies`.
        self.anomalies.fetch_add(1, Ordering::Relaxed);
        debug_assert!(std::thread::panicking(), "a slot was given back that was not held");
    }
}

fn keys(limits: &Limits) -> impl Iterator<Item = &str> {
    limits.routes.iter().map(|route| &*route.key)
}

/// Parts with a lock of their own: a power of two, enough that no lock is held for a millisecond while a full table grows.
/// Models have no time for as many.
pub(crate) const SHARDS: usize = if cfg!(any(loom, shuttle)) { 2 } else { 1024 };
