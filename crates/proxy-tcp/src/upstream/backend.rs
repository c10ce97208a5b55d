//! One backend.

use super::addresses::Addresses;
use super::health::Checked;
use super::trust::Trust;
use proxy_route::{Host, ProxyVersion, Target, TargetPort};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// One backend. Shared by all workers.
#[derive(Debug)]
pub struct Backend {
    /// Where it is.
    pub host: Host,
    /// Port, or the listener's.
    pub port: TargetPort,
    /// PROXY header that it expects.
    pub send_proxy: Option<ProxyVersion>,
    /// What its health checks have found.
    pub checked: Checked,
    pub(super) trust: Trust,
    pub(super) addresses: Addresses,
    /// Taken to look its name up, so that many who dial do not ask many times.
    pub(super) looking: tokio::sync::Mutex<()>,
    in_flight: AtomicU32,
    /// How many of those there may be; `0` is unlimited.
    limit: AtomicU32,
}

/// Counts one connection or request towards a backend, until it drops.
#[derive(Debug)]
#[must_use = "dropping it ends the count at once"]
pub struct InFlight {
    backend: Arc<Backend>,
}

impl InFlight {
    /// The backend that it counts towards.
    #[must_use]
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }
}

impl Backend {
    pub(super) fn new(target: &Target) -> Self {
        Self {
            host: target.host.clone(),
            port: target.port,
            send_proxy: target.send_proxy,
            checked: Checked::default(),
            trust: Trust::default(),
            addresses: Addresses::default(),
            looking: tokio::sync::Mutex::default(),
            in_flight: AtomicU32::new(0),
            limit: AtomicU32::new(target.max_connections),
        }
    }

    pub(super) fn is_of(&self, target: &Target) -> bool {
        self.host == target.host && self.port == target.port && self.send_proxy == target.send_proxy
    }

    /// Connections or requests that count towards it now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        // Ordering: a hint for balancing, nothing else is read because of it.
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many of them there may be; `None` is unlimited.
    #[must_use]
    pub fn limit(&self) -> Option<u32> {
        // Ordering: the number stands for itself.
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    pub(super) fn set_limit(&self, limit: u32) {
        // Ordering: see `limit`.
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Counts one more until the answer drops; `None` if there are as many as there may be.
    pub fn count(self: &Arc<Self>) -> Option<InFlight> {
        let limit = self.limit().unwrap_or(u32::MAX);
        // Ordering: see `in_flight`; that there are never more than the limit comes from it being one step.
        self.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < limit).then(|| count + 1))
            .ok()
            .map(|_| InFlight { backend: Arc::clone(self) })
    }

    /// Whether it is set aside at `now` because it failed at work before, and has not done well since.
    #[must_use]
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.trust.is_aside(now)
    }

    /// It did what it was asked: an answer to a request, or a connection where it is not known what is asked.
    pub fn succeeded(&self) {
        self.trust.succeeded();
    }

    /// The addresses of its name that are known; none for a Unix socket.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        match &self.host {
            Host::Address(address) => vec![*address],
            Host::Name(_) => self.addresses.all().to_vec(),
            Host::Unix(_) => Vec::new(),
        }
    }

    /// How often one of its addresses has gone. Connections from before may be to one that is another's now.
    #[must_use]
    pub fn departures(&self) -> u64 {
        self.addresses.departures()
    }
}

impl fmt::Display for Backend {
    /// `10.0.0.1:80`, `[::1]:80`, `name:preserve` or `unix:/path`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::Unix(_), _) => self.host.fmt(f),
            (Host::Address(IpAddr::V6(address)), TargetPort::Fixed(port)) => write!(f, "[{address}]:{port}"),
            (host, TargetPort::Fixed(port)) => write!(f, "{host}:{port}"),
            (host, TargetPort::Preserve) => write!(f, "{host}:preserve"),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Ordering: see `Backend::in_flight`.
        self.backend.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
