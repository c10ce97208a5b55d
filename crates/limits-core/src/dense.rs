//! A hash table for many small plain entries: no control bytes, no doubling, memory in equal pieces.
//!
//! Open addressing with linear probing, the entries in the order of their hashes. An entry's home grows with its hash,
//! so all of them can be spread over more places, or fewer, in place and in one pass: the table grows by an eighth at a
//! time instead of doubling, and never exists twice. Its memory is a list of segments of one size, which every table of
//! the same kind shares with the others through the allocator: growing frees nothing, so nothing is fragmented.

use crate::prefetch::prefetch;
use std::ops::{Index, IndexMut};

/// What such a table holds.
pub(crate) trait Entry: Copy {
    /// What a place holds that no entry is in.
    const VACANT: Self;

    fn is_vacant(&self) -> bool;
}

/// Places of a segment. In models so few that tables grow.
const SEGMENT: usize = if cfg!(any(loom, shuttle)) { 4 } else { 128 };
/// Places behind the last home, for what is pushed beyond it.
const SPARE: usize = SEGMENT / 4;

/// The smallest piece of memory that a table has or gives up.
type Segment<E> = Box<[E; SEGMENT]>;

/// How many segments a table should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    segments: usize,
    /// Those of them that it does not have yet.
    fresh: usize,
}

/// What a table can move into, or has left behind.
#[derive(Debug)]
pub(crate) struct Room<E>(Vec<Segment<E>>);

impl<E: Entry> Room<E> {
    /// What a table needs to have this size.
    pub(crate) fn new(size: Size) -> Self {
        let mut segments = Vec::with_capacity(size.segments);
        segments.extend(std::iter::repeat_with(|| Box::new([E::VACANT; SEGMENT])).take(size.fresh));
        Self(segments)
    }
}

/// Entries by hash.
///
/// The places `0..places()` hold the entries in the order of their hashes, each at its home or behind it without a
/// vacant place between.
#[derive(Debug)]
pub(crate) struct Dense<E> {
    segments: Box<[Segment<E>]>,
    len: u32,
    /// Places that are the home of some hash.
    homes: u32,
}

impl<E> Default for Dense<E> {
    fn default() -> Self {
        Self { segments: Box::default(), len: 0, homes: 0 }
    }
}

impl<E: Entry> Dense<E> {
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Places, vacant or not. All indexes are below it.
    pub(crate) fn places(&self) -> usize {
        self.segments.len() * SEGMENT
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.segments) + self.segments.len() * size_of::<[E; SEGMENT]>()
    }

    /// The entry with this hash that is `wanted`, and its place.
    #[inline]
    pub(crate) fn find(&mut self, hash: u32, wanted: impl Fn(&E) -> bool) -> Option<(usize, &mut E)> {
        let home = self.home(hash);
        let mut place = home;
        let mut first = home % SEGMENT;
        for segment in self.segments.get_mut(home / SEGMENT..)? {
            for entry in &mut segment[first..] {
                if entry.is_vacant() {
                    return None;
                }
                if wanted(entry) {
                    return Some((place, entry));
                }
                place += 1;
            }
            first = 0;
        }
        None
    }

    /// The entry with this hash that is `wanted`, if it is in the segment of its home and no vacant place before it. Nearly
    /// every one is; `None` says nothing. What is found at its home may be a vacant place, if one is `wanted`.
    #[inline(always)]
    pub(crate) fn find_near(&mut self, hash: u32, wanted: impl Fn(&E) -> bool) -> Option<&mut E> {
        let home = self.home(hash);
        let (segment, first) = (self.segments.get_mut(home / SEGMENT)?, home % SEGMENT);
        if wanted(&segment[first]) {
            return Some(&mut segment[first]);
        }
        segment[first..].iter_mut().take_while(|entry| !entry.is_vacant()).find(|entry| wanted(entry))
    }

    /// Brings the places at which the entry with this hash most likely is nearer to the processor.
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u32) {
        /// Nearly every search is over within as many bytes.
        const CACHE_LINE: usize = 64;
        let home = self.home(hash);
        let Some(segment) = self.segments.get(home / SEGMENT) else { return };
        let first = std::ptr::from_ref(&segment[home % SEGMENT]);
        prefetch(first);
        prefetch(first.wrapping_byte_add(CACHE_LINE));
    }

    /// Adds an entry that is not there, to a table that need not grow. `hash_of` must give what `hash` is, for every entry.
    pub(crate) fn insert(&mut self, hash: u32, entry: E, hash_of: impl Fn(&E) -> u32) {
        debug_assert!(self.more().is_none(), "a table grows before it is too full");
        while !self.squeeze_in(hash, entry, &hash_of) {
            self.spread_over(self.segments.len(), self.places() - self.homes as usize + SPARE, &hash_of);
        }
        self.len += 1;
    }

    /// Takes the entry at an occupied place out. What is behind it moves up, never before `place`.
    pub(crate) fn remove(&mut self, mut place: usize, hash_of: impl Fn(&E) -> u32) {
        while place + 1 < self.places() {
            let next = self[place + 1];
            if next.is_vacant() || self.home(hash_of(&next)) > place {
                break;
            }
            self[place] = next;
            place += 1;
        }
        self[place] = E::VACANT;
        self.len -= 1;
    }

    /// How large the table has to be before another entry is added, if it is not.
    #[inline]
    pub(crate) fn more(&self) -> Option<Size> {
        let segments = self.segments.len();
        (self.len as usize >= most(self.homes)).then(|| {
            let fresh = (segments / 8).max(1);
            Size { segments: segments + fresh, fresh }
        })
    }

    /// How small the table could be, if it is much larger. Some room is kept, so that a table at the edge does not grow and
    /// shrink in turn.
    pub(crate) fn less(&self) -> Option<Size> {
        let roomy = segments_for(self.len as usize + self.len as usize / 4);
        (roomy < self.segments.len() - self.segments.len() / 4).then_some(Size { segments: roomy, fresh: 0 })
    }

    /// Moves into `room`, if it still makes the table larger or fits it, and leaves what is not needed any more. No memory
    /// is asked for or freed here: either may take an allocator milliseconds, as it may tidy up all that it has, and there
    /// is a lock around the table.
    pub(crate) fn resize(&mut self, room: Room<E>, hash_of: impl Fn(&E) -> u32) -> Room<E> {
        let Room(mut segments) = room;
        let (wanted, fresh) = (segments.capacity(), segments.len());
        if fresh > 0 && self.segments.len() + fresh == wanted {
            // The new ones in front: to be spread, the entries have to be at the end.
            let mut left = Vec::from(std::mem::take(&mut self.segments));
            segments.append(&mut left);
            self.segments = segments.into_boxed_slice();
            self.spread_over(wanted, SPARE, hash_of);
            return Room(left);
        }
        if fresh == 0 && segments_for(self.len as usize) <= wanted && wanted < self.segments.len() {
            self.spread_over(wanted, SPARE, hash_of);
            let mut left = Vec::from(std::mem::take(&mut self.segments));
            segments.extend(left.drain(..wanted));
            self.segments = segments.into_boxed_slice();
            return Room(left);
        }
        Room(segments)
    }

    /// The entries with hashes from `from` on, in the order of their hashes, which on average fill so many places; and with
    /// which hash the next part begins, [`HASHES`] at the end.
    ///
    /// Parts are cut by hash, not by place: whoever is there during all of them is in exactly one, however often others come
    /// and go between two parts, move it, or make the table grow.
    pub(crate) fn part(
        &self,
        from: u64,
        places: usize,
        hash_of: impl Fn(&E) -> u32 + Copy,
    ) -> (impl Iterator<Item = &E>, u64) {
        let share = ((places as u64) << 32).checked_div(self.homes.into()).unwrap_or(HASHES);
        let until = (from + share.max(1)).min(HASHES);
        let behind = u32::try_from(until).map_or_else(|_| self.places(), |until| self.home(until));
        let hash_of = move |entry: &E| u64::from(hash_of(entry));
        let first = u32::try_from(from).map_or_else(|_| self.places(), |from| self.home(from));
        let entries = (first..self.places())
            .map(|place| (place, &self[place]))
            .take_while(move |&(place, entry)| if entry.is_vacant() { place < behind } else { hash_of(entry) < until })
            .filter_map(|(_, entry)| (!entry.is_vacant()).then_some(entry))
            .skip_while(move |entry| hash_of(entry) < from);
        (entries, until)
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &E> + '_ {
        self.segments.iter().flat_map(|segment| segment.iter()).filter(|entry| !entry.is_vacant())
    }

    /// Every entry, to change all but what its hash depends on. An entry must not become vacant.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut E> + '_ {
        self.segments.iter_mut().flat_map(|segment| segment.iter_mut()).filter(|entry| !entry.is_vacant())
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        // A fraction of the homes instead of a remainder: it is cheaper, and grows with the hash.
        ((u64::from(hash) * u64::from(self.homes)) >> 32) as usize
    }

    /// Puts an entry where its hash belongs if a place is vacant behind it.
    fn squeeze_in(&mut self, hash: u32, entry: E, hash_of: impl Fn(&E) -> u32) -> bool {
        let places = self.places();
        let mut place = self.home(hash);
        while place < places {
            let here = &mut self[place];
            if here.is_vacant() {
                *here = entry;
                return true;
            }
            if hash_of(here) > hash {
                break;
            }
            place += 1;
        }
        let Some(vacant) = (place..places).find(|&behind| self[behind].is_vacant()) else { return false };
        for behind in (place..vacant).rev() {
            self[behind + 1] = self[behind];
        }
        self[place] = entry;
        true
    }

    /// Spreads the entries over the first `segments`, with so many places behind the last home. Where too many entries belong
    /// to the last homes there are fewer homes, and more places behind them.
    fn spread_over(&mut self, segments: usize, mut spare: usize, hash_of: impl Fn(&E) -> u32) {
        let places = segments * SEGMENT;
        loop {
            self.homes = u32::try_from(places.saturating_sub(spare)).expect("a table has fewer than 4 G places");
            if self.spread(places, &hash_of) {
                return;
            }
            spare += SPARE;
        }
    }

    /// Spreads the entries over the first `places`, if they are enough; if not, all entries are still there in their order.
    fn spread(&mut self, places: usize, hash_of: impl Fn(&E) -> u32) -> bool {
        // All to the end. From there each one's place is at most where it is taken from, if they fit at all.
        let mut first = self.places();
        for place in (0..self.places()).rev() {
            if !self[place].is_vacant() {
                first -= 1;
                self.swap(place, first);
            }
        }
        let mut next = 0;
        for from in first..self.places() {
            let to = self.home(hash_of(&self[from])).max(next);
            if to > from || to >= places {
                return false;
            }
            self.swap(from, to);
            next = to + 1;
        }
        true
    }

    fn swap(&mut self, one: usize, other: usize) {
        (self[one], self[other]) = (self[other], self[one]);
    }
}

impl<E> Index<usize> for Dense<E> {
    type Output = E;

    fn index(&self, place: usize) -> &E {
        &self.segments[place / SEGMENT][place % SEGMENT]
    }
}

impl<E> IndexMut<usize> for Dense<E> {
    fn index_mut(&mut self, place: usize) -> &mut E {
        &mut self.segments[place / SEGMENT][place % SEGMENT]
    }
}

/// More than every hash.
pub(crate) const HASHES: u64 = 1 << 32;

/// How many entries may have these homes: above it, looking for what is not there takes too long.
fn most(homes: u32) -> usize {
    homes as usize * 13 / 16
}

/// The fewest segments for so many entries.
fn segments_for(len: usize) -> usize {
    if len == 0 { 0 } else { (len * 16).div_ceil(13).div_ceil(SEGMENT).max((len + 2 * SPARE).div_ceil(SEGMENT)) }
}

#[cfg(test)]
mod tests;
