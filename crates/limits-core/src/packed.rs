//! Counts that must change together, packed into one atomic word.
//!
//! Ordering: every change is a compare-and-swap on one word, so all changes have one order and none is lost. They
//! acquire and release, as those of a semaphore do: whatever the holder of a slot did before it gave the slot back has
//! happened for the next holder too. Only so nobody outside ever sees one holder more than the limit. Loads are
//! relaxed: a slot that was given back before, by whatever orders the two, is seen as free.

use crate::sync::{AtomicU64, Ordering};
use conn_tracker::{Reason, Rejection, Slots};

const GLOBAL_BITS: u32 = 26;
const EXEMPT_BITS: u32 = 12;
/// The highest count of `global` and of `pending`.
pub(crate) const GLOBAL_MOST: u32 = (1 << GLOBAL_BITS) - 1;
/// The highest count of `exempt`.
pub(crate) const EXEMPT_MOST: u32 = (1 << EXEMPT_BITS) - 1;
const _: () = assert!(GLOBAL_BITS * 2 + EXEMPT_BITS == 64);

/// Connections that hold slots of the whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) global: u32,
    pub(crate) pending: u32,
    pub(crate) exempt: u32,
}

impl Held {
    fn unpack(word: u64) -> Self {
        let field = |shift: u32, most: u32| (word >> shift) as u32 & most;
        Self {
            global: field(0, GLOBAL_MOST),
            pending: field(GLOBAL_BITS, GLOBAL_MOST),
            exempt: field(2 * GLOBAL_BITS, EXEMPT_MOST),
        }
    }

    fn pack(self) -> u64 {
        u64::from(self.global) | u64::from(self.pending) << GLOBAL_BITS | u64::from(self.exempt) << (2 * GLOBAL_BITS)
    }

    fn of(slots: Slots) -> Self {
        let one = |slot| u32::from(slots.has(slot));
        Self { global: one(Slots::GLOBAL), pending: one(Slots::PENDING), exempt: one(Slots::EXEMPT) }
    }

    fn plus(self, more: Self) -> Self {
        Self {
            global: self.global + more.global,
            pending: self.pending + more.pending,
            exempt: self.exempt + more.exempt,
        }
    }

    fn minus(self, less: Self) -> Option<Self> {
        Some(Self {
            global: self.global.checked_sub(less.global)?,
            pending: self.pending.checked_sub(less.pending)?,
            exempt: self.exempt.checked_sub(less.exempt)?,
        })
    }
}

/// The highest counts in force; none is above what its field can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Most {
    pub(crate) global: u32,
    pub(crate) pending: u32,
    pub(crate) exempt: u32,
}

/// `global`, `pending` and `exempt` in one word.
#[derive(Debug, Default)]
pub(crate) struct Process(AtomicU64);

impl Process {
    pub(crate) fn held(&self) -> Held {
        Held::unpack(self.0.load(Ordering::Relaxed))
    }

    /// Whether `slots` could be taken: pending, then global.
    pub(crate) fn check(&self, slots: Slots, most: Most) -> Result<(), Rejection> {
        fits(self.held(), slots, most)
    }

    /// Takes all of `slots` (of `GLOBAL` and `PENDING`) or none.
    pub(crate) fn take(&self, slots: Slots, most: Most) -> Result<(), Rejection> {
        self.change(|held| {
            fits(held, slots, most)?;
            Ok(held.plus(Held::of(slots)))
        })
    }

    /// Whether an exempt slot is free.
    pub(crate) fn has_exempt_slot(&self, most: Most) -> bool {
        self.held().exempt < most.exempt
    }

    /// Takes an exempt slot in place of those of `slots`, in one step, if one is free.
    pub(crate) fn exempt(&self, slots: Slots, most: Most) -> bool {
        self.change(|held| {
            let rest = held.minus(Held::of(slots)).ok_or(())?;
            if rest.exempt >= most.exempt { Err(()) } else { Ok(rest.plus(Held::of(Slots::EXEMPT))) }
        })
        .is_ok()
    }

    /// Gives `slots` back; `false` if they were not held, and then nothing is changed.
    #[must_use]
    pub(crate) fn give(&self, slots: Slots) -> bool {
        self.change(|held| held.minus(Held::of(slots)).ok_or(())).is_ok()
    }

    fn change<E>(&self, change: impl Fn(Held) -> Result<Held, E>) -> Result<(), E> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let changed = change(Held::unpack(word))?.pack();
            match self.0.compare_exchange_weak(word, changed, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => word = other,
            }
        }
    }
}

fn fits(held: Held, slots: Slots, most: Most) -> Result<(), Rejection> {
    if slots.has(Slots::PENDING) && held.pending >= most.pending {
        return Err(Rejection::full(Reason::PendingLimit, most.pending));
    }
    if slots.has(Slots::GLOBAL) && held.global >= most.global {
        return Err(Rejection::full(Reason::GlobalLimit, most.global));
    }
    Ok(())
}

/// Two counts of 32 bits in one word.
#[derive(Debug, Default)]
pub(crate) struct Halves(AtomicU64);

impl Halves {
    pub(crate) fn read(&self) -> (u32, u32) {
        split(self.0.load(Ordering::Relaxed))
    }

    /// Adds to both where `may` allows it for the counts as they are.
    pub(crate) fn take(&self, add: (u32, u32), may: impl Fn((u32, u32)) -> bool) -> bool {
        self.change(|(low, high)| {
            if !may((low, high)) {
                return None;
            }
            Some((low.checked_add(add.0)?, high.checked_add(add.1)?))
        })
    }

    /// Subtracts from both; `false` if either was lower, and then nothing is changed.
    #[must_use]
    pub(crate) fn give(&self, less: (u32, u32)) -> bool {
        self.change(|(low, high)| Some((low.checked_sub(less.0)?, high.checked_sub(less.1)?)))
    }

    fn change(&self, change: impl Fn((u32, u32)) -> Option<(u32, u32)>) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let Some((low, high)) = change(split(word)) else { return false };
            let changed = u64::from(low) | u64::from(high) << 32;
            match self.0.compare_exchange_weak(word, changed, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => word = other,
            }
        }
    }
}

fn split(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Slots = Slots::GLOBAL.with(Slots::PENDING);

    fn held(global: u32, pending: u32, exempt: u32) -> Held {
        Held { global, pending, exempt }
    }

    #[test]
    fn fields_do_not_touch_each_other() {
        for counts in [held(GLOBAL_MOST, 0, 0), held(0, GLOBAL_MOST, 0), held(0, 0, EXEMPT_MOST), held(1, 2, 3)] {
            assert_eq!(Held::unpack(counts.pack()), counts);
        }
    }

    #[test]
    fn pending_refuses_before_global_and_neither_takes_half() {
        let process = Process::default();
        let most = Most { global: 2, pending: 1, exempt: 1 };
        assert_eq!(process.take(BOTH, most), Ok(()));
        assert_eq!(process.take(BOTH, most), Err(Rejection::full(Reason::PendingLimit, 1)));
        assert_eq!(process.take(Slots::GLOBAL, most), Ok(()));
        assert_eq!(process.check(Slots::GLOBAL, most), Err(Rejection::full(Reason::GlobalLimit, 2)));
        assert_eq!(process.held(), held(2, 1, 0));
        assert!(process.exempt(BOTH, most));
        assert_eq!(process.held(), held(1, 0, 1));
        assert!(!process.exempt(Slots::GLOBAL, most), "no exempt slot is free");
        assert_eq!(process.held(), held(1, 0, 1));
    }

    #[test]
    fn giving_what_is_not_held_changes_nothing() {
        let process = Process::default();
        let most = Most { global: 2, pending: 2, exempt: 1 };
        process.take(Slots::GLOBAL, most).unwrap();
        assert!(!process.give(BOTH));
        assert_eq!(process.held(), held(1, 0, 0));
        assert!(process.give(Slots::GLOBAL));

        let halves = Halves::default();
        assert!(halves.take((1, 1), |_| true));
        assert!(!halves.give((0, 2)));
        assert_eq!(halves.read(), (1, 1));
        assert!(!halves.take((1, 0), |(low, _)| low < 1));
        assert!(halves.give((1, 1)));
    }
}
