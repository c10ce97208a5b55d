//! Hearing of everything that went wrong, and of every request that went right.

use crate::{AccessRecord, RouteId};
use std::fmt::Debug;
use std::net::IpAddr;
use std::time::Duration;

/// What kind of thing happened. Logs are folded per kind, metrics are counted per kind and reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// `accept` failed, or a listener ran out of descriptors.
    AcceptFailed,
    /// A backend could not be reached, did not answer or broke off.
    BackendFailed,
    /// The peer sent something that is not its protocol.
    BadRequest,
    /// A block or allow list refused the client.
    Blocked,
    /// A route that is full took the slot of a connection that was idle.
    Reclaimed,
    /// A limit refused.
    Refused,
    /// A client is refused so often that the kernel drops its connection attempts from now on, unheard.
    Shed,
    /// The sweep ended a connection that nobody else would have: silent for too long, stuck, or half dead.
    Swept,
    /// A connection was ended for a reason of ours: a time-out, a drain, a lifetime.
    Terminated,
    /// A TLS handshake failed.
    TlsFailed,
    /// A limit would have refused, but it is only tried out.
    WouldRefuse,
}

impl EventKind {
    /// Every kind, in the order of [`EventKind::index`].
    pub const ALL: [Self; 11] = [
        Self::AcceptFailed,
        Self::BackendFailed,
        Self::BadRequest,
        Self::Blocked,
        Self::Reclaimed,
        Self::Refused,
        Self::Shed,
        Self::Swept,
        Self::Terminated,
        Self::TlsFailed,
        Self::WouldRefuse,
    ];

    /// The place of the kind in [`EventKind::ALL`], for arrays of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::AcceptFailed => "accept_failed",
            Self::BackendFailed => "backend_failed",
            Self::BadRequest => "bad_request",
            Self::Blocked => "blocked",
            Self::Reclaimed => "reclaimed",
            Self::Refused => "refused",
            Self::Shed => "shed",
            Self::Swept => "swept",
            Self::Terminated => "terminated",
            Self::TlsFailed => "tls_failed",
            Self::WouldRefuse => "would_refuse",
        }
    }
}

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// Why, as a fixed short name such as `client_limit`, `hello_timeout` or `dial_refused`.
    pub reason: &'static str,
    /// On which route, once it is known.
    pub route: Option<RouteId>,
    /// From whom: the client if it is known, else the peer.
    pub source: Option<IpAddr>,
}

/// How one request ended.
#[derive(Clone, Copy, Debug)]
pub struct RequestOutcome {
    /// The route that answered it.
    pub route: Option<RouteId>,
    /// The status sent.
    pub status: u16,
    /// From the whole head read to the last byte of the response handed over.
    pub elapsed: Duration,
}

/// Is told what happens to connections and requests.
///
/// **Contract.** Must not fail, block or call back. Losing an event loses a count, nothing else. **Cost.** On the
/// refusal path: tens of nanoseconds, no allocation. **Called.** From every worker, once per event.
pub trait Report: Debug + Send + Sync + 'static {
    /// Something was refused, failed or was ended.
    fn event(&self, event: Event);

    /// A connection was admitted on the listener of this port.
    fn admitted(&self, port: u16) {
        let _ = port;
    }

    /// A TLS handshake ended well.
    fn handshake(&self) {}

    /// A request ended.
    fn request(&self, outcome: RequestOutcome) {
        let _ = outcome;
    }

    /// Whether [`Report::access`] is to be called. Asked at the begin of each request and connection, so that nothing is
    /// kept for a log that nobody writes.
    fn wants_access(&self) -> bool {
        false
    }

    /// A request, a tunnel or a connection that was passed on has ended. Called once for each.
    fn access(&self, record: &AccessRecord<'_>) {
        let _ = record;
    }
}

/// Hears nothing: for tests and examples.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ignore;

impl Report for Ignore {
    fn event(&self, _event: Event) {}
}
