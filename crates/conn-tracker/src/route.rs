//! The identity of a route in every count.

use std::fmt;

/// How many distinct routes one process can ever know: `2^24`.
pub const MAX_ROUTES: u32 = 1 << 24;

/// A route, as a small number.
///
/// A tracker hands them out and keeps one per route name for as long as the process lives, so that counts survive a
/// change of configuration and a number never comes to mean another route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(u32);

impl RouteId {
    pub(crate) const FIRST: Self = Self(0);

    /// The route with this index, or `None` from [`MAX_ROUTES`] on.
    #[must_use]
    pub const fn new(index: u32) -> Option<Self> {
        if index < MAX_ROUTES { Some(Self(index)) } else { None }
    }

    /// The number itself, below [`MAX_ROUTES`].
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}

impl fmt::Display for RouteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}
