//! What a connection or request can hold, as bits.

use crate::{MAX_ROUTES, RouteId};
use std::num::NonZero;

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

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

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
pub struct Binding(NonZero<u32>);

const NO_ROUTE_SLOT: u32 = 1 << 31;
const NO_CLIENT_SLOT: u32 = 1 << 30;
/// Always set, so that an `Option` of a binding takes no room of its own.
const PRESENT: u32 = 1 << 29;
const INDEX: u32 = MAX_ROUTES - 1;

impl Binding {
    /// A binding to `route` that holds a slot of the route, and one of the route × client pair, where true.
    #[must_use]
    pub const fn new(route: RouteId, route_slot: bool, client_slot: bool) -> Self {
        let mut bits = route.index() | PRESENT;
        if !route_slot {
            bits |= NO_ROUTE_SLOT;
        }
        if !client_slot {
            bits |= NO_CLIENT_SLOT;
        }
        Self(NonZero::new(bits).expect("a bit is set"))
    }

    /// The route.
    #[must_use]
    pub const fn route(self) -> RouteId {
        RouteId::new(self.0.get() & INDEX).expect("made from a route")
    }

    /// Whether a slot of the route is held.
    #[must_use]
    pub const fn holds_route(self) -> bool {
        self.0.get() & NO_ROUTE_SLOT == 0
    }

    /// Whether a slot of the route × client pair is held.
    #[must_use]
    pub const fn holds_client(self) -> bool {
        self.0.get() & NO_CLIENT_SLOT == 0
    }
}

const _: () = assert!(size_of::<Option<Binding>>() == 4);
