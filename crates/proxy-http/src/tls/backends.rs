//! How backends are spoken to in TLS, per route.

use super::certificate;
use super::unverified::Unverified;
use crate::{TlsError, TlsShared};
use proxy_route::{Action, BackendProtocol, Forward, Host, RouteTable, RoutedRoute, TlsMode};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How the backends of each route that encrypts again are spoken to. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct TlsBackends {
    /// By index of the route; `None` where it does not encrypt again.
    routes: Arc<[Option<RouteTls>]>,
}

/// How the backends of one route are spoken to.
#[derive(Clone, Debug)]
pub(crate) struct RouteTls {
    configs: Configs,
    name: Option<ServerName<'static>>,
}

/// One way to verify, with its sessions.
#[derive(Clone, Debug)]
struct Configs {
    /// Offers what the route speaks.
    offering: Arc<ClientConfig>,
    /// Offers HTTP/1.1 alone.
    http1: Arc<ClientConfig>,
}

impl TlsBackends {
    /// Reads the roots that the routes of `table` trust. Routes that verify alike share sessions.
    ///
    /// # Errors
    /// The first root file or name that cannot be used, as a sentence that names it and says what to do.
    pub fn new(table: &RouteTable, shared: &TlsShared) -> Result<Self, TlsError> {
        let mut known = HashMap::new();
        let routes: Result<Vec<_>, _> =
            table.routes().iter().map(|route| of_route(route, shared, &mut known)).collect();
        Ok(Self { routes: routes?.into() })
    }

    /// How the backends of `route`, of the same table, are spoken to; `None` is in plain.
    pub(crate) fn route(&self, route: &RoutedRoute) -> Option<&RouteTls> {
        self.routes.get(route.index)?.as_ref()
    }
}

impl RouteTls {
    /// What to offer a backend, `http1` alone or all that the route speaks.
    pub(crate) fn config(&self, http1: bool) -> &Arc<ClientConfig> {
        if http1 { &self.configs.http1 } else { &self.configs.offering }
    }

    /// The name to ask for and verify; `None` if `host` cannot be one.
    pub(crate) fn name(&self, host: &Host) -> Option<ServerName<'static>> {
        self.name.clone().or_else(|| ServerName::try_from(host.name()?).ok())
    }
}

/// What a client configuration depends on.
type Key = (Trust, Protocols);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Trust {
    System,
    File(PathBuf),
    Anybody,
}

type Protocols = &'static [&'static str];

fn of_route(
    route: &RoutedRoute,
    shared: &TlsShared,
    known: &mut HashMap<Key, Configs>,
) -> Result<Option<RouteTls>, TlsError> {
    let (Some(TlsMode::TerminateAndReencrypt), Action::Forward(forward)) = (route.tls, &route.action) else {
        return Ok(None);
    };
    let error = |problem: String| TlsError::new(format!("route {:?}: {problem}", route.name));
    let name = forward.backend_tls.server_name.as_ref();
    let name = name.map(|name| {
        let parsed = ServerName::try_from(name.clone());
        parsed.map_err(|_| error(format!("backendTls.serverName {name:?} is neither a host name nor an address")))
    });
    let name = name.transpose()?;
    if name.is_none() {
        for target in &forward.targets {
            let name = target.host.name().filter(|name| ServerName::try_from(name.as_str()).is_ok());
            name.ok_or_else(|| {
                let host = target.host.to_string();
                error(format!("no certificate can be for the host {host:?}; give backendTls.serverName"))
            })?;
        }
    }
    let key = (trust(forward), protocols(forward.backend_protocol));
    let configs = match known.get(&key) {
        Some(configs) => configs.clone(),
        None => {
            let configs = Configs::new(&key, shared).map_err(error)?;
            known.insert(key, configs.clone());
            configs
        }
    };
    Ok(Some(RouteTls { configs, name }))
}

fn trust(forward: &Forward) -> Trust {
    match &forward.backend_tls {
        tls if tls.insecure_skip_verify => Trust::Anybody,
        tls => tls.ca.clone().map_or(Trust::System, Trust::File),
    }
}

fn protocols(protocol: BackendProtocol) -> Protocols {
    match protocol {
        BackendProtocol::Auto => &["h2", "http/1.1"],
        BackendProtocol::Http1 => &["http/1.1"],
        BackendProtocol::Http2 => &["h2"],
    }
}

impl Configs {
    fn new((trust, protocols): &Key, shared: &TlsShared) -> Result<Self, String> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&shared.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match trust {
            Trust::System => builder.with_root_certificates(shared.native_roots().map_err(|error| error.to_string())?),
            Trust::File(path) => builder.with_root_certificates(roots(path)?),
            Trust::Anybody => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified::new(Arc::clone(&shared.provider)))),
        };
        let mut offering = builder.with_no_client_auth();
        let mut http1 = offering.clone();
        offering.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { offering: Arc::new(offering), http1: Arc::new(http1) })
    }
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    certificate::roots_in(path).map_err(|problem| format!("backendTls.ca {} cannot be used: {problem}", path.display()))
}
