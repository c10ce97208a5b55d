//! One configuration in force, and how workers learn of the next.

use crate::{Backend, Cluster};
use conn_tracker::ClientKey;
use ipnet::IpNet;
use proxy_route::{Action, IpSet, RouteTable, RoutedRoute, Settings};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// One configuration in force: immutable, shared by all workers.
#[derive(Debug)]
pub struct Generation {
    /// Settings of the process.
    pub settings: Settings,
    /// The routes.
    pub table: RouteTable,
    /// The backends of each route, by [`RoutedRoute::index`](proxy_route::RoutedRoute::index); `None` where it does not
    /// forward. Shared by all workers, so that in-flight counts are of the process.
    pub clusters: Vec<Option<Arc<Cluster>>>,
    /// Peers that name their clients in a PROXY header: `settings.accept_proxy.peers`.
    pub proxy_peers: IpSet,
    /// Peers whose users are limited per request: `settings.trusted_proxies`.
    pub balancers: IpSet,
    /// Whose connection attempts are never dropped in the kernel: they, those who are exempt, and every client that shares
    /// a key with one of them.
    spared: IpSet,
}

impl Generation {
    /// A configuration ready to be served.
    #[must_use]
    pub fn new(settings: Settings, table: RouteTable) -> Self {
        Self::with_backends(settings, table, |_| &[])
    }

    /// A configuration ready to take over from this one. A backend that is in both, of a route that keeps its id and
    /// speaks to its backends as before, stays the same one: with what is in flight, the connections kept to it, its
    /// health and the addresses of its name.
    #[must_use]
    pub fn successor(&self, settings: Settings, table: RouteTable) -> Self {
        let before: HashMap<_, _> = self.table.routes().iter().map(|route| (route.id, route)).collect();
        Self::with_backends(settings, table, |route| {
            let Some(old) = before.get(&route.id).filter(|old| speak_alike(old, route)) else { return &[] };
            self.clusters[old.index].as_ref().map_or(&[], |cluster| cluster.backends())
        })
    }

    fn with_backends<'a>(
        settings: Settings,
        table: RouteTable,
        known: impl Fn(&RoutedRoute) -> &'a [Arc<Backend>],
    ) -> Self {
        let cluster = |route: &Arc<RoutedRoute>| match &route.action {
            Action::Forward(forward) => Some(Arc::new(Cluster::with_known(&route.name, forward, known(route)))),
            Action::Block | Action::Redirect(_) | Action::Respond(_) => None,
        };
        let clusters = table.routes().iter().map(cluster).collect();
        let proxy_peers = settings.accept_proxy.peers.iter().copied().collect();
        let balancers = settings.trusted_proxies.iter().copied().collect();
        let spared = [&settings.exempt, &settings.accept_proxy.peers, &settings.trusted_proxies];
        let spared = spared.into_iter().flatten().copied().collect();
        Self { settings, table, clusters, proxy_peers, balancers, spared }
    }

    /// Whether some address of a client is exempt, or that of a peer which brings others.
    pub(crate) fn is_spared(&self, client: ClientKey) -> bool {
        let prefixes = self.settings.limits.prefixes;
        let length = match client {
            ClientKey::V4(_) => prefixes.v4(),
            ClientKey::V6(_) => prefixes.v6(),
        };
        self.spared.overlaps(IpNet::new(client.network(), length).expect("a prefix of its family"))
    }
}

/// Always the newest configuration.
#[derive(Clone, Debug)]
pub struct Live {
    newest: watch::Receiver<Arc<Generation>>,
    current: Arc<Generation>,
}

impl Live {
    /// Follows `newest`.
    #[must_use]
    pub fn new(mut newest: watch::Receiver<Arc<Generation>>) -> Self {
        let current = Arc::clone(&newest.borrow_and_update());
        Self { newest, current }
    }

    /// The newest configuration. Costs one shared load while nothing changed.
    pub fn current(&mut self) -> &Arc<Generation> {
        if self.newest.has_changed().unwrap_or(false) {
            self.current = Arc::clone(&self.newest.borrow_and_update());
        }
        &self.current
    }

    /// Whether there is a newer configuration than the one last seen.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.newest.has_changed().unwrap_or(false)
    }

    /// Waits until there is a newer configuration than the one last seen; for ever once there can be none.
    pub async fn changed(&mut self) {
        if self.newest.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.current = Arc::clone(&self.newest.borrow_and_update());
    }
}

/// Whether connections to a backend of one may serve the other.
fn speak_alike(old: &RoutedRoute, new: &RoutedRoute) -> bool {
    let (Action::Forward(before), Action::Forward(after)) = (&old.action, &new.action) else { return false };
    old.tls == new.tls && before.backend_protocol == after.backend_protocol && before.backend_tls == after.backend_tls
}

#[cfg(test)]
mod tests {
    use super::*;
    use conn_tracker::RouteId;
    use proxy_route::{BackendProtocol, Forward, Route, Target, TargetPort};

    fn table(key: u32, ports: &[u16], protocol: BackendProtocol) -> RouteTable {
        let target = |&port| Target::new("127.0.0.1", TargetPort::Fixed(port));
        let targets = ports.iter().map(target).collect();
        let forward = Forward { backend_protocol: protocol, ..Forward::new(targets) };
        let route = Route::new("a", Action::Forward(Box::new(forward)));
        RouteTable::new([(RouteId::new(key).unwrap(), route)]).unwrap()
    }

    #[test]
    fn backends_that_stay_keep_what_is_in_flight() {
        let first = Generation::new(Settings::default(), table(0, &[1, 2, 2], BackendProtocol::Auto));
        let backends = first.clusters[0].as_ref().unwrap().backends();
        let held = [backends[0].count(), backends[1].count()];
        for (route, ports, protocol, in_flight) in [
            (0, &[2, 3, 1][..], BackendProtocol::Auto, &[1, 0, 1][..]),
            (0, &[2, 2, 2], BackendProtocol::Auto, &[1, 0, 0]),
            (1, &[1, 2], BackendProtocol::Auto, &[0, 0]),
            (0, &[1, 2], BackendProtocol::Http2, &[0, 0]),
        ] {
            let next = first.successor(Settings::default(), table(route, ports, protocol));
            let counts = next.clusters[0].as_ref().unwrap().backends().iter().map(|backend| backend.in_flight());
            assert_eq!(counts.collect::<Vec<_>>(), in_flight, "{route} {ports:?} {protocol:?}");
        }
        drop(held);
    }
}
