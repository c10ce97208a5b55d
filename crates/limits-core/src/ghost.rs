//! Ledgers for models: how full each scope was, step by step, written where a change commits.
//!
//! Compiled into models only. A model checker switches threads only at its own primitives, so what is written here, right
//! behind one of them and with none between, is written in the same step.

use crate::routes::RouteSlot;
use crate::table::Table;
use conn_tracker::{ClientKey, Reason, RouteId};
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

/// This step, to give to [`Table::ghost_stood_at`].
#[must_use]
pub fn step() -> usize {
    LEDGER.with_borrow(Vec::len)
}

impl Table {
    /// Whether the scope that `reason` names held `limit` or more at some step since `step`, that one included.
    ///
    /// # Panics
    /// For rates, which have no count.
    pub fn ghost_stood_at(
        &self,
        reason: Reason,
        client: ClientKey,
        route: Option<RouteId>,
        limit: u32,
        step: usize,
    ) -> bool {
        let ids = self.ghost_ids(reason, client, route);
        LEDGER.with_borrow(|ledger| {
            let sum = |until: usize| -> u32 {
                let last = |id: &Id| ledger[..until].iter().rev().find(|(of, _)| of == id).map_or(0, |(_, held)| *held);
                ids.iter().map(last).sum()
            };
            (step..=ledger.len()).any(|until| sum(until) >= limit)
        })
    }

    /// The most that the scope of `reason` ever held, and what it holds now.
    ///
    /// # Panics
    /// For rates, which have no count.
    pub fn ghost_peak_and_rest(&self, reason: Reason, client: ClientKey, route: Option<RouteId>) -> (u32, u32) {
        let ids = self.ghost_ids(reason, client, route);
        LEDGER.with_borrow(|ledger| {
            let of_scope = || ledger.iter().filter(|(id, _)| ids.contains(id)).map(|(_, held)| *held);
            (of_scope().max().unwrap_or(0), of_scope().last().unwrap_or(0))
        })
    }

    fn ghost_ids(&self, reason: Reason, client: ClientKey, route: Option<RouteId>) -> Vec<Id> {
        let state = route.and_then(|route| self.routes.state(route));
        let of_route = |slot| state.map(|state| Id::Word(state.held(slot).ghost(), 0));
        match reason {
            Reason::GlobalLimit => vec![Id::Word(self.process.ghost(), 0)],
            Reason::PendingLimit => vec![Id::Word(self.process.ghost(), 1)],
            Reason::ClientLimit => vec![Id::Client(client)],
            Reason::RouteLimit => of_route(RouteSlot::Connection).into_iter().collect(),
            Reason::RequestLimit => of_route(RouteSlot::Request).into_iter().collect(),
            Reason::TableFull => [0, 1].map(|half| Id::Word(self.clients.ghost(), half)).into(),
            other => panic!("{other} has no ledger of its own"),
        }
    }
}
