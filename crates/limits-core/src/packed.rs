//! Counts that must change together, packed into one atomic word.
//!
//! Ordering: every change is a compare-and-swap on one word, so all changes have one order and none is lost. They
//! acquire and release, as those of a semaphore do: whatever the holder of a slot did before it gave the slot back has
//! happened for the next holder too. Only so nobody outside ever sees one holder more than the limit.
//!
//! A load may find an older value than the last one. A change that is built on it fails and is tried again, so loads may be
//! relaxed; but nothing is refused because of one. What refuses is a read-modify-write, which always finds the last value:
//! so the scope was full at that very step.

#[cfg(any(loom, shuttle))]
use crate::ledger::{Id, note};
use crate::sync::{AtomicU64, Ordering};
use conn_tracker::{Reason, Rejection, Slots};

/// The highest count of `global`.
pub(crate) const GLOBAL_MOST: u32 = (1 << 25) - 1;
/// The highest count of `pending`.
pub(crate) const PENDING_MOST: u32 = (1 << 24) - 1;
/// The highest count of `exempt`.
pub(crate) const EXEMPT_MOST: u32 = (1 << 12) - 1;
/// Where the fields begin. Between a count and the next field is one bit more.
const PENDING: u32 = (GLOBAL_MOST + 1).trailing_zeros() + 1;
const EXEMPT: u32 = PENDING + (PENDING_MOST + 1).trailing_zeros() + 1;
/// The bit above each count. It is never set in a word, but in a sum or a difference where the count is too large or too small.
const BEYOND: u64 =
    (GLOBAL_MOST as u64 + 1) | (PENDING_MOST as u64 + 1) << PENDING | (EXEMPT_MOST as u64 + 1) << EXEMPT;
const _: () = assert!(BEYOND >> 63 == 1, "nothing is above the last one");

/// Connections that hold slots of the whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) global: u32,
    pub(crate) pending: u32,
    pub(crate) exempt: u32,
}

/// The highest counts in force; none is above what its field can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Most {
    pub(crate) global: u32,
    pub(crate) pending: u32,
    pub(crate) exempt: u32,
}

/// What one more connection may add to a word without a count going beyond: the connection, and what no count can have because
/// of its limit. For one whose route is known, and for one whose is not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room([u64; 2]);

impl Room {
    pub(crate) fn below(most: &Most) -> Self {
        let global = u64::from(GLOBAL_MOST - most.global);
        let pending = u64::from(PENDING_MOST - most.pending) << PENDING;
        Self([one_connection(false) + global, one_connection(true) + global + pending])
    }
}

/// A word that is changed as a whole.
#[derive(Debug, Default)]
struct Word(AtomicU64);

impl Word {
    fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Changes the word if `change` allows it for its last value. `note` is told of the new value, in models.
    #[inline(always)]
    fn change<E>(&self, change: impl Fn(u64) -> Result<u64, E>, note: impl Fn(u64)) -> Result<(), E> {
        let (mut word, mut is_last) = (self.load(), false);
        loop {
            match change(word) {
                Ok(changed) => match self.0.compare_exchange_weak(word, changed, Ordering::AcqRel, Ordering::Relaxed) {
                    Ok(_) => {
                        note(changed);
                        return Ok(());
                    }
                    Err(other) => (word, is_last) = (other, false),
                },
                Err(no) if is_last => return Err(no),
                Err(_) => (word, is_last) = (self.last(), true),
            }
        }
    }

    /// Changes the word if `change` allows it for a value that it has or had.
    #[inline(always)]
    fn try_change(&self, change: impl Fn(u64) -> Option<u64>, note: impl Fn(u64)) -> bool {
        let mut word = self.load();
        while let Some(changed) = change(word) {
            match self.0.compare_exchange_weak(word, changed, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => {
                    note(changed);
                    return true;
                }
                Err(other) => word = other,
            }
        }
        false
    }

    /// Whether `fits` is true of the last value, or of one that was the last when it was loaded.
    fn check(&self, fits: impl Fn(u64) -> bool) -> bool {
        fits(self.load()) || fits(self.last())
    }

    /// The last value there is; dearer than a load.
    #[cold]
    fn last(&self) -> u64 {
        // Ordering: acquires what the last holder of a slot has done, as a change does.
        self.0.fetch_or(0, Ordering::Acquire)
    }
}

/// `global`, `pending` and `exempt` in one word.
#[derive(Debug, Default)]
pub(crate) struct Process(Word);

impl Process {
    pub(crate) fn held(&self) -> Held {
        let word = self.0.load();
        Held { global: global(word), pending: pending(word), exempt: exempt(word) }
    }

    /// Whether `slots` could be taken: pending, then global.
    pub(crate) fn check(&self, slots: Slots, most: &Most) -> Result<(), Rejection> {
        let refuses = |word| refusal(word, slots, most);
        match refuses(self.0.load()).and_then(|_| refuses(self.0.last())) {
            Some(reason) => Err(rejection(reason, most)),
            None => Ok(()),
        }
    }

    /// Takes all of `slots` (of `GLOBAL` and `PENDING`) or none.
    pub(crate) fn take(&self, slots: Slots, most: &Most) -> Result<(), Rejection> {
        let taken = self.change(|word| match refusal(word, slots, most) {
            Some(reason) => Err(reason),
            None => Ok(word + word_of(slots)),
        });
        taken.map_err(|reason| rejection(reason, most))
    }

    /// [`Process::take`] for one connection whom `true` is enough: `false` says nothing, and nobody may be refused because of it.
    #[inline(always)]
    pub(crate) fn take_quickly(&self, pending: bool, room: &Room) -> bool {
        let (room, taken) = (room.0[usize::from(pending)], one_connection(pending));
        let fits = |word: u64| (word + room) & BEYOND == 0;
        self.0.try_change(|word| fits(word).then(|| word + taken), |changed| self.note(changed))
    }

    /// [`Process::give`] for one connection that holds them: it finds them even in a value that is not the last one.
    #[must_use]
    #[inline(always)]
    pub(crate) fn give_quickly(&self, pending: bool) -> bool {
        let given = one_connection(pending);
        self.0.try_change(|word| less(word, given), |changed| self.note(changed))
    }

    /// Whether an exempt slot is free.
    pub(crate) fn has_exempt_slot(&self, most: &Most) -> bool {
        self.held().exempt < most.exempt
    }

    /// Takes an exempt slot in place of those of `slots`, in one step, if one is free.
    pub(crate) fn exempt(&self, slots: Slots, most: &Most) -> bool {
        self.change(|word| {
            let rest = less(word, word_of(slots)).ok_or(())?;
            if exempt(word) < most.exempt { Ok(rest + word_of(Slots::EXEMPT)) } else { Err(()) }
        })
        .is_ok()
    }

    /// Gives `slots` back; `false` if they were not held, and then nothing is changed.
    #[must_use]
    pub(crate) fn give(&self, slots: Slots) -> bool {
        let given = word_of(slots);
        self.change(|word| less(word, given).ok_or(())).is_ok()
    }

    #[cfg(any(loom, shuttle))]
    pub(crate) fn ghost(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    #[inline(always)]
    fn change<E>(&self, change: impl Fn(u64) -> Result<u64, E>) -> Result<(), E> {
        self.0.change(change, |changed| self.note(changed))
    }

    /// Tells models what is held from now on; nothing in a program.
    #[inline(always)]
    fn note(&self, _changed: u64) {
        #[cfg(any(loom, shuttle))]
        for (field, held) in [global(_changed), pending(_changed), exempt(_changed)].into_iter().enumerate() {
            note(Id::Word(self.ghost(), field as u32), held);
        }
    }
}

const fn global(word: u64) -> u32 {
    word as u32 & GLOBAL_MOST
}

const fn pending(word: u64) -> u32 {
    (word >> PENDING) as u32 & PENDING_MOST
}

const fn exempt(word: u64) -> u32 {
    (word >> EXEMPT) as u32 & EXEMPT_MOST
}

/// One in the field of each slot.
#[inline]
fn word_of(slots: Slots) -> u64 {
    let one = |slot, shift: u32| u64::from(slots.has(slot)) << shift;
    one(Slots::GLOBAL, 0) | one(Slots::PENDING, PENDING) | one(Slots::EXEMPT, EXEMPT)
}

/// One in `global`, and one in `pending` if its route is not known.
#[inline]
fn one_connection(pending: bool) -> u64 {
    1 | u64::from(pending) << PENDING
}

/// Whether one more of `slots` is too many: pending, then global.
#[inline]
fn refusal(word: u64, slots: Slots, most: &Most) -> Option<Reason> {
    if slots.has(Slots::PENDING) && pending(word) >= most.pending {
        return Some(Reason::PendingLimit);
    }
    (slots.has(Slots::GLOBAL) && global(word) >= most.global).then_some(Reason::GlobalLimit)
}

/// Subtracts field by field, all at once, if no count is too small.
#[inline(always)]
fn less(word: u64, by: u64) -> Option<u64> {
    let left = word.wrapping_sub(by);
    (left & BEYOND == 0).then_some(left)
}

fn rejection(reason: Reason, most: &Most) -> Rejection {
    Rejection::full(reason, if reason == Reason::PendingLimit { most.pending } else { most.global })
}

/// Two counts of 32 bits in one word.
#[derive(Debug, Default)]
pub(crate) struct Halves(Word);

impl Halves {
    pub(crate) fn read(&self) -> (u32, u32) {
        split(self.0.load())
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

    #[cfg(any(loom, shuttle))]
    pub(crate) fn ghost(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Whether `fits` is true of the counts.
    pub(crate) fn check(&self, fits: impl Fn((u32, u32)) -> bool) -> bool {
        self.0.check(|word| fits(split(word)))
    }

    fn change(&self, change: impl Fn((u32, u32)) -> Option<(u32, u32)>) -> bool {
        let changed = |word| {
            let (low, high) = change(split(word)).ok_or(())?;
            Ok::<_, ()>(u64::from(low) | u64::from(high) << 32)
        };
        let done = self.0.change(changed, |_changed| {
            #[cfg(any(loom, shuttle))]
            for (half, held) in <[u32; 2]>::from(split(_changed)).into_iter().enumerate() {
                note(Id::Word(self.ghost(), half as u32), held);
            }
        });
        done.is_ok()
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
        let process = Process::default();
        let most = Most { global: GLOBAL_MOST, pending: PENDING_MOST, exempt: EXEMPT_MOST };
        process.0.0.store(!BEYOND, Ordering::Relaxed);
        assert_eq!(process.held(), held(GLOBAL_MOST, PENDING_MOST, EXEMPT_MOST));
        assert!(process.take(Slots::GLOBAL, &most).is_err() && process.take(Slots::PENDING, &most).is_err());
        assert!(!process.exempt(Slots::NONE, &most));
        for (slots, left) in [
            (Slots::GLOBAL, held(GLOBAL_MOST - 1, PENDING_MOST, EXEMPT_MOST)),
            (Slots::PENDING, held(GLOBAL_MOST - 1, PENDING_MOST - 1, EXEMPT_MOST)),
            (Slots::EXEMPT, held(GLOBAL_MOST - 1, PENDING_MOST - 1, EXEMPT_MOST - 1)),
        ] {
            assert!(process.give(slots));
            assert_eq!(process.held(), left);
        }
        process.take(BOTH, &most).unwrap();
        assert_eq!(process.held(), held(GLOBAL_MOST, PENDING_MOST, EXEMPT_MOST - 1));
    }

    #[test]
    fn pending_refuses_before_global_and_neither_takes_half() {
        let process = Process::default();
        let most = Most { global: 2, pending: 1, exempt: 1 };
        assert_eq!(process.take(BOTH, &most), Ok(()));
        assert_eq!(process.take(BOTH, &most), Err(Rejection::full(Reason::PendingLimit, 1)));
        assert_eq!(process.take(Slots::GLOBAL, &most), Ok(()));
        assert_eq!(process.take(Slots::GLOBAL, &most), Err(Rejection::full(Reason::GlobalLimit, 2)));
        assert_eq!(process.take(BOTH, &most), Err(Rejection::full(Reason::PendingLimit, 1)), "both are full");
        assert_eq!(process.check(Slots::GLOBAL, &most), Err(Rejection::full(Reason::GlobalLimit, 2)));
        assert_eq!(process.held(), held(2, 1, 0));
        assert!(process.exempt(BOTH, &most));
        assert_eq!(process.held(), held(1, 0, 1));
        assert!(!process.exempt(Slots::GLOBAL, &most), "no exempt slot is free");
        assert_eq!(process.held(), held(1, 0, 1));
    }

    #[test]
    fn the_short_way_takes_what_the_long_way_takes() {
        let mosts = |highest| [1, 2, 3, highest - 1, highest];
        let mosts =
            mosts(GLOBAL_MOST).into_iter().flat_map(|global| mosts(PENDING_MOST).map(|pending| (global, pending)));
        for (global, pending) in mosts {
            let most = Most { global, pending, exempt: EXEMPT_MOST };
            let near =
                |most: u32, highest| [0, most.saturating_sub(2), most - 1, most, (most + 1).min(highest), highest];
            for (held_global, held_pending) in near(global, GLOBAL_MOST)
                .into_iter()
                .flat_map(|held| near(pending, PENDING_MOST).map(|pending| (held, pending)))
            {
                let word = u64::from(held_global) | u64::from(held_pending) << PENDING;
                for (is_pending, exempt) in [(false, 0), (true, 0), (false, EXEMPT_MOST), (true, EXEMPT_MOST)] {
                    let [short, long] = [(); 2].map(|()| {
                        let process = Process::default();
                        process.0.0.store(word | u64::from(exempt) << EXEMPT, Ordering::Relaxed);
                        process
                    });
                    let slots = if is_pending { BOTH } else { Slots::GLOBAL };
                    let taken = long.take(slots, &most).is_ok();
                    assert_eq!(
                        short.take_quickly(is_pending, &Room::below(&most)),
                        taken,
                        "{most:?} {:?}",
                        long.held()
                    );
                    assert_eq!(short.held(), long.held());
                    assert_eq!(short.give_quickly(is_pending), long.give(slots), "{:?}", long.held());
                    assert_eq!(short.held(), long.held());
                }
            }
        }
    }

    #[test]
    fn giving_what_is_not_held_changes_nothing() {
        let process = Process::default();
        let most = Most { global: 2, pending: 2, exempt: 1 };
        process.take(Slots::GLOBAL, &most).unwrap();
        assert!(!process.give(BOTH));
        assert_eq!(process.held(), held(1, 0, 0));
        assert!(process.give(Slots::GLOBAL));
        process.take(BOTH, &most).unwrap();
        assert!(process.give(Slots::GLOBAL) && !process.give(Slots::GLOBAL), "a field does not lend to another");
        assert!(process.give(Slots::PENDING) && !process.give(Slots::PENDING));

        let halves = Halves::default();
        assert!(halves.take((1, 1), |_| true));
        assert!(!halves.give((0, 2)));
        assert_eq!(halves.read(), (1, 1));
        assert!(!halves.take((1, 0), |(low, _)| low < 1));
        assert!(halves.give((1, 1)));
    }
}
