//! What models ask of the ledgers: which of them belong to the scope of a reason.

use crate::ledger::{Id, peak_and_rest, stood_at};
pub use crate::ledger::{clear, step};
use crate::routes::RouteSlot;
use crate::table::Table;
use conn_tracker::{ClientKey, Reason, RouteId};

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
        stood_at(&self.ghost_ids(reason, client, route), limit, step)
    }

    /// The most that the scope of `reason` ever held, and what it holds now.
    ///
    /// # Panics
    /// For rates, which have no count.
    pub fn ghost_peak_and_rest(&self, reason: Reason, client: ClientKey, route: Option<RouteId>) -> (u32, u32) {
        peak_and_rest(&self.ghost_ids(reason, client, route))
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
