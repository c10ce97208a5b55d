//! What the task and the requests of one connection share.

use crate::io::Activity;
use crate::server::{Lingering, Worker};
use crate::tunnel::Tunnel;
use conn_tracker::{Permit, Reason, Rejection, RequestPermit, RouteId};
use http::Version;
use parking_lot::Mutex;
use proxy_route::TlsVersion;
use rustls_pki_types::CertificateDer;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A client's connection, as its task and its requests see it.
#[derive(Debug)]
pub(crate) struct Downstream {
    pub(crate) worker: Arc<Worker>,
    /// Who is at the other end, the peer or whom its PROXY header names: source of a PROXY header towards backends.
    pub(crate) source: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) port: u16,
    pub(crate) tls: Option<TlsVersion>,
    /// The name in the TLS hello.
    pub(crate) sni: Option<Box<str>>,
    /// What it was asked to show in its handshake, if it was.
    pub(crate) certificate: Option<Box<ClientCertificate>>,
    pub(crate) accepted: Instant,
    pub(crate) activity: Arc<Activity>,
    slots: Mutex<Slots>,
    /// What an HTTP/1.1 connection becomes once its response is sent.
    pub(crate) tunnel: Mutex<Option<Box<Tunnel>>>,
    ending: Ending,
    /// Its number among the idle ones of the worker; 0 if it is none of them.
    idle: AtomicU64,
}

/// The permit of a connection: freed early only when its first route refuses it.
#[derive(Debug)]
struct Slots {
    permit: Option<Permit>,
    bound: bool,
    /// Held in place of the permit by a connection that only has its answer to deliver.
    lingering: Option<Lingering>,
}

/// How the connection is to end; told by its requests, acted on by its task.
#[derive(Debug, Default)]
struct Ending {
    linger: AtomicBool,
    reset: AtomicBool,
}

/// A route that did not take a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) rejection: Rejection,
    /// Whether the connection has no route at all.
    pub(crate) first: bool,
}

/// What a route would have refused if its limits were enforced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WouldRefuse {
    pub(crate) reason: Reason,
    /// Whether the connection had no route before.
    pub(crate) first: bool,
}

impl Downstream {
    /// A connection that holds `permit` and is bound to nothing.
    pub(crate) fn new(
        worker: Arc<Worker>,
        identity: Identity,
        security: Security,
        activity: Arc<Activity>,
        permit: Permit,
    ) -> Self {
        let Identity { source, local, port, sni, accepted } = identity;
        let (tls, certificate) = match security {
            Security::Plain => (None, None),
            Security::Tls(version, certificate) => (Some(version), certificate),
        };
        let slots = Mutex::new(Slots { permit: Some(permit), bound: false, lingering: None });
        let (tunnel, ending) = (Mutex::new(None), Ending::default());
        let idle = AtomicU64::new(0);
        Self { worker, source, local, port, tls, sni, certificate, accepted, activity, slots, tunnel, ending, idle }
    }

    /// Who is at the other end, as limits and rules see it.
    pub(crate) const fn client(&self) -> IpAddr {
        self.source.ip()
    }

    /// Takes note that a request begins.
    pub(crate) fn wakes(&self) {
        // Ordering: written and read by the connection's task, and by nobody any more when it drops. So a load and a store
        // are as good as a swap, and cheaper.
        let number = self.idle.load(Ordering::Relaxed);
        if number != 0 {
            self.idle.store(0, Ordering::Relaxed);
            self.worker.idle.leave(number);
        }
    }

    /// Takes note that a request is over, after which the connection may be idle.
    pub(crate) fn rests(self: &Arc<Self>) {
        self.wakes();
        if self.worker.reclaims() {
            let routes = self.slots.lock().permit.iter().flat_map(|permit| permit.routes()).collect();
            // Ordering: see `wakes`.
            self.idle.store(self.worker.idle.enter(self, routes), Ordering::Relaxed);
        }
    }

    /// Gives the slots on one route back, until a request binds it again; whether there were any.
    pub(crate) fn unbind(&self, route: RouteId) -> bool {
        let mut slots = self.slots.lock();
        let Some(permit) = slots.permit.as_mut().filter(|permit| permit.is_bound(route)) else { return false };
        permit.unbind(route);
        true
    }

    /// Binds the connection to a route, unless it is already; answers what only a dry run let pass.
    pub(crate) fn bind(&self, now: Instant, route: RouteId) -> Result<Option<WouldRefuse>, Refusal> {
        let mut slots = self.slots.lock();
        let first = !slots.bound;
        let Some(permit) = slots.permit.as_mut() else {
            // Only an HTTP/1.1 connection that is closing has given its slots back, and it takes no more requests.
            let rejection = Rejection::full(Reason::RouteLimit, 0);
            return Err(Refusal { rejection, first });
        };
        permit.bind(now, route).map_err(|rejection| Refusal { rejection, first })?;
        let over = permit.would_refuse().map(|reason| WouldRefuse { reason, first });
        slots.bound = true;
        Ok(over)
    }

    /// Whether some route has taken the connection.
    pub(crate) fn is_bound(&self) -> bool {
        self.slots.lock().bound
    }

    /// Counts a request on its route, unless its connection would not be there if limits were enforced.
    pub(crate) fn begin(
        &self,
        now: Instant,
        client: Option<IpAddr>,
        route: RouteId,
    ) -> Result<Option<RequestPermit>, Rejection> {
        let slots = self.slots.lock();
        let Some(permit) = slots.permit.as_ref().filter(|permit| !permit.is_unheld()) else { return Ok(None) };
        RequestPermit::begin(permit.tracker(), now, client, route).map(Some)
    }

    /// Gives every slot back, while the connection goes on as if it held them.
    pub(crate) fn let_go(&self) {
        if let Some(permit) = &mut self.slots.lock().permit {
            permit.let_go();
        }
    }

    /// Gives every slot back while the connection still lives.
    pub(crate) fn release(&self) {
        let permit = self.slots.lock().permit.take();
        drop(permit);
    }

    /// Whether the connection may linger to deliver its answer, holding nothing. If not, it ends with a reset.
    pub(crate) fn linger(&self) -> bool {
        let lingering = self.worker.linger();
        let may = lingering.is_some();
        self.slots.lock().lingering = lingering;
        if !may {
            self.end_abruptly();
        }
        may
    }

    /// Has the connection end gently, so that an answer to a request that was not read whole arrives.
    pub(crate) fn end_gently(&self) {
        // Ordering: written and read by the connection's task.
        self.ending.linger.store(true, Ordering::Relaxed);
    }

    /// Has the connection end with a reset.
    pub(crate) fn end_abruptly(&self) {
        // Ordering: written and read by the connection's task.
        self.ending.reset.store(true, Ordering::Relaxed);
    }

    pub(crate) fn ends_gently(&self) -> bool {
        // Ordering: see `end_gently`.
        self.ending.linger.load(Ordering::Relaxed)
    }

    pub(crate) fn ends_abruptly(&self) -> bool {
        // Ordering: see `end_abruptly`.
        self.ending.reset.load(Ordering::Relaxed)
    }

    /// How long the connection may be busy without a byte in either direction: the time that passed-through connections
    /// have, and no less than a backend has for its answer.
    pub(crate) fn longest_standstill(&self) -> Option<Duration> {
        let newest = self.worker.current();
        let settings = &newest.generation.settings;
        let idle = settings.keep_alive.tunnel_idle_in_force();
        idle.map(|idle| idle.max(settings.timeouts.response.unwrap_or_default()))
    }

    /// Whether a request of this version has its connection for itself.
    pub(crate) fn speaks_h1(version: Version) -> bool {
        version < Version::HTTP_2
    }
}

impl Drop for Downstream {
    fn drop(&mut self) {
        self.wakes();
    }
}

// Every idle connection has one: with its counts in an allocation of 256 bytes.
const _: () = assert!(size_of::<Downstream>() <= 240);

/// How a connection is protected.
#[derive(Debug)]
pub(crate) enum Security {
    /// Not at all.
    Plain,
    /// By TLS of this version, in which the client was asked for a certificate perhaps.
    Tls(TlsVersion, Option<Box<ClientCertificate>>),
}

/// What a client that was asked for a certificate has shown.
#[derive(Debug)]
pub(crate) struct ClientCertificate {
    /// File with the roots that it has to come from.
    pub(crate) roots: PathBuf,
    /// Its own, which comes from them; `None` if it has none.
    pub(crate) leaf: Option<CertificateDer<'static>>,
}

/// Who is connected to what.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) source: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) port: u16,
    /// The name in the TLS hello.
    pub(crate) sni: Option<Box<str>>,
    pub(crate) accepted: Instant,
}
