//! The way through all hash tables of a table, on which clients are forgotten.

use crate::capacity::Family;
use conn_tracker::SweepQueue;

/// A shard that is to be looked at, from here on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) shard: u32,
    /// Which of its hash tables.
    pub(crate) part: u32,
    /// The next place of that.
    pub(crate) place: usize,
}

/// All shards, to be gone through again and again.
pub(crate) fn walk(shards: u32) -> SweepQueue<Part> {
    (0..shards).map(|shard| Part { shard, part: 0, place: 0 }).collect()
}

/// The four hash tables of a shard: their family and whether they count pairs.
pub(crate) const PARTS: [(Family, bool); 4] =
    [(Family::V4, false), (Family::V6, false), (Family::V4, true), (Family::V6, true)];
