//! Work that is gone through pass by pass, a bounded batch at a time, while more of it comes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is to be looked at, again and again or once: deadlines that may have passed, parts of a table that may have room.
///
/// A pass is about what waits when it begins: a snapshot. It is done in batches as small as the caller likes, and between
/// two of them, or from within a visit, anybody may [`push`](SweepQueue::push) more; that waits for the next pass. An item is
/// owned by the queue or by the one visit that looks at it, so none is lost and none is visited twice in a pass. That a
/// pass is under way is a number of items, not a flag, so there is nothing that a failed visit could leave behind.
///
/// An item stands for something that has a life of its own: whether that is still there, and still due, is found out by the
/// visit, not before.
///
/// ```
/// use conn_tracker::{SweepQueue, Verdict};
///
/// let queue = SweepQueue::default();
/// (1..=5).for_each(|item| queue.push(item));
/// let halve = |item: &mut i32| {
///     *item /= 2;
///     if *item > 0 { Verdict::Later } else { Verdict::Done }
/// };
/// let first = queue.sweep(3, halve);
/// assert_eq!((first.visited, first.left), (3, 2));
/// queue.push(9); // of the next pass
/// assert_eq!(queue.sweep(100, halve).visited, 2);
/// assert_eq!(queue.len(), 5, "the 1 is gone, the others wait with the 9");
/// ```
#[derive(Debug)]
pub struct SweepQueue<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    /// How many of them, from the front, the pass under way is still about.
    left: usize,
}

/// What becomes of an item that was visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is dropped.
    Done,
    /// It waits for the next pass.
    Later,
    /// It is next in this pass: there was more to it than one visit may take.
    Again,
}

/// What one batch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How often an item was visited.
    pub visited: usize,
    /// Items that the pass is still about; 0 is its end.
    pub left: usize,
}

impl<T> Default for SweepQueue<T> {
    fn default() -> Self {
        Self(Mutex::new(State { items: VecDeque::new(), left: 0 }))
    }
}

impl<T> FromIterator<T> for SweepQueue<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(Mutex::new(State { items: items.into_iter().collect(), left: 0 }))
    }
}

impl<T> SweepQueue<T> {
    /// Adds an item, for the next pass to begin.
    pub fn push(&self, item: T) {
        self.state().items.push_back(item);
    }

    /// How many items wait, in this pass or the next.
    pub fn len(&self) -> usize {
        self.state().items.len()
    }

    /// Whether no item waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Visits at most `batch` items of the pass under way, and begins one if there is none. No lock is held meanwhile.
    ///
    /// # Panics
    /// If a visit does. Its item waits for the next pass, and the rest of this one for the next call.
    pub fn sweep(&self, batch: usize, mut visit: impl FnMut(&mut T) -> Verdict) -> Swept {
        self.state().begin();
        let mut visited = 0;
        while visited < batch
            && let Some(item) = self.next()
        {
            visited += 1;
            let mut visiting = Visiting { queue: self, item: Some(item), verdict: Verdict::Later };
            if let Some(item) = &mut visiting.item {
                visiting.verdict = visit(item);
            }
        }
        Swept { visited, left: self.state().left }
    }

    fn next(&self) -> Option<T> {
        let mut state = self.state();
        state.left = state.left.checked_sub(1)?;
        state.items.pop_front()
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Whoever panicked did so before or after changing something, never in between.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn begin(&mut self) {
        if self.left == 0 {
            self.left = self.items.len();
            if self.items.capacity() / SPARE > self.left + LEAST {
                self.items.shrink_to(2 * self.left);
            }
        }
    }
}

/// How many times the memory needed may be held, and how few items are not worth the trouble.
const SPARE: usize = 8;
const LEAST: usize = 64;

/// An item under a visit, put where it belongs however that ends.
struct Visiting<'a, T> {
    queue: &'a SweepQueue<T>,
    item: Option<T>,
    verdict: Verdict,
}

impl<T> Drop for Visiting<'_, T> {
    fn drop(&mut self) {
        let Some(item) = self.item.take() else { return };
        match self.verdict {
            Verdict::Done => drop(item),
            Verdict::Later => self.queue.push(item),
            Verdict::Again => {
                let mut state = self.queue.state();
                state.items.push_front(item);
                state.left += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_not_paid_for_for_ever() {
        let queue = SweepQueue::from_iter(0..100_000);
        queue.sweep(100_000, |_| Verdict::Done);
        queue.push(1);
        assert_eq!(queue.sweep(1, |_| Verdict::Later), Swept { visited: 1, left: 0 });
        let capacity = queue.state().items.capacity();
        assert!(capacity < 1000, "room for {capacity}");
    }

    #[test]
    fn what_is_not_finished_is_next() {
        let queue = SweepQueue::from_iter(["abc", "d"]);
        let mut seen = String::new();
        let mut visit = |item: &mut &'static str| {
            let (first, rest) = item.split_at(1);
            seen.push_str(first);
            *item = rest;
            if rest.is_empty() { Verdict::Done } else { Verdict::Again }
        };
        assert_eq!(queue.sweep(2, &mut visit), Swept { visited: 2, left: 2 });
        assert_eq!(queue.sweep(9, &mut visit), Swept { visited: 2, left: 0 });
        assert_eq!(queue.sweep(9, &mut visit), Swept::default(), "nothing is left");
        assert_eq!(seen, "abcd");
    }
}
