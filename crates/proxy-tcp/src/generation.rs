//! One configuration in force, and how workers learn of the next.

use crate::Cluster;
use proxy_route::{Action, IpSet, RouteTable, Settings};
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
}

impl Generation {
    /// A configuration ready to be served.
    #[must_use]
    pub fn new(settings: Settings, table: RouteTable) -> Self {
        let cluster = |action: &Action| match action {
            Action::Forward(forward) => Some(Arc::new(Cluster::new(forward))),
            Action::Block | Action::Redirect(_) | Action::Respond(_) => None,
        };
        let clusters = table.routes().iter().map(|route| cluster(&route.action)).collect();
        let proxy_peers = settings.accept_proxy.peers.iter().copied().collect();
        let balancers = settings.trusted_proxies.iter().copied().collect();
        Self { settings, table, clusters, proxy_peers, balancers }
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
