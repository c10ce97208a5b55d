//! Who is refused most often, in a fixed amount of memory.
//!
//! Each client that is known has a bucket: a refusal puts a drop in, and it drains at the rate in question. It runs over
//! when more came than drained. A client that is not known takes the place of whoever's bucket is lowest in a small set,
//! and begins with an empty one: so a rate is never taken for higher than it is, and those who knock often stay.

use conn_tracker::ClientKey;
use parking_lot::Mutex;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

const SETS: usize = 256;
const WAYS: usize = 16;

#[derive(Clone, Copy)]
struct Bucket {
    client: ClientKey,
    /// In thousandths of a refusal, at the time `at`.
    level: u64,
    /// In milliseconds.
    at: u64,
}

type Set = [Option<Bucket>; WAYS];

pub(crate) struct Sketch {
    sets: Box<[Mutex<Set>]>,
    // Keyed by chance: nobody can choose addresses that share a set.
    hasher: RandomState,
}

impl Sketch {
    pub(crate) fn new() -> Self {
        Self { sets: (0..SETS).map(|_| Mutex::new([None; WAYS])).collect(), hasher: RandomState::new() }
    }

    /// Counts one refusal at `now`, in milliseconds; whether the client has by then been refused more often than
    /// `per_second` times a second. Then its bucket is empty again.
    pub(crate) fn note(&self, now: u64, client: ClientKey, per_second: u32) -> bool {
        let drained = |bucket: &Bucket| {
            let drained = now.saturating_sub(bucket.at).saturating_mul(per_second.into());
            bucket.level.saturating_sub(drained)
        };
        let set = usize::try_from(self.hasher.hash_one(client) % SETS as u64).expect("below a small number");
        let mut set = self.sets[set].lock();
        let place = match set.iter().position(|place| place.is_some_and(|bucket| bucket.client == client)) {
            Some(known) => known,
            None => {
                let level = |index: &usize| set[*index].as_ref().map_or(0, drained);
                let lowest = (0..WAYS).min_by_key(level).expect("a set has places");
                set[lowest] = None;
                lowest
            }
        };
        let level = set[place].as_ref().map_or(0, drained) + 1000;
        let over = level > u64::from(per_second) * 1000;
        set[place] = Some(Bucket { client, level: if over { 0 } else { level }, at: now });
        over
    }
}

impl fmt::Debug for Sketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sketch").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: ClientKey = ClientKey::V4(7);

    /// When a client that is refused every `every` milliseconds is first too fast, within ten seconds.
    fn first_over(every: usize, per_second: u32) -> Option<u64> {
        let sketch = Sketch::new();
        (0..10_000).step_by(every).find(|now| sketch.note(*now, CLIENT, per_second))
    }

    #[test]
    fn only_those_above_the_rate_run_over() {
        // 50 refusals a second are allowed: every 20 ms.
        assert_eq!(first_over(20, 50), None);
        assert_eq!(first_over(21, 50), None);
        // 100 a second, of which 50 drain: more than 50 are in the bucket after a second.
        assert_eq!(first_over(10, 50), Some(990));
        assert_eq!(first_over(1, 50), Some(52));
        assert_eq!(first_over(999, 1), Some(999));
        assert_eq!(first_over(1000, 1), None);
    }

    #[test]
    fn as_many_as_in_one_second_may_come_at_once() {
        let sketch = Sketch::new();
        assert!((0..50).all(|_| !sketch.note(5, CLIENT, 50)));
        assert!(sketch.note(5, CLIENT, 50));
        assert!(!sketch.note(5, CLIENT, 50), "it begins anew");
    }

    #[test]
    fn a_crowd_neither_hides_nor_becomes_a_heavy_one() {
        let sketch = Sketch::new();
        let mut over = 0;
        for now in 0..5_000 {
            // 20,000 refusals a second of clients that come once, and one that comes 200 times a second.
            for other in 0..20 {
                let once = ClientKey::V6(now * 20 + other);
                assert!(!sketch.note(now, once, 50));
            }
            if now % 5 == 0 {
                over += u32::from(sketch.note(now, CLIENT, 50));
            }
        }
        // 150 a second more than drain: 51 after a third of a second.
        assert!((10..=15).contains(&over), "{over}");
    }
}
