//! The addresses of a backend's name, as they were last known. Pure.

use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The addresses of a backend's name, as they were last known.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    known: Mutex<Known>,
    /// Which one is dialled first.
    next: AtomicUsize,
    /// How often an address has gone.
    departures: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    /// Empty until the name was found once.
    addresses: Arc<[IpAddr]>,
    /// When it was not found last.
    missed: Option<Instant>,
}

impl Addresses {
    /// All of them, beginning with another one each time; none if the name was never found.
    pub(super) fn in_turn(&self) -> Vec<IpAddr> {
        let mut addresses = self.all().to_vec();
        if addresses.len() > 1 {
            // Ordering: only the number itself matters.
            let first = self.next.fetch_add(1, Ordering::Relaxed) % addresses.len();
            addresses.rotate_left(first);
        }
        addresses
    }

    pub(super) fn all(&self) -> Arc<[IpAddr]> {
        Arc::clone(&self.known.lock().addresses)
    }

    /// Whether the name was not found just before `now`, so that asking again would be of no use.
    pub(super) fn just_missed(&self, now: Instant) -> bool {
        self.known.lock().missed.is_some_and(|at| now.saturating_duration_since(at) < PAUSE)
    }

    /// Takes in what the name stands for; an empty answer is none, and the last good one stays. Whether that is a change.
    pub(super) fn learn(&self, found: &[IpAddr], now: Instant) -> bool {
        let mut known = self.known.lock();
        if found.is_empty() {
            return known.missed.replace(now).is_none();
        }
        known.missed = None;
        let gone = known.addresses.iter().any(|address| !found.contains(address));
        let changed = gone || found.iter().any(|address| !known.addresses.contains(address));
        if changed {
            known.addresses = found.into();
        }
        if gone {
            // Ordering: read by whoever is about to use a connection that is kept; one use more does no harm.
            self.departures.fetch_add(1, Ordering::Relaxed);
        }
        changed
    }

    pub(super) fn departures(&self) -> u64 {
        // Ordering: see `learn`.
        self.departures.load(Ordering::Relaxed)
    }
}

/// How long a name that was not found is not asked for again by those who dial.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_good_answer_stays() {
        let (addresses, now) = (Addresses::default(), Instant::now());
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([127, 0, 0, last]));
        assert!(addresses.in_turn().is_empty());
        assert!(addresses.learn(&[], now), "the first miss is news");
        assert!(!addresses.learn(&[], now));
        assert!(addresses.just_missed(now) && !addresses.just_missed(now + PAUSE));
        assert!(addresses.learn(&[a, b], now));
        assert!(!addresses.learn(&[b, a], now), "the order says nothing");
        assert_eq!((addresses.departures(), addresses.just_missed(now)), (0, false));
        assert!(addresses.learn(&[], now));
        let turns: Vec<_> = (0..3).map(|_| addresses.in_turn()).collect();
        assert_eq!(turns, [[a, b], [b, a], [a, b]], "in spite of the miss");
        assert!(addresses.learn(&[a, b, c], now));
        assert_eq!(addresses.departures(), 0, "one came, none went");
        assert!(addresses.learn(&[c], now));
        assert_eq!((addresses.departures(), addresses.in_turn()), (1, vec![c]));
    }
}
