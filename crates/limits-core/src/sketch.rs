//! Who is refused most, in a fixed amount of memory.
//!
//! The space-saving algorithm, once per small set: a client that is not in its set takes the place of the least
//! refused one there and starts from that one's count, which is therefore by how much its own may be too high.

use crate::secret::Place;
use crate::sync::Mutex;
use conn_tracker::ClientKey;
use crossbeam_utils::CachePadded;

const SETS: usize = if cfg!(any(loom, shuttle)) { 1 } else { 64 };
const WAYS: usize = 16;

/// How many clients the sketch knows at most.
pub(crate) const LEN: usize = SETS * WAYS;

/// One client that is refused often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hitter {
    pub(crate) client: ClientKey,
    /// Never too low for a client that is known; see `error`.
    pub(crate) refused: u64,
    pub(crate) error: u64,
}

type Set = [Option<Hitter>; WAYS];

#[derive(Debug)]
pub(crate) struct Sketch {
    // Locked after a shard is unlocked, never inside.
    sets: Box<[CachePadded<Mutex<Set>>]>,
}

impl Sketch {
    pub(crate) fn new() -> Self {
        Self { sets: (0..SETS).map(|_| CachePadded::new(Mutex::new([None; WAYS]))).collect() }
    }

    /// Counts one refusal.
    pub(crate) fn note(&self, place: Place) {
        let mut set = self.set(place).lock();
        if let Some(known) = set.iter_mut().flatten().find(|hitter| hitter.client == place.key) {
            known.refused += 1;
            return;
        }
        let least = set.iter_mut().min_by_key(|hitter| hitter.map_or(0, |hitter| hitter.refused));
        let least = least.expect("a set has places");
        let error = least.map_or(0, |hitter| hitter.refused);
        *least = Some(Hitter { client: place.key, refused: error + 1, error });
    }

    pub(crate) fn find(&self, place: Place) -> Option<Hitter> {
        self.set(place).lock().iter().flatten().find(|hitter| hitter.client == place.key).copied()
    }

    /// All that are known, most refused first.
    pub(crate) fn all(&self) -> Vec<Hitter> {
        let mut all: Vec<_> = self.sets.iter().flat_map(|set| *set.lock()).flatten().collect();
        all.sort_unstable_by_key(|hitter| (std::cmp::Reverse(hitter.refused), hitter.client));
        all
    }

    fn set(&self, place: Place) -> &Mutex<Set> {
        &self.sets[(place.hash >> 20) as usize % SETS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_stay_known_and_are_never_counted_too_low() {
        let sketch = Sketch::new();
        let place = |client: u32| Place { key: ClientKey::V4(client), hash: client.wrapping_mul(0x9e37_79b9) };
        for round in 0..20_000 {
            sketch.note(place(1_000_000 + round));
            sketch.note(place(round % 4));
        }
        let top = sketch.all();
        assert!(top.len() <= LEN);
        for hitter in &top[..4] {
            assert!(matches!(hitter.client, ClientKey::V4(0..4)), "{hitter:?}");
            assert!(hitter.refused >= 5_000 && hitter.refused - hitter.error <= 5_000, "{hitter:?}");
        }
        assert!(sketch.find(place(5)).is_none());
    }
}
