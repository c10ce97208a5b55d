//! What a tracker remembers of one connection or request: plain data, carried by the connection itself.

use crate::{ClientKey, Reason, RouteId};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Holds dropped without being closed, since the start of the process. Anything but 0 is a bug of a caller.
static LEAKED: AtomicU64 = AtomicU64::new(0);

/// How many [`Hold`]s and [`RequestHold`]s were dropped without being given back. In debug builds the drop panics.
#[must_use]
pub fn leaked_holds() -> u64 {
    // Ordering: a statistic, nothing is read because of it.
    LEAKED.load(Ordering::Relaxed)
}

#[cold]
fn leaked(what: &str) {
    // Ordering: a statistic, nothing is read because of it.
    LEAKED.fetch_add(1, Ordering::Relaxed);
    debug_assert!(std::thread::panicking(), "a {what} was dropped without being closed: its slots are lost");
}

/// The slots that are not tied to a route, as a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots(u8);

impl Slots {
    /// No slot.
    pub const NONE: Self = Self(0);
    /// A slot of the process.
    pub const GLOBAL: Self = Self(1);
    /// A slot for a connection whose route is not known yet.
    pub const PENDING: Self = Self(2);
    /// A slot of the client.
    pub const CLIENT: Self = Self(4);
    /// A slot of the exempt scope.
    pub const EXEMPT: Self = Self(8);
    /// A slot for a request of the route.
    pub const REQUEST: Self = Self(16);
    /// A slot for a request of the client on the route.
    pub const REQUEST_CLIENT: Self = Self(32);

    /// Whether every slot of `other` is in the set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set less `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// One route that a connection is bound to, and which of its slots it holds (in a dry run it may hold none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding(u32);

const NO_ROUTE_SLOT: u32 = 1 << 31;
const NO_CLIENT_SLOT: u32 = 1 << 30;
const INDEX: u32 = crate::MAX_ROUTES - 1;

impl Binding {
    /// A binding to `route` that holds a slot of the route, and one of the route × client pair, where true.
    #[must_use]
    pub const fn new(route: RouteId, route_slot: bool, client_slot: bool) -> Self {
        let mut bits = route.index();
        if !route_slot {
            bits |= NO_ROUTE_SLOT;
        }
        if !client_slot {
            bits |= NO_CLIENT_SLOT;
        }
        Self(bits)
    }

    /// The route.
    #[must_use]
    pub fn route(self) -> RouteId {
        RouteId::new(self.0 & INDEX).expect("made from a route")
    }

    /// Whether a slot of the route is held.
    #[must_use]
    pub const fn holds_route(self) -> bool {
        self.0 & NO_ROUTE_SLOT == 0
    }

    /// Whether a slot of the route × client pair is held.
    #[must_use]
    pub const fn holds_client(self) -> bool {
        self.0 & NO_CLIENT_SLOT == 0
    }
}

/// How many bindings a hold keeps without allocating. A connection rarely has more than one.
const INLINE: usize = 4;

/// Every slot of one connection, as its tracker knows them.
///
/// Plain data of at most 56 bytes, neither `Copy` nor `Clone`: whoever owns it owns the slots. It is made by
/// [`ConnectionTracker::open`](crate::ConnectionTracker::open) and ends in
/// [`ConnectionTracker::close`](crate::ConnectionTracker::close); dropping it anywhere else loses its slots, which
/// panics in debug builds and is counted in [`leaked_holds`] in release. [`Permit`](crate::Permit) sees to that.
#[must_use = "a hold owns slots; give it back with `close`"]
pub struct Hold {
    client: Option<ClientKey>,
    #[expect(clippy::box_collection, reason = "a thin pointer keeps the common hold small")]
    spilled: Option<Box<Vec<Binding>>>,
    bound: [Option<Stored>; INLINE],
    /// How many there are of both.
    count: u32,
    slots: Slots,
    over: bool,
    /// Why the last decision would have refused, until somebody asks.
    untold: Option<Reason>,
    open: bool,
}

// A binding with a niche, so that `Option` costs nothing: the stored number is never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stored(std::num::NonZeroU32);

const PRESENT: u32 = 1 << 29;

impl From<Binding> for Stored {
    fn from(binding: Binding) -> Self {
        Self(std::num::NonZeroU32::new(binding.0 | PRESENT).expect("a bit is set"))
    }
}

impl From<Stored> for Binding {
    fn from(stored: Stored) -> Self {
        Self(stored.0.get() & !PRESENT)
    }
}

const _: () = assert!(size_of::<Hold>() <= 56, "a hold is carried by every connection");

impl Hold {
    /// A hold on `slots`, for `client` if its key is counted. Called by trackers.
    #[inline]
    pub fn new(client: Option<ClientKey>, slots: Slots) -> Self {
        Self { client, spilled: None, bound: [None; INLINE], count: 0, slots, over: false, untold: None, open: true }
    }

    /// The client that the connection is counted for; `None` for exempt connections and trusted proxies.
    #[must_use]
    pub const fn client(&self) -> Option<ClientKey> {
        self.client
    }

    /// Sets the client once it is known.
    pub const fn set_client(&mut self, client: Option<ClientKey>) {
        self.client = client;
    }

    /// The slots that are not tied to a route.
    #[must_use]
    pub const fn slots(&self) -> Slots {
        self.slots
    }

    /// Replaces the slots that are not tied to a route.
    pub const fn set_slots(&mut self, slots: Slots) {
        self.slots = slots;
    }

    /// Whether a dry run admitted what a limit would have refused.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.over
    }

    /// Marks the connection as one that a limit would have refused. Called by trackers.
    pub const fn mark_over(&mut self, reason: Reason) {
        self.over = true;
        self.untold = Some(reason);
    }

    /// Why a limit would have refused the connection, told once per decision.
    pub const fn take_would_refuse(&mut self) -> Option<Reason> {
        self.untold.take()
    }

    /// The routes the connection is bound to.
    pub fn bindings(&self) -> impl Iterator<Item = Binding> + '_ {
        let spilled = self.spilled.iter().flat_map(|more| more.iter().copied());
        self.bound.iter().flatten().map(|&stored| stored.into()).chain(spilled)
    }

    /// Whether the connection is bound to any route.
    #[must_use]
    #[inline]
    pub fn is_bound_at_all(&self) -> bool {
        self.count > 0
    }

    /// Whether the connection is bound to `route`.
    #[must_use]
    pub fn is_bound(&self, route: RouteId) -> bool {
        self.is_bound_at_all() && self.bindings().any(|binding| binding.route() == route)
    }

    /// Adds a binding. A route is bound at most once; allocates from the fifth route of one connection on.
    pub fn push(&mut self, binding: Binding) {
        debug_assert!(!self.is_bound(binding.route()), "a connection binds a route once");
        self.count += 1;
        match self.bound.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(binding.into()),
            None => self.spilled.get_or_insert_default().push(binding),
        }
    }

    /// Takes the binding to `route` out.
    pub fn take(&mut self, route: RouteId) -> Option<Binding> {
        for place in &mut self.bound {
            if place.is_some_and(|stored| Binding::from(stored).route() == route) {
                self.count -= 1;
                return place.take().map(Binding::from);
            }
        }
        let more = self.spilled.as_mut()?;
        let index = more.iter().position(|binding| binding.route() == route)?;
        self.count -= 1;
        Some(more.swap_remove(index))
    }

    /// Ends the hold: from here on the tracker has given its slots back. Called once, by trackers, in `close`.
    pub const fn settle(&mut self) {
        self.open = false;
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold")
            .field("client", &self.client)
            .field("slots", &self.slots)
            .field("over", &self.over)
            .field("bindings", &self.bindings().collect::<Vec<_>>())
            .finish()
    }
}

impl Drop for Hold {
    #[inline]
    fn drop(&mut self) {
        if self.open {
            leaked("connection hold");
        }
    }
}

/// The slots of one request, as its tracker knows them. Ends in
/// [`ConnectionTracker::finish`](crate::ConnectionTracker::finish); see [`Hold`] for what happens otherwise.
#[derive(Debug)]
#[must_use = "a request hold owns slots; give it back with `finish`"]
pub struct RequestHold {
    client: Option<ClientKey>,
    route: RouteId,
    slots: Slots,
    over: Option<Reason>,
    open: bool,
}

impl RequestHold {
    /// A hold on `slots` of `route`, for `client` if its key is counted. Called by trackers.
    pub const fn new(client: Option<ClientKey>, route: RouteId, slots: Slots) -> Self {
        Self { client, route, slots, over: None, open: true }
    }

    /// A hold on nothing, for a request that only a dry run lets pass. Called by trackers.
    pub const fn unheld(client: Option<ClientKey>, route: RouteId, reason: Reason) -> Self {
        Self { client, route, slots: Slots::NONE, over: Some(reason), open: true }
    }

    /// Why a limit would have refused the request.
    #[must_use]
    pub const fn would_refuse(&self) -> Option<Reason> {
        self.over
    }

    /// The client that the request is counted for.
    #[must_use]
    pub const fn client(&self) -> Option<ClientKey> {
        self.client
    }

    /// The route of the request.
    #[must_use]
    pub const fn route(&self) -> RouteId {
        self.route
    }

    /// The slots held.
    #[must_use]
    pub const fn slots(&self) -> Slots {
        self.slots
    }

    /// Ends the hold: from here on the tracker has given its slots back. Called once, by trackers, in `finish`.
    pub const fn settle(&mut self) {
        self.open = false;
    }
}

impl Drop for RequestHold {
    fn drop(&mut self) {
        if self.open {
            leaked("request hold");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(index: u32) -> RouteId {
        RouteId::new(index).unwrap()
    }

    #[test]
    fn bindings_spill_and_come_back() {
        let mut hold = Hold::new(None, Slots::GLOBAL);
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
    }

    #[test]
    fn a_leak_is_loud_in_debug_and_counted_in_release() {
        let before = leaked_holds();
        let leak = std::panic::catch_unwind(|| drop(Hold::new(None, Slots::GLOBAL)));
        assert_eq!(leak.is_err(), cfg!(debug_assertions));
        assert!(leaked_holds() > before);
    }
}
