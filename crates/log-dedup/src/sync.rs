//! The primitives that the counting rests on, in one place, so that the model checker `loom` can stand in for them.
//!
//! Models replace what decides whether a count is seen: the words of cells and kinds, and the locks. What is set once
//! before threads share it stays real.

#[cfg(not(loom))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

/// Who shares what a thread counts: whether the thread is gone decides when its counts are read for the last time.
#[cfg(loom)]
pub(crate) use loom::sync::Arc as Share;
#[cfg(not(loom))]
pub(crate) use std::sync::Arc as Share;

pub(crate) use std::sync::atomic::AtomicU64 as Counter;
pub(crate) use std::sync::{Arc, OnceLock};

/// loom's mutex with the signatures of the real one.
#[cfg(loom)]
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

#[cfg(loom)]
impl<T> Mutex<T> {
    pub(crate) fn new(inside: T) -> Self {
        Self(loom::sync::Mutex::new(inside))
    }

    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().expect("a model that panics is over")
    }

    pub(crate) fn try_lock(&self) -> Option<loom::sync::MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// Adds one to a count, then reads a word, so that of a thread that counts and reads and one that writes the word and
/// reads the counts, at least one sees what the other did.
pub(crate) fn count_then_read(count: &AtomicU64, word: &AtomicU64) -> u64 {
    // Ordering: both are in the one order of all sequentially consistent operations, as is the write of the word.
    count.fetch_add(1, Ordering::SeqCst);
    // The model knows that order for fences only.
    #[cfg(loom)]
    fence(Ordering::SeqCst);
    word.load(Ordering::SeqCst)
}

/// The other side of [`count_then_read`]: sets bits of the word; counts that are read afterwards are whole.
pub(crate) fn set_then_look(word: &AtomicU64, bits: u64) {
    // Ordering: see `count_then_read`.
    word.fetch_or(bits, Ordering::SeqCst);
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// Reads a count after [`set_then_look`].
pub(crate) fn look(count: &AtomicU64) -> u64 {
    // Ordering: see `count_then_read`.
    count.load(Ordering::SeqCst)
}

/// The keys of the hash function: secret, so that nobody can choose names that collide. A model is repeated with other
/// interleavings and must be the same each time.
pub(crate) fn hasher() -> ahash::RandomState {
    if cfg!(loom) { ahash::RandomState::with_seeds(1, 2, 3, 4) } else { ahash::RandomState::new() }
}
