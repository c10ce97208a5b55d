//! How far the search for a backend that answers is.

use proxy_tcp::{InFlight, Order};

/// How far the search for a backend that answers is.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// Who is next; `None` if the route has no backends at all.
    pub(super) order: Option<Order>,
    /// The backend whose turn it is.
    pub(super) at: Option<At>,
    /// Whether one was passed over for having as many requests as it may have.
    pub(super) full: bool,
}

/// A backend whose turn it is.
#[derive(Debug)]
pub(super) struct At {
    pub(super) in_flight: InFlight,
    /// Whether a kept connection to it has turned out to be dead, so that a new one is next.
    pub(super) kept_died: bool,
}
