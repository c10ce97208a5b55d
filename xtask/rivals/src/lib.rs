//! The counting core beside what a program would otherwise take to limit connections per client.
//!
//! Each of them answers the same question, "may this client open one more, and from when on does it hold one less", as well
//! as it can. What it cannot do stands in [`Rival::lacks`].
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a measurement that fails has no figures")]

use ahash::RandomState;
use conn_tracker::{Arrival, ConnectionTracker, Hold, Permit};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use limits_core::{Limits, Table, TableConfig};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;
use tokio::sync::Semaphore;

/// How many connections a client may hold.
pub const PER_CLIENT: u32 = 100;

/// A way to limit connections per client.
pub trait Rival: Debug + Send + Sync {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// What it cannot do of what the counting core does, beyond counting per client.
    fn lacks(&self) -> &'static str;

    /// One connection of a client from its begin to its end; whether it was admitted.
    fn turn(&self, client: IpAddr) -> bool;

    /// One connection that stays; whether it was admitted.
    fn hold(&self, client: IpAddr) -> bool;
}

/// The client with this number, far from its neighbours.
#[must_use]
pub fn client(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b1)))
}

/// All of them, for so many clients.
#[must_use]
pub fn all(clients: u32) -> Vec<Box<dyn Rival>> {
    ["limits-core", "mutex", "dashmap", "semaphores", "moka", "governor"].map(|name| by_name(name, clients)).into()
}

/// One of them.
///
/// # Panics
/// If there is none of this name.
#[must_use]
pub fn by_name(name: &str, clients: u32) -> Box<dyn Rival> {
    match name {
        "limits-core" => Box::new(Core::new(clients)),
        "mutex" => Box::new(Mutexed::default()),
        "dashmap" => Box::new(Dash::default()),
        "semaphores" => Box::new(Semaphores::default()),
        "moka" => Box::new(Moka::new(clients)),
        "governor" => Box::new(Governor::new()),
        unknown => panic!("there is no rival {unknown:?}"),
    }
}

/// The counting core, with every scope that it has: rate, client, table, pending, process.
#[derive(Debug)]
pub struct Core {
    tracker: Arc<dyn ConnectionTracker>,
    now: Instant,
}

impl Core {
    /// A table for so many clients.
    #[must_use]
    pub fn new(clients: u32) -> Self {
        let now = Instant::now();
        let limits = Limits {
            max_connections: 30_000_000,
            per_client: PER_CLIENT,
            rate_per_minute: 60_000_000,
            ..Limits::default()
        };
        let config = TableConfig { tracked_clients: clients.saturating_mul(2), ..TableConfig::default() };
        let table = Table::new(config, limits, now).expect("the limits are sound");
        Self { tracker: table.for_worker(), now }
    }
}

impl Rival for Core {
    fn name(&self) -> &'static str {
        "limits-core"
    }

    fn lacks(&self) -> &'static str {
        "nothing of it"
    }

    fn turn(&self, client: IpAddr) -> bool {
        Permit::open(&self.tracker, self.now, Arrival::client(client)).is_ok()
    }

    fn hold(&self, client: IpAddr) -> bool {
        // A hold is plain data: let go of without its slots, it takes no memory here.
        let mut hold = Hold::vacant();
        let admitted = self.tracker.open(self.now, Arrival::client(client), &mut hold).is_ok();
        hold.settle();
        admitted
    }
}

/// One lock around one map.
#[derive(Debug, Default)]
pub struct Mutexed(Mutex<HashMap<IpAddr, u32, RandomState>>);

impl Mutexed {
    fn take(&self, client: IpAddr) -> bool {
        let mut counts = self.0.lock();
        let count = counts.entry(client).or_default();
        let admitted = *count < PER_CLIENT;
        *count += u32::from(admitted);
        admitted
    }
}

impl Rival for Mutexed {
    fn name(&self) -> &'static str {
        "Mutex<HashMap>, ahash"
    }

    fn lacks(&self) -> &'static str {
        "rates, other scopes, threads side by side"
    }

    fn turn(&self, client: IpAddr) -> bool {
        let admitted = self.take(client);
        if admitted {
            let mut counts = self.0.lock();
            if let Some(count) = counts.get_mut(&client) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&client);
                }
            }
        }
        admitted
    }

    fn hold(&self, client: IpAddr) -> bool {
        self.take(client)
    }
}

/// A sharded map of counts.
#[derive(Debug, Default)]
pub struct Dash(DashMap<IpAddr, u32, RandomState>);

impl Rival for Dash {
    fn name(&self) -> &'static str {
        "DashMap of counts, ahash"
    }

    fn lacks(&self) -> &'static str {
        "rates, other scopes"
    }

    fn turn(&self, client: IpAddr) -> bool {
        let admitted = self.hold(client);
        if admitted && let Entry::Occupied(mut entry) = self.0.entry(client) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        admitted
    }

    fn hold(&self, client: IpAddr) -> bool {
        let mut count = self.0.entry(client).or_default();
        let admitted = *count < PER_CLIENT;
        *count += u32::from(admitted);
        admitted
    }
}

/// A semaphore per client; its permits are owned, as a task needs them.
#[derive(Debug, Default)]
pub struct Semaphores(DashMap<IpAddr, Arc<Semaphore>, RandomState>);

impl Semaphores {
    fn of(&self, client: IpAddr) -> Arc<Semaphore> {
        let semaphore = self.0.entry(client).or_insert_with(|| Arc::new(Semaphore::new(PER_CLIENT as usize)));
        Arc::clone(&semaphore)
    }
}

impl Rival for Semaphores {
    fn name(&self) -> &'static str {
        "tokio semaphores in a DashMap"
    }

    fn lacks(&self) -> &'static str {
        "rates, other scopes, forgetting clients"
    }

    fn turn(&self, client: IpAddr) -> bool {
        self.of(client).try_acquire_owned().is_ok()
    }

    fn hold(&self, client: IpAddr) -> bool {
        self.of(client).try_acquire_owned().map(tokio::sync::OwnedSemaphorePermit::forget).is_ok()
    }
}

/// A cache of counters, which evicts those in use when it is full.
#[derive(Debug)]
pub struct Moka(moka::sync::Cache<IpAddr, Arc<AtomicU32>, RandomState>);

impl Moka {
    fn new(clients: u32) -> Self {
        let cache = moka::sync::Cache::builder().max_capacity(u64::from(clients) * 2);
        Self(cache.build_with_hasher(RandomState::new()))
    }

    fn take(&self, client: IpAddr) -> (Arc<AtomicU32>, bool) {
        let count = self.0.get_with(client, Arc::default);
        let taken =
            count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |held| (held < PER_CLIENT).then_some(held + 1));
        (count, taken.is_ok())
    }
}

impl Rival for Moka {
    fn name(&self) -> &'static str {
        "moka cache of counters"
    }

    fn lacks(&self) -> &'static str {
        "rates, other scopes, keeping who is in use"
    }

    fn turn(&self, client: IpAddr) -> bool {
        let (count, admitted) = self.take(client);
        if admitted {
            count.fetch_sub(1, Ordering::Release);
        }
        admitted
    }

    fn hold(&self, client: IpAddr) -> bool {
        self.take(client).1
    }
}

/// Rates only: it knows nothing of connections that end.
#[derive(Debug)]
pub struct Governor(DefaultKeyedRateLimiter<IpAddr>);

impl Governor {
    fn new() -> Self {
        let often = NonZeroU32::new(60_000_000).expect("it is not zero");
        Self(RateLimiter::keyed(Quota::per_minute(often)))
    }
}

impl Rival for Governor {
    fn name(&self) -> &'static str {
        "governor, keyed"
    }

    fn lacks(&self) -> &'static str {
        "counting: it has rates only"
    }

    fn turn(&self, client: IpAddr) -> bool {
        self.0.check_key(&client).is_ok()
    }

    fn hold(&self, client: IpAddr) -> bool {
        self.turn(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_them_limits_what_it_can() {
        for rival in all(1_000) {
            assert!((0..1_000).all(|number| rival.turn(client(number))), "{}", rival.name());
            let held = (0..1_000).filter(|_| rival.hold(client(7))).count();
            if rival.name() != "governor, keyed" {
                assert_eq!(held, PER_CLIENT as usize, "{}", rival.name());
            }
        }
    }
}
