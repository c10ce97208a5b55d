//! What a tracker remembers of one connection: plain data, carried by the connection itself.

use crate::state::State;
use crate::{Binding, ClientKey, Reason, RouteId, Slots};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Holds dropped without being closed, since the start of the process. Anything but 0 is a bug of a caller.
static LEAKED: AtomicU64 = AtomicU64::new(0);

/// How many [`Hold`]s and [`RequestHold`](crate::RequestHold)s were dropped without being given back. In debug builds the
/// drop panics.
#[must_use]
pub fn leaked_holds() -> u64 {
    // Ordering: a statistic, nothing is read because of it.
    LEAKED.load(Ordering::Relaxed)
}

#[cold]
pub(crate) fn leaked(what: &str) {
    // Ordering: a statistic, nothing is read because of it.
    LEAKED.fetch_add(1, Ordering::Relaxed);
    debug_assert!(std::thread::panicking(), "a {what} was dropped without being closed: its slots are lost");
}

/// How many bindings a hold keeps without allocating. A connection rarely has more than one.
const INLINE: usize = 2;

/// Every slot of one connection, as its tracker knows them.
///
/// Plain data of 32 bytes, neither `Copy` nor `Clone`: whoever owns it owns the slots. It begins vacant, is filled by
/// [`ConnectionTracker::open`](crate::ConnectionTracker::open) where it is and stays, and is vacant again after
/// [`ConnectionTracker::close`](crate::ConnectionTracker::close). Dropping it in between loses its slots, which
/// panics in debug builds and is counted in [`leaked_holds`] in release. [`Permit`](crate::Permit) sees to that.
#[must_use = "a hold owns slots; give it back with `close`"]
pub struct Hold {
    /// The bits of its key; `state` knows the family.
    client: u64,
    #[expect(clippy::box_collection, reason = "a thin pointer keeps the hold small")]
    spilled: Option<Box<Vec<Binding>>>,
    bound: [Option<Binding>; INLINE],
    hint: u32,
    state: State,
}

const _: () = assert!(size_of::<Hold>() == 32, "a hold is carried by every connection");

impl Hold {
    /// A hold on nothing, to be filled.
    #[inline]
    pub const fn vacant() -> Self {
        Self { client: 0, spilled: None, bound: [None; INLINE], hint: 0, state: State::VACANT }
    }

    /// Holds `slots` from now on, for `client` if its key is counted. Called by trackers, in `open`.
    #[inline]
    pub fn fill(&mut self, client: Option<ClientKey>, slots: Slots) {
        debug_assert!(self.is_vacant(), "what a hold owns would be lost");
        (self.client, self.state) = State::open(client, slots);
    }

    /// What its tracker noted, to find sooner what it counts of the client; any number if it noted nothing.
    #[must_use]
    #[inline]
    pub const fn hint(&self) -> u32 {
        self.hint
    }

    /// Notes something for [`Hold::hint`]. Called by trackers, in `open`.
    #[inline]
    pub const fn set_hint(&mut self, hint: u32) {
        self.hint = hint;
    }

    /// Whether nothing is owned: it was not filled yet, or given back.
    #[must_use]
    #[inline]
    pub const fn is_vacant(&self) -> bool {
        !self.state.has(State::OPEN)
    }

    /// The client that the connection is counted for; `None` for exempt connections and trusted proxies.
    #[must_use]
    #[inline]
    pub const fn client(&self) -> Option<ClientKey> {
        self.state.client(self.client)
    }

    /// The client, if the connection is as an admission left it, but that it may have given its pending slot back: it holds a
    /// slot of the process and one of the client, and is bound to no route.
    #[must_use]
    #[inline]
    pub const fn unbound_client(&self) -> Option<ClientKey> {
        self.state.unbound_client(self.client)
    }

    /// The binding, if there is one alone.
    #[must_use]
    #[inline]
    pub const fn only_binding(&self) -> Option<Binding> {
        match (self.bound, &self.spilled) {
            ([Some(binding), None], None) if self.is_bound_at_all() => Some(binding),
            _ => None,
        }
    }

    /// Sets the client once it is known.
    pub const fn set_client(&mut self, client: Option<ClientKey>) {
        self.client = self.state.set_client(client);
    }

    /// The slots that are not tied to a route.
    #[must_use]
    #[inline]
    pub const fn slots(&self) -> Slots {
        self.state.slots()
    }

    /// Replaces the slots that are not tied to a route.
    pub const fn set_slots(&mut self, slots: Slots) {
        self.state.set_slots(slots);
    }

    /// Whether a dry run admitted what a limit would have refused.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.state.has(State::OVER)
    }

    /// Marks the connection as one that a limit would have refused. Called by trackers.
    pub const fn mark_over(&mut self, reason: Reason) {
        self.state.set(State::OVER);
        self.state.set_reason(Some(reason));
    }

    /// Why a limit would have refused the connection, told once per decision.
    pub const fn take_would_refuse(&mut self) -> Option<Reason> {
        let untold = self.state.reason();
        self.state.set_reason(None);
        untold
    }

    /// The routes the connection is bound to.
    pub fn bindings(&self) -> impl Iterator<Item = Binding> + '_ {
        let spilled = self.spilled.iter().flat_map(|more| more.iter());
        self.bound.iter().flatten().chain(spilled).copied().take_while(|_| self.is_bound_at_all())
    }

    /// Whether the connection is bound to any route.
    #[must_use]
    #[inline]
    pub const fn is_bound_at_all(&self) -> bool {
        self.state.has(State::BOUND)
    }

    /// Whether the connection is bound to `route`.
    #[must_use]
    pub fn is_bound(&self, route: RouteId) -> bool {
        self.is_bound_at_all() && self.bindings().any(|binding| binding.route() == route)
    }

    /// Adds a binding. A route is bound at most once; allocates from the third route of one connection on.
    pub fn push(&mut self, binding: Binding) {
        debug_assert!(!self.is_bound(binding.route()), "a connection binds a route once");
        if !self.is_bound_at_all() {
            // What is there is from before the hold was settled.
            (self.bound, self.spilled) = ([Some(binding), None], None);
            return self.state.set(State::BOUND);
        }
        match self.bound.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(binding),
            None => self.spilled.get_or_insert_default().push(binding),
        }
    }

    /// Takes the binding to `route` out.
    pub fn take(&mut self, route: RouteId) -> Option<Binding> {
        if !self.is_bound_at_all() {
            return None;
        }
        let taken = self.take_bound(route).or_else(|| self.take_spilled(route))?;
        if self.bindings().next().is_none() {
            self.state.unset(State::BOUND);
        }
        Some(taken)
    }

    fn take_bound(&mut self, route: RouteId) -> Option<Binding> {
        self.bound.iter_mut().find(|place| place.is_some_and(|binding| binding.route() == route))?.take()
    }

    fn take_spilled(&mut self, route: RouteId) -> Option<Binding> {
        let more = self.spilled.as_mut()?;
        let index = more.iter().position(|binding| binding.route() == route)?;
        Some(more.swap_remove(index))
    }

    /// Ends the hold: from here on the tracker has given its slots back, and it is vacant. Called once, by trackers, in
    /// `close`.
    #[inline]
    pub const fn settle(&mut self) {
        self.state = State::VACANT;
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold")
            .field("client", &self.client())
            .field("slots", &self.slots())
            .field("over", &self.is_over())
            .field("bindings", &self.bindings().collect::<Vec<_>>())
            .finish()
    }
}

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        if !self.is_vacant() {
            leaked("connection hold");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(index: u32) -> RouteId {
        RouteId::new(index).unwrap()
    }

    fn filled(client: Option<ClientKey>, slots: Slots) -> Hold {
        let mut hold = Hold::vacant();
        hold.fill(client, slots);
        hold
    }

    #[test]
    fn bindings_spill_and_come_back() {
        let mut hold = filled(None, Slots::GLOBAL);
        for index in 0..9 {
            hold.push(Binding::new(route(index), index % 2 == 0, index % 3 == 0));
        }
        assert_eq!(hold.bindings().count(), 9);
        for index in [8, 0, 4, 3] {
            let binding = hold.take(route(index)).expect("it was bound");
            assert_eq!(binding.holds_route(), index % 2 == 0);
            assert_eq!(binding.holds_client(), index % 3 == 0);
            assert!(!hold.is_bound(route(index)));
        }
        assert!(hold.take(route(8)).is_none());
        hold.push(Binding::new(route(crate::MAX_ROUTES - 1), true, true));
        assert!(hold.is_bound(route(crate::MAX_ROUTES - 1)));
        assert_eq!(hold.bindings().count(), 6);
        hold.settle();
        assert!(hold.is_vacant() && !hold.is_bound_at_all());
        assert!(hold.bindings().next().is_none() && hold.take(route(1)).is_none());
        hold.fill(None, Slots::GLOBAL);
        assert!(hold.bindings().next().is_none(), "nothing is left of what was before");
        hold.push(Binding::new(route(1), true, true));
        assert_eq!(hold.bindings().count(), 1);
        hold.settle();
    }

    #[test]
    fn the_last_binding_taken_leaves_none() {
        let mut hold = filled(None, Slots::GLOBAL);
        (0..5).for_each(|index| hold.push(Binding::new(route(index), true, false)));
        for index in 0..5 {
            assert!(hold.is_bound_at_all());
            hold.take(route(index)).expect("it was bound");
        }
        assert!(!hold.is_bound_at_all());
        hold.settle();
    }

    #[test]
    fn what_shares_a_word_does_not_touch_each_other() {
        let keys = [None, Some(ClientKey::V4(u32::MAX)), Some(ClientKey::V4(0)), Some(ClientKey::V6(u64::MAX))];
        let every = Slots::GLOBAL.with(Slots::PENDING).with(Slots::CLIENT).with(Slots::EXEMPT);
        for (client, other) in keys.iter().flat_map(|key| keys.map(|other| (*key, other))) {
            let mut hold = filled(client, every);
            assert_eq!((hold.client(), hold.slots(), hold.is_over()), (client, every, false));
            hold.push(Binding::new(route(1), true, true));
            hold.set_client(other);
            for reason in Reason::ALL {
                hold.mark_over(reason);
                assert_eq!(hold.take_would_refuse(), Some(reason));
                assert_eq!(hold.take_would_refuse(), None, "it is told once");
            }
            assert_eq!((hold.client(), hold.slots(), hold.is_over()), (other, every, true));
            hold.set_slots(Slots::NONE);
            assert_eq!((hold.client(), hold.slots(), hold.is_over()), (other, Slots::NONE, true));
            assert!(hold.is_bound(route(1)) && !hold.is_vacant());
            hold.settle();
            assert!(hold.is_vacant());
        }
    }

    #[test]
    fn a_leak_is_loud_in_debug_and_counted_in_release() {
        let before = leaked_holds();
        let leak = std::panic::catch_unwind(|| drop(filled(None, Slots::GLOBAL)));
        assert_eq!(leak.is_err(), cfg!(debug_assertions));
        assert!(leaked_holds() > before);
    }
}
