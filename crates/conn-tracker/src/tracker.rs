//! The trait between those who hold slots and the one who counts them.

use crate::{Hold, Rejection, RequestHold, RouteId};
use std::fmt::Debug;
use std::net::IpAddr;
use std::time::Instant;

/// Who a new connection is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client: the connection takes a slot, and a rate token, of its own.
    Client(IpAddr),
    /// A trusted peer that will name the client in a PROXY header: only `pending` and `global` are taken until
    /// [`ConnectionTracker::identify`] is called.
    Proxy,
    /// A trusted HTTP load balancer or CDN: the connection is in no client scope, its users are limited per request.
    Balancer,
}

/// One connection that asks to be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Who it is from.
    pub origin: Origin,
    /// Whether its route is still to be found. `false` takes no `pending` slot, for ports whose route is known.
    pub pending: bool,
}

impl Arrival {
    /// A client whose route is not known yet.
    #[must_use]
    pub const fn client(address: IpAddr) -> Self {
        Self { origin: Origin::Client(address), pending: true }
    }
}

/// Decides who may hold slots, and counts who does.
///
/// Use it through [`Permit`](crate::Permit) and [`RequestPermit`](crate::RequestPermit), which cannot forget to give
/// slots back.
///
/// **Contract.** Each call is one decision: it takes all the slots it asks for or none, never brings a scope above its
/// limit, and never refuses because of another call that is itself refused. A refusal changes nothing but the count of
/// refusals (and `bind` gives the pending slot back in either case). The safe direction of an error is to refuse.
///
/// **Cost.** No I/O, no await, no allocation for a client that is known already; locks are held for well under a
/// millisecond. Every method may be called from any thread.
///
/// **Called.** `open` once per accepted socket before a byte is read; `identify` at most once, when a trusted peer named
/// the client; `bind` at each route decision; `close` once. `now` must not run backwards by more than the calls of
/// different threads overlap.
pub trait ConnectionTracker: Debug + Send + Sync + 'static {
    /// Admits a connection: client rate, client, table, pending, global, in this order, and [fills](Hold::fill) its vacant
    /// hold.
    ///
    /// # Errors
    /// The first of them that is full; the hold stays vacant.
    fn open(&self, now: Instant, arrival: Arrival, hold: &mut Hold) -> Result<(), Rejection>;

    /// What [`ConnectionTracker::open`] would answer, changing nothing. Asked about clients whose connections are refused
    /// before they get here, to find out who could be let in. A tracker that does not know says that it would.
    ///
    /// # Errors
    /// As [`ConnectionTracker::open`].
    fn would_open(&self, now: Instant, arrival: Arrival) -> Result<(), Rejection> {
        let (_, _) = (now, arrival);
        Ok(())
    }

    /// A hint that a connection of `client` will be admitted in some hundred nanoseconds: what is counted of it is brought nearer
    /// to the processor meanwhile, so that the admission need not wait for memory. Changes nothing, refuses nobody, and need not
    /// be followed by an admission. Called, if at all, for the next connection before the last one is admitted.
    fn expect(&self, client: IpAddr) {
        let _ = client;
    }

    /// Counts a connection from [`Origin::Proxy`] for the client that its PROXY header names. A second call changes
    /// nothing.
    ///
    /// # Errors
    /// Client rate, client or table, in this order; the hold is as it was.
    fn identify(&self, now: Instant, hold: &mut Hold, client: IpAddr) -> Result<(), Rejection>;

    /// Binds a connection to a route: route, then rate and count of the client on the route. Gives the pending slot back, whatever the answer.
    /// Binding a route that is bound already changes nothing. In a dry run, a connection that the limit would have refused
    /// is let pass and not bound.
    ///
    /// # Errors
    /// The first of them that is full.
    fn bind(&self, now: Instant, hold: &mut Hold, route: RouteId) -> Result<(), Rejection>;

    /// Gives the slots of one route back; a route that is not bound changes nothing.
    fn unbind(&self, hold: &mut Hold, route: RouteId);

    /// Gives everything back and [settles](Hold::settle) the hold. Cannot fail, reads no clock, never blocks on I/O.
    fn close(&self, hold: &mut Hold);

    /// Admits a request of `client` (`None`: in no client scope) on `route`: request rate, requests of the client,
    /// requests of the route, in this order, and fills its vacant hold.
    ///
    /// # Errors
    /// The first of them that is full; the hold stays vacant.
    fn begin(
        &self,
        now: Instant,
        client: Option<IpAddr>,
        route: RouteId,
        hold: &mut RequestHold,
    ) -> Result<(), Rejection>;

    /// Gives the slots of a request back and settles its hold.
    fn finish(&self, hold: &mut RequestHold);
}
