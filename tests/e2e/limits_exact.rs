//! One limit per client, thousands of simultaneous attempts: exactly as many as allowed, on every path together.

use crate::support::backend::Backend;
use crate::support::client::{Attempt, hold_https, hold_tls_echo, in_time};
use crate::support::leftovers::Baseline;
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{admin, alone, certs, eventually, on_eight_threads};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio_rustls::client::TlsStream;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const ATTEMPTS: usize = 3_000;

/// One port: `pass.test` is passed through to an echo, `end.test` ends here.
struct Both {
    proxy: Proxy,
    address: SocketAddr,
    echo: Backend,
    http: Backend,
}

impl Both {
    async fn start(settings: &str) -> Self {
        let (echo, http) = (Backend::tls_echo().await, Backend::http().await);
        let port = free_port();
        let proxy = Proxy::start(&format!(
            "bind: [\"127.0.0.1\"]
{settings}
routes:
  - name: pass
    match: {{ ports: {port}, domains: pass.test }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}], tls: {{ mode: passthrough }} }}
  - name: end
    match: {{ ports: {port}, domains: end.test }}
    action:
      type: forward
      targets: [{{ host: 127.0.0.1, port: {} }}]
      tls: {{ mode: terminate, certificate: {} }}
",
            echo.port(),
            http.port(),
            certs::inline(),
        ));
        Self { proxy, address: SocketAddr::new(CLIENT, port), echo, http }
    }

    /// So many attempts at once; those that were served.
    async fn storm(&self, path: Path, attempts: usize) -> Vec<TlsStream<TcpStream>> {
        let start = Arc::new(Barrier::new(attempts));
        let address = self.address;
        let tasks: Vec<_> = (0..attempts)
            .map(|_| {
                let start = Arc::clone(&start);
                tokio::spawn(async move {
                    start.wait().await;
                    Attempt::from(in_time("an attempt", path.attempt(address)).await).held()
                })
            })
            .collect();
        let mut held = Vec::new();
        for task in tasks {
            held.extend(task.await.expect("an attempt is served or refused"));
        }
        held
    }

    fn served_by(&self, path: Path) -> usize {
        match path {
            Path::Passthrough => self.echo.connected(),
            Path::Terminated => self.http.holding(),
        }
    }

    fn active(&self) -> u64 {
        admin::active(self.proxy.admin, "client", None)
    }

    fn refused(&self) -> u64 {
        admin::refused(self.proxy.admin, "client", None, "client_limit")
    }

    async fn empty(&self) {
        eventually("every slot is free", Duration::from_secs(20), || match self.active() {
            0 => Ok(()),
            active => Err(format!("{active} are held")),
        })
        .await;
    }

    /// Lets backend connections that the proxy keeps go, then wants everything back.
    async fn assert_nothing_left(self, baseline: &Baseline) {
        let Self { proxy, echo, http, .. } = self;
        drop((echo, http));
        baseline.assert_restored(&proxy).await;
    }
}

#[derive(Clone, Copy, Debug)]
enum Path {
    Passthrough,
    Terminated,
}

impl Path {
    async fn attempt(self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        match self {
            Self::Passthrough => hold_tls_echo(CLIENT, address, "pass.test").await,
            Self::Terminated => hold_https(CLIENT, address, "end.test").await,
        }
    }
}

#[test]
fn pitfall_28_exactly_100_of_3000_on_each_path_and_on_both_together() {
    on_eight_threads(async {
        let _alone = alone().await;
        let both = Both::start("maxConnectionsPerIP: 100\nconnectionRateLimitPerMinute: 0").await;
        let baseline = Baseline::of(&both.proxy).await;
        for round in 0..5 {
            for path in [Path::Passthrough, Path::Terminated] {
                let before = both.refused();
                let held = both.storm(path, ATTEMPTS).await;
                assert_eq!(held.len(), 100, "{path:?}, round {round}: at the client");
                assert_eq!(both.served_by(path), 100, "{path:?}, round {round}: at the backend");
                assert_eq!(both.active(), 100, "{path:?}, round {round}: at the proxy");
                assert_eq!(both.refused() - before, (ATTEMPTS - 100) as u64, "{path:?}, round {round}: refusals");
                drop(held);
                both.empty().await;
            }
            for (first, second) in [(Path::Passthrough, Path::Terminated), (Path::Terminated, Path::Passthrough)] {
                let half = both.storm(first, 50).await;
                assert_eq!(half.len(), 50, "{first:?} first, round {round}");
                let rest = both.storm(second, 500).await;
                assert_eq!(rest.len(), 50, "{second:?} on top of {first:?}, round {round}");
                assert_eq!(both.served_by(first) + both.served_by(second), 100);
                assert_eq!(both.active(), 100);
                drop((half, rest));
                both.empty().await;
            }
        }
        both.assert_nothing_left(&baseline).await;
    });
}

#[test]
fn pitfall_18_the_defaults_allow_100_of_a_client() {
    on_eight_threads(async {
        let _alone = alone().await;
        let both = Both::start("").await;
        let baseline = Baseline::of(&both.proxy).await;
        let held = both.storm(Path::Passthrough, ATTEMPTS).await;
        assert_eq!((held.len(), both.echo.connected(), both.active()), (100, 100, 100));
        drop(held);
        both.empty().await;
        let half = both.storm(Path::Terminated, 50).await;
        let rest = both.storm(Path::Passthrough, 500).await;
        assert_eq!((half.len(), rest.len(), both.active()), (50, 50, 100));
        drop((half, rest));
        both.assert_nothing_left(&baseline).await;
    });
}
