//! Growing and shrinking the hash tables of a shard, with no lock held while the allocator is called.

use crate::capacity::Family;
use crate::dense::Size;
use crate::entry::{Clients, Counts, Pairs, Part, Room, Value};
use crate::secret::Place;
use crate::shard::Shard;
use crate::sync::{Mutex, MutexGuard};
use crate::table::Table;

/// The clients of a shard.
pub(crate) fn clients(shard: &mut Shard) -> &mut Clients {
    &mut shard.clients
}

/// The clients of a shard, per route.
pub(crate) fn pairs(shard: &mut Shard) -> &mut Pairs {
    &mut shard.cold.pairs
}

impl Table {
    /// Sees to it that a client's hash table among `counts` has a place for one more. Where it has none, the lock is let go
    /// meanwhile: then the answer is an error, and whoever decides has to begin anew, as nothing seen before need be so any more.
    #[inline(always)]
    pub(crate) fn make_place<'a, S: Part, V: Value>(
        &'a self,
        mut shard: MutexGuard<'a, Shard>,
        place: Place,
        now: u64,
        counts: fn(&mut Shard) -> &mut Counts<S, V>,
    ) -> Result<MutexGuard<'a, Shard>, MutexGuard<'a, Shard>> {
        if counts(&mut shard).more(Family::of(place.key)).is_none() {
            return Ok(shard);
        }
        drop(shard);
        Err(self.grown(place, now, counts))
    }

    #[cold]
    #[inline(never)]
    fn grown<S: Part, V: Value>(
        &self,
        place: Place,
        now: u64,
        counts: fn(&mut Shard) -> &mut Counts<S, V>,
    ) -> MutexGuard<'_, Shard> {
        self.resize(self.shard_of(place), Family::of(place.key), counts, Counts::more);
        self.lock(place, now)
    }

    /// Gives a hash table the size that it `should` have, if another one. The allocator is called between two locks and
    /// behind the second one, never under one.
    pub(crate) fn resize<S: Part, V: Value>(
        &self,
        shard: &Mutex<Shard>,
        family: Family,
        counts: fn(&mut Shard) -> &mut Counts<S, V>,
        should: fn(&Counts<S, V>, Family) -> Option<Size>,
    ) {
        let Some(size) = should(counts(&mut shard.lock()), family) else { return };
        let room = Room::new(family, size);
        let left = counts(&mut shard.lock()).resize(&self.secret, room);
        drop(left);
    }
}

#[cfg(test)]
mod tests;
