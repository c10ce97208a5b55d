//! Ledgers of models: how full each scope was, step by step, written where a change commits.
//!
//! Compiled into models only. A model checker switches threads only at its own primitives, so what is written here, right
//! behind one of them and with none between, is written in the same step.

use conn_tracker::ClientKey;
use std::cell::RefCell;

/// A scope of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Id {
    /// A field of the word at this address.
    Word(usize, u32),
    Client(ClientKey),
}

thread_local! {
    /// Every change of every scope since the model began. The threads of a model all run on the one that checks it, and
    /// each test has one of its own, so the ledgers of models that are checked side by side do not mix.
    static LEDGER: RefCell<Vec<(Id, u32)>> = const { RefCell::new(Vec::new()) };
}

/// Writes down that a scope holds so many from now on.
pub(crate) fn note(id: Id, held: u32) {
    LEDGER.with_borrow_mut(|ledger| ledger.push((id, held)));
}

/// Begins anew. Called first in each execution of a model.
pub fn clear() {
    LEDGER.with_borrow_mut(Vec::clear);
}

/// This step, to ask later what was so since then.
#[must_use]
pub fn step() -> usize {
    LEDGER.with_borrow(Vec::len)
}

/// Whether the scope of `ids` together held `limit` or more at some step since `step`, that one included.
pub(crate) fn stood_at(ids: &[Id], limit: u32, step: usize) -> bool {
    LEDGER.with_borrow(|ledger| {
        let sum = |until: usize| -> u32 {
            let last = |id: &Id| ledger[..until].iter().rev().find(|(of, _)| of == id).map_or(0, |(_, held)| *held);
            ids.iter().map(last).sum()
        };
        (step..=ledger.len()).any(|until| sum(until) >= limit)
    })
}

/// The most that the scope of `ids` ever held, and what it holds now.
pub(crate) fn peak_and_rest(ids: &[Id]) -> (u32, u32) {
    LEDGER.with_borrow(|ledger| {
        let of_scope = || ledger.iter().filter(|(id, _)| ids.contains(id)).map(|(_, held)| *held);
        (of_scope().max().unwrap_or(0), of_scope().last().unwrap_or(0))
    })
}
