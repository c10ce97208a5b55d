//! The owners of slots: what drops them gives them back.

use crate::{Arrival, Binding, ClientKey, ConnectionTracker, Hold, Reason, Rejection, RequestHold, RouteId, Slots};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// The proof that a connection holds its slots. Dropping it gives every one of them back, once.
///
/// It travels with the connection: from accept through identification, routing and TLS into whatever serves it.
#[must_use = "dropping a permit frees its slots at once"]
#[clippy::has_significant_drop]
pub struct Permit {
    tracker: Arc<dyn ConnectionTracker>,
    hold: Hold,
}

impl Permit {
    /// Asks `tracker` to admit a connection.
    ///
    /// # Errors
    /// See [`ConnectionTracker::open`].
    #[inline]
    pub fn open(tracker: &Arc<dyn ConnectionTracker>, now: Instant, arrival: Arrival) -> Result<Self, Rejection> {
        // The tracker is counted behind the answer: who is refused costs less then.
        let mut hold = Hold::vacant();
        tracker.open(now, arrival, &mut hold)?;
        Ok(Self { tracker: Arc::clone(tracker), hold })
    }

    /// Names the client of a connection that came through a trusted proxy.
    ///
    /// # Errors
    /// See [`ConnectionTracker::identify`].
    pub fn identify(&mut self, now: Instant, client: IpAddr) -> Result<(), Rejection> {
        self.tracker.identify(now, &mut self.hold, client)
    }

    /// Binds the connection to a route.
    ///
    /// # Errors
    /// See [`ConnectionTracker::bind`].
    pub fn bind(&mut self, now: Instant, route: RouteId) -> Result<(), Rejection> {
        self.tracker.bind(now, &mut self.hold, route)
    }

    /// Gives the slots of one route back.
    pub fn unbind(&mut self, route: RouteId) {
        self.tracker.unbind(&mut self.hold, route);
    }

    /// Whether the connection is bound to `route`.
    #[must_use]
    pub fn is_bound(&self, route: RouteId) -> bool {
        self.hold.is_bound(route)
    }

    /// The routes that the connection is bound to.
    pub fn routes(&self) -> impl Iterator<Item = RouteId> + '_ {
        self.hold.bindings().map(Binding::route)
    }

    /// The client that the connection is counted for, if any.
    #[must_use]
    pub fn client(&self) -> Option<ClientKey> {
        self.hold.client()
    }

    /// Whether a dry run admitted what a limit would have refused.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.hold.is_over()
    }

    /// Why the last decision would have refused the connection if limits were enforced; told once per decision.
    pub fn would_refuse(&mut self) -> Option<Reason> {
        self.hold.take_would_refuse()
    }

    /// Gives every slot back while the connection lives on; from here on it holds none. For connections that only a dry
    /// run lets live: enforced, they would be closed here.
    pub fn let_go(&mut self) {
        let client = self.client();
        self.tracker.close(&mut self.hold);
        self.hold.fill(client, Slots::NONE);
    }

    /// Whether the connection holds no slot at all: it would not be there if limits were enforced.
    #[must_use]
    pub fn is_unheld(&self) -> bool {
        self.hold.slots() == Slots::NONE
    }

    /// The tracker behind the permit, to begin requests with.
    #[must_use]
    pub fn tracker(&self) -> &Arc<dyn ConnectionTracker> {
        &self.tracker
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        self.tracker.close(&mut self.hold);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("hold", &self.hold).finish_non_exhaustive()
    }
}

/// The proof that a request holds its slots: kept until the last byte of the response and the work behind it are done.
#[must_use = "dropping a request permit frees its slots at once"]
#[clippy::has_significant_drop]
pub struct RequestPermit {
    tracker: Arc<dyn ConnectionTracker>,
    hold: RequestHold,
}

impl RequestPermit {
    /// Asks `tracker` to admit a request.
    ///
    /// # Errors
    /// See [`ConnectionTracker::begin`].
    pub fn begin(
        tracker: &Arc<dyn ConnectionTracker>,
        now: Instant,
        client: Option<IpAddr>,
        route: RouteId,
    ) -> Result<Self, Rejection> {
        let mut permit = Self { tracker: Arc::clone(tracker), hold: RequestHold::vacant() };
        tracker.begin(now, client, route, &mut permit.hold)?;
        Ok(permit)
    }

    /// Why the request would have been refused if limits were enforced.
    #[must_use]
    pub fn would_refuse(&self) -> Option<Reason> {
        self.hold.would_refuse()
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        if !self.hold.is_vacant() {
            self.tracker.finish(&mut self.hold);
        }
    }
}

impl fmt::Debug for RequestPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestPermit").field("hold", &self.hold).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Unlimited;

    fn assert_moves_between_threads<T: Send + Sync + 'static>() {}

    #[test]
    fn permits_and_trackers_move_between_threads() {
        assert_moves_between_threads::<Permit>();
        assert_moves_between_threads::<RequestPermit>();
        assert_moves_between_threads::<Arc<dyn ConnectionTracker>>();
    }

    #[test]
    fn a_connection_may_live_on_without_its_slots() {
        let unlimited = Arc::new(Unlimited::default());
        let tracker: Arc<dyn ConnectionTracker> = unlimited.clone();
        let arrival = Arrival::client(IpAddr::from([192, 0, 2, 1]));
        let mut permit = Permit::open(&tracker, Instant::now(), arrival).unwrap();
        assert!(!permit.is_unheld());
        permit.let_go();
        assert!(permit.is_unheld() && permit.client().is_some());
        assert_eq!((unlimited.active(), permit.would_refuse()), (0, None));
    }

    #[test]
    fn a_panic_gives_the_slots_back() {
        let unlimited = Arc::new(Unlimited::default());
        let tracker: Arc<dyn ConnectionTracker> = unlimited.clone();
        let thread = std::thread::spawn(move || {
            let _permit = Permit::open(&tracker, Instant::now(), Arrival::client(IpAddr::from([192, 0, 2, 1])));
            std::panic::resume_unwind(Box::new("the connection's task fails"));
        });
        assert!(thread.join().is_err());
        assert_eq!(unlimited.active(), 0);
    }
}
