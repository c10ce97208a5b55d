//! How many entries the whole table holds, and how many it may.

use crate::packed::Halves;
use conn_tracker::ClientKey;
use crossbeam_utils::CachePadded;

/// The address families, each of which is guaranteed a quarter of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(key: ClientKey) -> Self {
        match key {
            ClientKey::V4(_) => Self::V4,
            ClientKey::V6(_) => Self::V6,
        }
    }

    fn count(self, entries: u32) -> (u32, u32) {
        match self {
            Self::V4 => (entries, 0),
            Self::V6 => (0, entries),
        }
    }
}

/// Entries in use per family. Exact: an entry is counted before it is made and until after it is gone.
#[derive(Debug)]
pub(crate) struct Capacity {
    used: CachePadded<Halves>,
    most: u32,
}

impl Capacity {
    pub(crate) fn new(most: u32) -> Self {
        Self { used: CachePadded::default(), most }
    }

    #[cfg(any(loom, shuttle))]
    pub(crate) fn ghost(&self) -> usize {
        self.used.ghost()
    }

    pub(crate) fn most(&self) -> u32 {
        self.most
    }

    /// Entries of both families.
    pub(crate) fn used(&self) -> u64 {
        let (v4, v6) = self.used.read();
        u64::from(v4) + u64::from(v6)
    }

    pub(crate) fn has_room(&self, family: Family) -> bool {
        self.used.check(|used| self.fits(family, used))
    }

    pub(crate) fn take(&self, family: Family) -> bool {
        self.used.take(family.count(1), |used| self.fits(family, used))
    }

    /// Counts an entry that something else bounds.
    pub(crate) fn take_always(&self, family: Family) {
        self.used.take(family.count(1), |_| true);
    }

    #[must_use]
    pub(crate) fn give(&self, family: Family, entries: u32) -> bool {
        entries == 0 || self.used.give(family.count(entries))
    }

    fn fits(&self, family: Family, (v4, v6): (u32, u32)) -> bool {
        let (own, other) = match family {
            Family::V4 => (v4, v6),
            Family::V6 => (v6, v4),
        };
        let kept_for_other = u64::from(other.max(self.most / 4));
        u64::from(own) + kept_for_other < u64::from(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_is_guaranteed_a_quarter() {
        let capacity = Capacity::new(8);
        let take = |family| std::iter::repeat_with(|| capacity.take(family)).take_while(|&took| took).count();
        assert_eq!(take(Family::V4), 6);
        assert_eq!(take(Family::V6), 2);
        assert_eq!(capacity.used(), 8);
        assert!(capacity.give(Family::V4, 6));
        assert_eq!(take(Family::V6), 4);
        assert!(!capacity.give(Family::V4, 1));
        assert_eq!(take(Family::V4), 2);

        let smallest = Capacity::new(1);
        assert!(smallest.take(Family::V6));
        assert!(!smallest.take(Family::V4));
    }
}
