//! Which sources come most often, in sixteen kilobytes.

use crate::origin::{address_of, number_of};
use crate::sync::{AtomicU64, Ordering};
use std::cmp::Reverse;
use std::net::IpAddr;

/// Sources that share a hash compete for this many places.
const WAYS: usize = 4;
const SETS: usize = if cfg!(loom) { 1 } else { 128 };

/// Counts events by source, in a fixed amount of memory: a space-saving sketch of 512 sources, cut by hash into sets of four so that one event costs a look at four places.
///
/// A source that is not among the four of its set takes the place of the least of them and inherits its count as a
/// possible error. So for each source kept, the truth lies between `count - error` and `count`, a source that is not kept
/// has at most the least count of its set, and one that makes up more than a quarter of its set's events is always kept.
///
/// One thread counts at a time.
///
/// ```
/// use log_dedup::Foremost;
/// use std::hash::{BuildHasher, RandomState};
///
/// let (failures, hashes) = (Foremost::new(), RandomState::new());
/// let client = "203.0.113.7".parse()?;
/// failures.count(client, hashes.hash_one(client));
/// assert_eq!(failures.counts(), [(client, 1)]);
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug)]
pub struct Foremost {
    places: Box<[Place]>,
}

/// Ordering: all of it is written by one thread, and read under the version of the samples it belongs to.
#[derive(Debug)]
struct Place {
    /// The address; meaningless while `count` is 0.
    high: AtomicU64,
    low: AtomicU64,
    count: AtomicU64,
    error: AtomicU64,
}

/// A copy of what was kept.
#[derive(Debug)]
pub(crate) struct Kept {
    places: Vec<Copied>,
}

#[derive(Clone, Copy, Debug)]
struct Copied {
    address: u128,
    count: u64,
    error: u64,
}

impl Default for Foremost {
    fn default() -> Self {
        Self::new()
    }
}

impl Foremost {
    /// Nothing counted.
    #[must_use]
    pub fn new() -> Self {
        let empty = || AtomicU64::new(0);
        let place = |_| Place { high: empty(), low: empty(), count: empty(), error: empty() };
        Self { places: (0..SETS * WAYS).map(place).collect() }
    }

    /// Counts one event of a source. `hash` is that of the source: always the same one, which nobody outside can foresee.
    pub fn count(&self, source: IpAddr, hash: u64) {
        self.add(number_of(source), hash);
    }

    /// Every source kept, with the number of events that are certainly its own, most first.
    #[must_use]
    pub fn counts(&self) -> Vec<(IpAddr, u64)> {
        let mut counts: Vec<_> = self.copy().at_least().map(|(address, count)| (address_of(address), count)).collect();
        counts.sort_unstable_by_key(|&(source, count)| (Reverse(count), source));
        counts
    }

    /// Counts one event of an address with this hash.
    pub(crate) fn add(&self, address: u128, hash: u64) {
        let (high, low) = ((address >> 64) as u64, address as u64);
        let first = set_of(hash) * WAYS;
        let set = &self.places[first..first + WAYS];
        let (mut least, mut fewest) = (&set[0], u64::MAX);
        for place in set {
            let count = place.count.load(Ordering::Relaxed);
            let same = place.low.load(Ordering::Relaxed) == low && place.high.load(Ordering::Relaxed) == high;
            if same && count > 0 {
                return place.count.store(count + 1, Ordering::Relaxed);
            }
            if count < fewest {
                (least, fewest) = (place, count);
            }
        }
        least.high.store(high, Ordering::Relaxed);
        least.low.store(low, Ordering::Relaxed);
        least.count.store(fewest + 1, Ordering::Relaxed);
        least.error.store(fewest, Ordering::Relaxed);
    }

    pub(crate) fn clear(&self) {
        for place in &self.places {
            place.count.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn copy(&self) -> Kept {
        let copied = |place: &Place| Copied {
            address: u128::from(place.high.load(Ordering::Relaxed)) << 64
                | u128::from(place.low.load(Ordering::Relaxed)),
            count: place.count.load(Ordering::Relaxed),
            error: place.error.load(Ordering::Relaxed),
        };
        Kept { places: self.places.iter().map(copied).collect() }
    }
}

impl Kept {
    /// Every source kept, with the number of events that are certainly its own.
    pub(crate) fn at_least(&self) -> impl Iterator<Item = (u128, u64)> + '_ {
        let kept = self.places.iter().filter(|place| place.count > 0);
        kept.map(|place| (place.address, place.count.saturating_sub(place.error)))
    }

    /// How many events an address with this hash has at most.
    pub(crate) fn at_most(&self, address: u128, hash: u64) -> u64 {
        let first = set_of(hash) * WAYS;
        let set = &self.places[first..first + WAYS];
        let kept = set.iter().find(|place| place.address == address && place.count > 0);
        kept.or_else(|| set.iter().min_by_key(|place| place.count)).map_or(0, |place| place.count)
    }
}

/// The upper bits: the lower ones choose the register of the distinct count.
fn set_of(hash: u64) -> usize {
    (hash >> 40) as usize % SETS
}
