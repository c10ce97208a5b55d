//! Which deadlines come when: a hashed wheel, without a clock.

use conn_tracker::SweepQueue;

/// Deadlines by the tick on which they come, each with whom to wake.
///
/// A deadline is in the slot of its tick modulo [`SLOTS`], as a member of a doubly linked list, so filing and removing are
/// a few stores. One that is postponed stays where it is and is filed anew when its slot comes up; one that is further
/// away than a turn of the wheel is looked at once a turn.
#[derive(Debug)]
pub(super) struct Wheel<W> {
    entries: Vec<Entry<W>>,
    /// The first of the entries that nobody has.
    free: u32,
    /// Entries that somebody has.
    live: u32,
    /// The first entry of each slot.
    slots: Box<[u32]>,
    now: u32,
}

/// One deadline.
#[derive(Debug)]
struct Entry<W> {
    due: u32,
    /// Its neighbours in the slot; `next` also links the entries that nobody has.
    previous: u32,
    next: u32,
    place: u32,
    waiting: Option<W>,
}

/// How many ticks a turn of the wheel has.
pub(super) const SLOTS: u32 = 1024;

/// Entries that are kept for the next deadlines when there are none.
const KEPT: usize = 64;

/// No entry.
const NONE: u32 = u32::MAX;

// Places that are no slot.
/// It has passed, or was never set.
const IDLE: u32 = SLOTS;
/// Its slot came up, and the sweep has it.
const SWEPT: u32 = SLOTS + 1;
/// Its owner is gone, and the sweep has it.
const GONE: u32 = SLOTS + 2;

impl<W> Wheel<W> {
    /// A wheel whose time is `now`.
    pub(super) fn new(now: u32) -> Self {
        Self { entries: Vec::new(), free: NONE, live: 0, slots: vec![NONE; SLOTS as usize].into(), now }
    }

    /// Whether nobody has a deadline.
    pub(super) const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The tick up to which slots have been taken.
    pub(super) const fn now(&self) -> u32 {
        self.now
    }

    /// Takes in a deadline; the key is valid until it is removed.
    pub(super) fn insert(&mut self, due: u32) -> u32 {
        self.live += 1;
        let entry = Entry { due, previous: NONE, next: NONE, place: IDLE, waiting: None };
        let key = self.free;
        let key = if key == NONE {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).expect("fewer deadlines than descriptors")
        } else {
            self.free = self.entry(key).next;
            *self.entry(key) = entry;
            key
        };
        self.file(key);
        key
    }

    /// Moves a deadline.
    pub(super) fn set(&mut self, key: u32, due: u32) {
        let now = self.now;
        let entry = self.entry(key);
        entry.due = due;
        match entry.place {
            IDLE => self.file(key),
            // When its slot comes up, whoever looks sees that it is not due yet.
            slot if slot < SLOTS && due > now && next_turn(slot, now) <= due => {}
            slot if slot < SLOTS => {
                self.take_out(key);
                self.file(key);
            }
            _ => {}
        }
    }

    /// Has `waiting` handed out when the deadline comes; whom it replaces.
    pub(super) fn wait(&mut self, key: u32, waiting: impl FnOnce(Option<&W>) -> Option<W>) -> Option<W> {
        let entry = self.entry(key);
        let new = waiting(entry.waiting.as_ref())?;
        entry.waiting.replace(new)
    }

    /// Forgets a deadline; whom it would have woken.
    pub(super) fn remove(&mut self, key: u32) -> Option<W> {
        let entry = self.entry(key);
        let waiting = entry.waiting.take();
        match entry.place {
            SWEPT => entry.place = GONE,
            place => {
                if place < SLOTS {
                    self.take_out(key);
                }
                self.release(key);
            }
        }
        waiting
    }

    /// Lets time go on to `now`, and has `queue` sweep the slots that have come up.
    pub(super) fn advance(&mut self, now: u32, queue: &SweepQueue<u32>) {
        let passed = now.saturating_sub(self.now).min(SLOTS);
        self.now = self.now.max(now);
        for tick in self.now - passed + 1..=self.now {
            let mut key = std::mem::replace(&mut self.slots[(tick % SLOTS) as usize], NONE);
            while key != NONE {
                let entry = self.entry(key);
                entry.place = SWEPT;
                let next = std::mem::replace(&mut entry.next, NONE);
                entry.previous = NONE;
                queue.push(key);
                key = next;
            }
        }
    }

    /// Looks at a deadline whose slot came up: whom to wake if it has passed; files it anew if it has not.
    pub(super) fn visit(&mut self, key: u32) -> Option<W> {
        let now = self.now;
        let entry = self.entries.get_mut(key as usize)?;
        match entry.place {
            SWEPT if entry.due <= now => {
                entry.place = IDLE;
                return entry.waiting.take();
            }
            SWEPT => self.file(key),
            GONE => self.release(key),
            // A visit that failed half-way, and comes again.
            _ => {}
        }
        None
    }

    fn entry(&mut self, key: u32) -> &mut Entry<W> {
        &mut self.entries[key as usize]
    }

    /// Puts an entry that is in no slot into its own.
    fn file(&mut self, key: u32) {
        let (now, due) = (self.now, self.entry(key).due);
        // One that is over already is looked at with the next tick.
        let slot = due.max(now.saturating_add(1)) % SLOTS;
        let first = std::mem::replace(&mut self.slots[slot as usize], key);
        if first != NONE {
            self.entry(first).previous = key;
        }
        let entry = self.entry(key);
        (entry.previous, entry.next, entry.place) = (NONE, first, slot);
    }

    /// Takes an entry out of its slot.
    fn take_out(&mut self, key: u32) {
        let entry = self.entry(key);
        let (previous, next, slot) = (entry.previous, entry.next, entry.place);
        (entry.previous, entry.next, entry.place) = (NONE, NONE, IDLE);
        if previous == NONE {
            self.slots[slot as usize] = next;
        } else {
            self.entry(previous).next = next;
        }
        if next != NONE {
            self.entry(next).previous = previous;
        }
    }

    fn release(&mut self, key: u32) {
        self.live -= 1;
        if self.live == 0 {
            // Nobody has a key: a rush of connections is not paid for ever.
            self.free = NONE;
            self.entries.clear();
            self.entries.shrink_to(KEPT);
            return;
        }
        let free = std::mem::replace(&mut self.free, key);
        let entry = self.entry(key);
        (entry.next, entry.place, entry.waiting) = (free, IDLE, None);
    }
}

/// The tick on which a slot comes up next.
const fn next_turn(slot: u32, now: u32) -> u32 {
    now.saturating_add(1 + (slot.wrapping_sub(now).wrapping_sub(1) % SLOTS))
}

#[cfg(test)]
mod tests;
