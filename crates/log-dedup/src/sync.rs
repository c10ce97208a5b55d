//! The primitives that the counting rests on, in one place, so that the model checker `loom` can stand in for them.
//!
//! Models replace what decides whether a count is seen: the words of cells and kinds, what cells grow by, and the locks.
//! What is set once before threads share it stays real.

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

pub(crate) use std::sync::Arc;
#[cfg(not(loom))]
pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::atomic::AtomicU64 as Counter;

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

/// The real one, and the order that it brings about, which the model cannot see. One thread sets it.
#[cfg(loom)]
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    is_set: loom::sync::atomic::AtomicBool,
}

#[cfg(loom)]
impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self { value: std::sync::OnceLock::new(), is_set: loom::sync::atomic::AtomicBool::new(false) }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        // Ordering: who sees that it is set sees what it is.
        if self.is_set.load(Ordering::Acquire) { self.value.get() } else { None }
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        if self.value.get().is_none() {
            self.value.get_or_init(make);
            // Ordering: see `get`.
            self.is_set.store(true, Ordering::Release);
        }
        self.value.get().expect("it has just been set")
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
