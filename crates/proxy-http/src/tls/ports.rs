//! What TLS clients are offered, per port.

use super::certificate::{self, Loaded};
use super::choice::Choice;
use crate::{TlsError, TlsShared};
use proxy_route::{DomainPattern, RouteTable, RoutedRoute, Settings, TlsSettings, TlsVersion};
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, SupportedProtocolVersion};
use std::collections::HashMap;
use std::sync::Arc;

/// What TLS clients are offered on each port of one configuration. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct TlsPorts {
    configs: Arc<HashMap<u16, Offered>>,
}

/// What TLS clients of one port are offered.
#[derive(Debug)]
struct Offered {
    config: Arc<ServerConfig>,
    choice: Arc<Choice>,
}

impl TlsPorts {
    /// Reads every certificate of the routes that end TLS, and those of the settings.
    ///
    /// The certificates of a port are those of its routes, then those of the settings. A client gets the one for its
    /// name, else the one whose wildcard has its name, else the first.
    ///
    /// # Errors
    /// The first certificate, key or setting that cannot be used, as a sentence that names it and says what to do.
    pub fn new(settings: &Settings, table: &RouteTable, shared: &TlsShared) -> Result<Self, TlsError> {
        let mut configs = HashMap::new();
        if !table.ports().any(|(_, routes)| routes.terminates_tls()) {
            return Ok(Self { configs: Arc::new(configs) });
        }
        let offer = Offer::new(&settings.tls)?;
        let general = general(&settings.tls, shared)?;
        let mut own: HashMap<usize, Loaded> = HashMap::new();
        for (port, routes) in table.ports().filter(|(_, routes)| routes.terminates_tls()) {
            for route in routes.terminating() {
                if let (Some(loaded), false) = (of_route(route, shared), own.contains_key(&route.index)) {
                    own.insert(route.index, loaded?);
                }
            }
            let certificates = routes.terminating().filter_map(|route| own.get(&route.index)).chain(&general);
            let Some(choice) = Choice::new(certificates) else {
                let names: Vec<_> = routes.terminating().map(|route| route.name.as_str()).collect();
                return Err(TlsError::new(format!(
                    "port {port} ends TLS for {names:?} but has no certificate; give one of them \
                     action.tls.certificate, or add one to tls.certificates"
                )));
            };
            let choice = Arc::new(choice);
            configs.insert(port, Offered { config: Arc::new(offer.config(&choice, shared)?), choice });
        }
        Ok(Self { configs: Arc::new(configs) })
    }

    /// What clients of `port` are offered; `None` where no route ends TLS.
    #[must_use]
    pub fn config(&self, port: u16) -> Option<&Arc<ServerConfig>> {
        self.configs.get(&port).map(|offered| &offered.config)
    }

    /// Whether clients of `port` that ask for the one name or the other are shown the same certificate, so that what is
    /// meant for the one may be asked on a connection for the other.
    pub(crate) fn are_alike(&self, port: u16, one: &str, other: &str) -> bool {
        let chosen = |choice: &Choice, name| Arc::as_ptr(choice.by_name(Some(name)));
        self.configs.get(&port).is_some_and(|offered| chosen(&offered.choice, one) == chosen(&offered.choice, other))
    }
}

fn general(settings: &TlsSettings, shared: &TlsShared) -> Result<Vec<Loaded>, TlsError> {
    let load = |(index, certificate)| {
        certificate::load(certificate, &[], &format_args!("tls.certificates[{index}]"), &shared.provider)
    };
    settings.certificates.iter().enumerate().map(load).collect()
}

fn of_route(route: &RoutedRoute, shared: &TlsShared) -> Option<Result<Loaded, TlsError>> {
    let certificate = route.certificate.as_ref()?;
    // A route for any name says nothing about the names of its certificate.
    let any = route.matching.domains.contains(&DomainPattern::Any);
    let domains: Vec<_> = match any {
        true => Vec::new(),
        false => route.matching.domains.iter().map(ToString::to_string).collect(),
    };
    Some(certificate::load(certificate, &domains, &format_args!("route {:?}", route.name), &shared.provider))
}

/// What is the same on all ports.
struct Offer {
    versions: &'static [&'static SupportedProtocolVersion],
    alpn: Vec<Vec<u8>>,
}

impl Offer {
    fn new(settings: &TlsSettings) -> Result<Self, TlsError> {
        let versions = match settings.min_version {
            TlsVersion::V1_3 => ONLY_1_3,
            TlsVersion::V1_2 => SINCE_1_2,
            TlsVersion::V1_0 | TlsVersion::V1_1 => {
                return Err(TlsError::new(
                    "tls.minVersion: TLS 1.0 and 1.1 can be passed through but not ended here; use \"TLSv1.2\"",
                ));
            }
        };
        if let Some(other) = settings.alpn.iter().find(|name| !matches!(name.as_str(), "h2" | "http/1.1")) {
            return Err(TlsError::new(format!("tls.alpn: {other:?} is not spoken here; use \"h2\" and \"http/1.1\"")));
        }
        Ok(Self { versions, alpn: settings.alpn.iter().map(|name| name.clone().into_bytes()).collect() })
    }

    fn config(&self, choice: &Arc<Choice>, shared: &TlsShared) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&shared.provider))
            .with_protocol_versions(self.versions)
            .map_err(|error| TlsError::new(format!("tls.minVersion cannot be offered: {error}")))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(choice) as _);
        config.alpn_protocols.clone_from(&self.alpn);
        // Tickets keep the state with the client: a cache here would cost memory per client and forget at each reload.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::clone(&shared.ticketer);
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        Ok(config)
    }
}

const ONLY_1_3: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
const SINCE_1_2: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
