//! The primitives that the counting rests on, in one place, so that the model checkers `loom` and `shuttle` can stand in for
//! them.
//!
//! Models replace what decisions depend on: the locks and the words that are compared and swapped. Statistics, reference
//! counts and what is set once stay real, because no decision depends on when they are seen.

#[cfg(not(any(loom, shuttle)))]
pub(crate) use parking_lot::RwLockWriteGuard as MutexGuard;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

#[cfg(loom)]
use loom as model;
#[cfg(any(loom, shuttle))]
pub(crate) use model::sync::MutexGuard;
#[cfg(any(loom, shuttle))]
pub(crate) use model::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
#[cfg(all(shuttle, not(loom)))]
use shuttle as model;

pub(crate) use std::sync::atomic::AtomicU64 as Counter;
pub(crate) use std::sync::{Arc, OnceLock};

/// A lock for one at a time. Trying to have it is one compare-and-swap if it is the writer's side of a `RwLock`, where a
/// `Mutex` looks first and tries again: two instructions less in each try.
#[cfg(not(any(loom, shuttle)))]
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(parking_lot::RwLock<T>);

#[cfg(not(any(loom, shuttle)))]
impl<T> Mutex<T> {
    pub(crate) const fn new(inside: T) -> Self {
        Self(parking_lot::RwLock::new(inside))
    }

    #[inline(always)]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.write()
    }

    #[inline(always)]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_write()
    }
}

/// A model's mutex with the signatures of the real one.
#[cfg(any(loom, shuttle))]
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(model::sync::Mutex<T>);

#[cfg(any(loom, shuttle))]
impl<T> Mutex<T> {
    pub(crate) fn new(inside: T) -> Self {
        Self(model::sync::Mutex::new(inside))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("a model that panics is over")
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}
