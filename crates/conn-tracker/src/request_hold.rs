//! What a tracker remembers of one request.

use crate::hold::leaked;
use crate::state::State;
use crate::{ClientKey, Reason, RouteId, Slots};
use std::fmt;

/// The slots of one request, as its tracker knows them. Begins vacant, is filled by
/// [`ConnectionTracker::begin`](crate::ConnectionTracker::begin) and given back by
/// [`ConnectionTracker::finish`](crate::ConnectionTracker::finish); see [`Hold`](crate::Hold) for what happens otherwise.
#[must_use = "a request hold owns slots; give it back with `finish`"]
pub struct RequestHold {
    /// The bits of its key; `state` knows the family.
    client: u64,
    route: RouteId,
    state: State,
}

const _: () = assert!(size_of::<RequestHold>() == 16, "a hold is carried by every request");

impl RequestHold {
    /// A hold on nothing, to be filled.
    #[inline]
    pub const fn vacant() -> Self {
        Self { client: 0, route: RouteId::FIRST, state: State::VACANT }
    }

    /// Holds `slots` of `route` from now on, for `client` if its key is counted. Called by trackers, in `begin`.
    #[inline]
    pub fn fill(&mut self, client: Option<ClientKey>, route: RouteId, slots: Slots) {
        debug_assert!(self.is_vacant(), "what a hold owns would be lost");
        self.route = route;
        (self.client, self.state) = State::open(client, slots);
    }

    /// Holds nothing, for a request that only a dry run lets pass. Called by trackers, in `begin`.
    pub fn fill_over(&mut self, client: Option<ClientKey>, route: RouteId, reason: Reason) {
        self.fill(client, route, Slots::NONE);
        self.state.set_reason(Some(reason));
    }

    /// Whether nothing is owned: it was not filled yet, or given back.
    #[must_use]
    #[inline]
    pub const fn is_vacant(&self) -> bool {
        !self.state.has(State::OPEN)
    }

    /// Why a limit would have refused the request.
    #[must_use]
    pub const fn would_refuse(&self) -> Option<Reason> {
        self.state.reason()
    }

    /// The client that the request is counted for.
    #[must_use]
    pub const fn client(&self) -> Option<ClientKey> {
        self.state.client(self.client)
    }

    /// The route of the request.
    #[must_use]
    pub const fn route(&self) -> RouteId {
        self.route
    }

    /// The slots held.
    #[must_use]
    pub const fn slots(&self) -> Slots {
        self.state.slots()
    }

    /// Ends the hold: from here on the tracker has given its slots back, and it is vacant. Called once, by trackers, in
    /// `finish`.
    #[inline]
    pub const fn settle(&mut self) {
        self.state = State::VACANT;
    }
}

impl fmt::Debug for RequestHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHold")
            .field("client", &self.client())
            .field("route", &self.route)
            .field("slots", &self.slots())
            .field("would_refuse", &self.would_refuse())
            .finish()
    }
}

impl Drop for RequestHold {
    #[inline]
    fn drop(&mut self) {
        if !self.is_vacant() {
            leaked("request hold");
        }
    }
}
