//! What TLS clients are offered, per port.

use super::certificate::{self, Loaded};
use super::choice::Choice;
use crate::{Handshakes, TlsError, TlsShared};
use proxy_route::{ClientAuth, DomainPattern, PortRoutes, RouteTable, RoutedRoute, Settings, TlsSettings, TlsVersion};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ConfigBuilder, ServerConfig, SupportedProtocolVersion, WantsVerifier};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;

/// What TLS clients are offered on each port of one configuration. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct TlsPorts {
    configs: Arc<HashMap<u16, Offered>>,
    handshakes: Arc<Handshakes>,
}

/// What the clients of one port are offered.
#[derive(Debug)]
struct Offered {
    /// Those that are not asked for a certificate.
    plain: Arc<ServerConfig>,
    /// Those that are, by the roots it has to come from and whether there has to be one.
    asking: HashMap<(PathBuf, bool), Arc<ServerConfig>>,
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
            return Ok(Self { configs: Arc::new(configs), handshakes: Arc::clone(&shared.handshakes) });
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
            let mut asking = HashMap::new();
            for route in routes.terminating() {
                let Some(auth) = &route.client_auth else { continue };
                for mandatory in [false, true] {
                    if let Entry::Vacant(place) = asking.entry((auth.ca.clone(), mandatory)) {
                        let verifier = verifier(auth, mandatory, shared)
                            .map_err(|problem| TlsError::new(format!("route {:?}: {problem}", route.name)))?;
                        place.insert(Arc::new(offer.asking(Arc::clone(&choice), verifier, shared)?));
                    }
                }
            }
            configs
                .insert(port, Offered { plain: Arc::new(offer.plain(Arc::clone(&choice), shared)?), asking, choice });
        }
        Ok(Self { configs: Arc::new(configs), handshakes: Arc::clone(&shared.handshakes) })
    }

    /// What clients of `port` are offered that show no certificate; `None` where no route ends TLS.
    #[must_use]
    pub fn config(&self, port: u16) -> Option<&Arc<ServerConfig>> {
        self.configs.get(&port).map(|offered| &offered.plain)
    }

    /// What a client of `port` is offered that asks for `name`, where `routes` are those of the port; and the roots that
    /// its certificate has to come from, if it is asked for one.
    pub(crate) fn by_name(
        &self,
        port: u16,
        routes: &PortRoutes,
        name: Option<&str>,
    ) -> Option<(Arc<ServerConfig>, Option<PathBuf>)> {
        let offered = self.configs.get(&port)?;
        let Some((auth, mandatory)) = routes.client_auth(name) else {
            return Some((Arc::clone(&offered.plain), None));
        };
        let config = offered.asking.get(&(auth.ca.clone(), mandatory))?;
        Some((Arc::clone(config), Some(auth.ca.clone())))
    }

    /// Who may shake hands, in all of the process.
    pub(crate) fn handshakes(&self) -> &Arc<Handshakes> {
        &self.handshakes
    }

    /// Whether a client of `port` that asked for `one` was shown a certificate that is good for `other` as well, so that
    /// what is meant for the other may be asked on its connection.
    pub(crate) fn are_alike(&self, port: u16, one: &str, other: &str) -> bool {
        self.configs.get(&port).is_some_and(|offered| {
            let (shown, wanted) = (offered.choice.by_name(Some(one)), offered.choice.by_name(Some(other)));
            shown.cert.first() == wanted.cert.first() || certificate::covers(shown, other)
        })
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

    fn plain(&self, choice: Arc<Choice>, shared: &TlsShared) -> Result<ServerConfig, TlsError> {
        let mut config = self.begin(shared)?.with_no_client_auth().with_cert_resolver(choice);
        self.finish(&mut config);
        config.ticketer = Arc::clone(&shared.ticketer);
        config.send_tls13_tickets = 1;
        Ok(config)
    }

    /// Without tickets: who resumes a session shows no certificate, so one that is taken back would go on to count.
    fn asking(
        &self,
        choice: Arc<Choice>,
        verifier: Arc<dyn ClientCertVerifier>,
        shared: &TlsShared,
    ) -> Result<ServerConfig, TlsError> {
        let mut config = self.begin(shared)?.with_client_cert_verifier(verifier).with_cert_resolver(choice);
        self.finish(&mut config);
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn begin(&self, shared: &TlsShared) -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, TlsError> {
        ServerConfig::builder_with_provider(Arc::clone(&shared.provider))
            .with_protocol_versions(self.versions)
            .map_err(|error| TlsError::new(format!("tls.minVersion cannot be offered: {error}")))
    }

    fn finish(&self, config: &mut ServerConfig) {
        config.alpn_protocols.clone_from(&self.alpn);
        // Tickets keep the state with the client: a cache here would cost memory per client and forget at each reload.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
    }
}

/// Judges the certificates of clients.
fn verifier(auth: &ClientAuth, mandatory: bool, shared: &TlsShared) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let roots = certificate::roots_in(&auth.ca)
        .map_err(|problem| format!("tls.clientAuth.ca {} cannot be used: {problem}", auth.ca.display()))?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&shared.provider));
    let builder = if mandatory { builder } else { builder.allow_unauthenticated() };
    let verifier = builder.build();
    verifier.map_err(|error| format!("tls.clientAuth.ca {} cannot be used: {error}", auth.ca.display()))
}

const ONLY_1_3: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];
const SINCE_1_2: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
