//! Backends: which one is next, and dialling it.

use proxy_route::{Algorithm, Forward, ProxyVersion, Target, TargetPort};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;

/// The backends of one route. Shared by all workers.
#[derive(Debug)]
pub struct Cluster {
    algorithm: Algorithm,
    backends: Vec<Arc<Backend>>,
    next: AtomicUsize,
}

/// One backend address.
#[derive(Debug)]
pub struct Backend {
    /// Name or address.
    pub host: String,
    /// Port, or the listener's.
    pub port: TargetPort,
    /// PROXY header that it expects.
    pub send_proxy: Option<ProxyVersion>,
    in_flight: AtomicU32,
}

/// Counts one connection or request towards a backend, until it drops.
#[derive(Debug)]
#[must_use = "dropping it ends the count at once"]
pub struct InFlight {
    backend: Arc<Backend>,
}

/// Why a backend could not be dialled.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialError {
    /// Its name has no address.
    NoAddress,
    /// It was not reached in time.
    TimedOut,
    /// The system said no.
    Io(io::Error),
}

impl DialError {
    /// The name in logs and metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoAddress => "dial_no_address",
            Self::TimedOut => "dial_timeout",
            Self::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => "dial_refused",
            Self::Io(_) => "dial_failed",
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("the name of the backend has no address"),
            Self::TimedOut => f.write_str("the backend was not reached in time"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::NoAddress | Self::TimedOut => None,
        }
    }
}

impl Cluster {
    /// The backends of a forwarding route.
    #[must_use]
    pub fn new(forward: &Forward) -> Self {
        Self::with_known(forward, &[])
    }

    /// The same, with backends that are `known` already taken from there, each once.
    pub(crate) fn with_known(forward: &Forward, known: &[Arc<Backend>]) -> Self {
        let mut known = known.to_vec();
        let backend = |target: &Target| match known.iter().position(|backend| backend.is_of(target)) {
            Some(place) => known.remove(place),
            None => Arc::new(Backend {
                host: target.host.clone(),
                port: target.port,
                send_proxy: target.send_proxy,
                in_flight: AtomicU32::new(0),
            }),
        };
        let backends = forward.targets.iter().map(backend).collect();
        Self { algorithm: forward.algorithm, backends, next: AtomicUsize::new(0) }
    }

    /// Every backend, as configured.
    #[must_use]
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// The backends in the order in which to try them for this client: the chosen one first, then the others.
    pub fn order(&self, client: IpAddr) -> impl Iterator<Item = &Arc<Backend>> {
        let count = self.backends.len();
        let first = match self.algorithm {
            _ if count <= 1 => 0,
            Algorithm::IpHash => {
                let mut hasher = DefaultHasher::new();
                client.hash(&mut hasher);
                usize::try_from(hasher.finish() % count as u64).expect("below a length")
            }
            Algorithm::LeastConnections => {
                let start = self.turn();
                let load = |index: &usize| self.backends[(start + index) % count].in_flight();
                (start + (0..count).min_by_key(load).unwrap_or(0)) % count
            }
            Algorithm::RoundRobin => self.turn() % count,
        };
        (0..count).map(move |offset| &self.backends[(first + offset) % count])
    }

    fn turn(&self) -> usize {
        // Ordering: only the number itself matters, and two alike would do no harm.
        self.next.fetch_add(1, Ordering::Relaxed) % self.backends.len().max(1)
    }
}

impl Backend {
    /// Connections or requests that count towards it now.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        // Ordering: a hint for balancing, nothing else is read because of it.
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts one more until the answer drops.
    pub fn count(self: &Arc<Self>) -> InFlight {
        // Ordering: see `in_flight`.
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { backend: Arc::clone(self) }
    }

    fn is_of(&self, target: &Target) -> bool {
        self.host == target.host && self.port == target.port && self.send_proxy == target.send_proxy
    }

    /// Connects to it, for a client of the listener `port`; tries every address of its name within `timeout`.
    ///
    /// # Errors
    /// If none of them could be reached in time. Dropping the future abandons the attempt.
    pub async fn dial(&self, port: u16, timeout: Option<Duration>) -> Result<TcpStream, DialError> {
        let port = self.port.resolve(port);
        let connecting = async {
            match self.host.parse::<IpAddr>() {
                Ok(address) => connect(address, port).await,
                Err(_) => {
                    let mut outcome = Err(DialError::NoAddress);
                    for address in tokio::net::lookup_host((self.host.as_str(), port)).await.map_err(DialError::Io)? {
                        outcome = connect(address.ip(), port).await;
                        if outcome.is_ok() {
                            break;
                        }
                    }
                    outcome
                }
            }
        };
        match timeout {
            None => connecting.await,
            Some(timeout) => tokio::time::timeout(timeout, connecting).await.unwrap_or(Err(DialError::TimedOut)),
        }
    }
}

async fn connect(address: IpAddr, port: u16) -> Result<TcpStream, DialError> {
    let stream = TcpStream::connect((address, port)).await.map_err(DialError::Io)?;
    stream.set_nodelay(true).map_err(DialError::Io)?;
    Ok(stream)
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Ordering: see `in_flight`.
        self.backend.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(algorithm: Algorithm, count: u16) -> Cluster {
        let target = |port| Target { host: "127.0.0.1".into(), port: TargetPort::Fixed(port), send_proxy: None };
        Cluster::new(&Forward { algorithm, ..Forward::new((0..count).map(target).collect()) })
    }

    fn ports(cluster: &Cluster, client: &str) -> Vec<u16> {
        cluster.order(client.parse().unwrap()).map(|backend| backend.port.resolve(0)).collect()
    }

    #[test]
    fn every_order_has_every_backend_once() {
        for algorithm in [Algorithm::IpHash, Algorithm::LeastConnections, Algorithm::RoundRobin] {
            for count in 0..4 {
                let cluster = cluster(algorithm, count);
                for client in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
                    let mut order = ports(&cluster, client);
                    order.sort_unstable();
                    assert_eq!(order, (0..count).collect::<Vec<_>>(), "{algorithm:?}");
                }
            }
        }
    }

    #[test]
    fn the_first_one_is_by_the_algorithm() {
        let turns = cluster(Algorithm::RoundRobin, 3);
        let firsts: Vec<_> = (0..6).map(|_| ports(&turns, "192.0.2.1")[0]).collect();
        assert_eq!(firsts, [0, 1, 2, 0, 1, 2]);

        let hashed = cluster(Algorithm::IpHash, 3);
        let spread = (0..=255).map(|host| ports(&hashed, &format!("192.0.2.{host}"))[0]);
        assert_eq!(spread.collect::<std::collections::BTreeSet<_>>().len(), 3);
        assert_eq!(ports(&hashed, "192.0.2.1"), ports(&hashed, "192.0.2.1"));

        let least = cluster(Algorithm::LeastConnections, 3);
        let held = [least.backends[0].count(), least.backends[2].count()];
        for _ in 0..4 {
            assert_eq!(ports(&least, "192.0.2.1")[0], 1, "the only idle one");
        }
        drop(held);
        assert!(least.backends.iter().all(|backend| backend.in_flight() == 0));
        let firsts = (0..3).map(|_| ports(&least, "192.0.2.1")[0]);
        assert_eq!(firsts.collect::<std::collections::BTreeSet<_>>().len(), 3, "equals take turns");
    }
}
