//! One route.

use super::action::{ActionKeys, action};
use super::headers;
use super::matching::{MatchKeys, matching};
use super::security::{SecurityKeys, bytes, security};
use super::settings::Defaults;
use crate::cursor::Cursor;
use crate::tree::Value;
use crate::value::{boolean, integer, name};
use proxy_route::{
    Action, BackendProtocol, BackendTls, Certificate, DomainPattern, Protocol, Route, TlsMode, TlsVersion,
};

/// A route and where it is written, for what can only be seen beside the others.
pub(crate) struct Placed<'a> {
    pub(crate) route: Route,
    pub(crate) enabled: bool,
    /// Whether what it matches and does is right.
    pub(crate) right: bool,
    pub(crate) at: Cursor<'a>,
    pub(crate) name: Option<Cursor<'a>>,
    pub(crate) id: Option<Cursor<'a>>,
    pub(crate) ports: Option<Cursor<'a>>,
}

pub(crate) fn route<'a>(at: &Cursor<'a>, defaults: &Defaults) -> Option<Placed<'a>> {
    let table = at.table()?;
    let name_at = table.require("name", "a name that no other route has");
    let id_at = table.take("id");
    let mut route = Route::new(name_at.as_ref().and_then(name).unwrap_or_default(), Action::Block);
    route.id = id_at.as_ref().and_then(name);
    let mut enabled = true;
    table.read("enabled", boolean, &mut enabled);
    table.read("enforce", boolean, &mut route.enforce);
    table.read("priority", |at| integer(at, i64::from(i32::MIN)..=i64::from(i32::MAX)), &mut route.priority);
    table.read("headers", headers::rules, &mut route.headers);
    let security_at = table.take("security");
    let keys: SecurityKeys = security_at.as_ref().and_then(|at| security(at, true)).unwrap_or_default();
    route.security = keys.for_route(&defaults.security);
    let before = at.sink.errors();
    let matching = table.require("match", "at least {ports}").and_then(|at| matching(&at));
    let action = table.require("action", "at least {type}").and_then(|at| action(&at, defaults));
    let mut right = false;
    let ports = matching.as_ref().and_then(|keys| keys.table.take("ports"));
    if let (Some(matching), Some(action)) = (matching, action) {
        Joining { matching: &matching, action: &action, headers: table.key("headers"), defaults }.join(&mut route);
        route.matching = matching.matching;
        route.action = action.action;
        if route.protocol == Protocol::Tcp {
            let place = name_at.as_ref().unwrap_or(at);
            bytes(&mut route.security, security_at.as_ref(), place, bytes_help(route.tls));
        }
        right = at.sink.errors() == before;
    }
    table.unsupported(&["challenge", "timeout", "udp"]);
    table.finish();
    Some(Placed { route, enabled, right, at: at.clone(), name: name_at, id: id_at, ports })
}

/// What to do about a key that needs requests, on a route that has none.
fn bytes_help(tls: Option<TlsMode>) -> &'static str {
    match tls {
        Some(_) => "remove it, or terminate TLS",
        None => "remove it, or write \"protocol\": \"http\"",
    }
}

/// The same of a key that needs bytes, on a route that has requests.
fn requests_help(tls: Option<TlsMode>) -> &'static str {
    match tls {
        Some(_) => "remove it, or pass TLS through",
        None => "remove it, or write \"protocol\": \"tcp\"",
    }
}

/// The parts of a route, for what follows from them together.
struct Joining<'b, 'a> {
    matching: &'b MatchKeys<'a>,
    action: &'b ActionKeys<'a>,
    headers: Option<Cursor<'a>>,
    defaults: &'b Defaults,
}

impl Joining<'_, '_> {
    fn join(&self, route: &mut Route) {
        if !self.mode(route) {
            return;
        }
        route.protocol = self.protocol(route.tls);
        self.certificate(route);
        self.versions(route.tls);
        if route.protocol == Protocol::Tcp {
            self.bytes(route.tls);
        }
        self.backend(route.tls, route.protocol);
    }

    /// The TLS mode. `false`: it is missing, so nothing else can be said.
    fn mode(&self, route: &mut Route) -> bool {
        route.tls = self.action.tls.mode;
        match self.action.table.take("tls") {
            Some(at) if route.tls.is_none() && !at.is_none() => {
                at.error_help("\"mode\" is missing", "add \"mode\": passthrough, terminate or terminate-and-reencrypt");
                false
            }
            _ => true,
        }
    }

    fn protocol(&self, tls: Option<TlsMode>) -> Protocol {
        let domains = &self.matching.matching.domains;
        let forwards = matches!(self.action.action, Action::Forward(_));
        // By what is written, not by what was understood: a slip in a path does not make the route one of bytes.
        let by_request = !forwards || ["domains", "path", "headers"].into_iter().any(|key| self.matches_on(key));
        let natural = match tls {
            Some(TlsMode::Passthrough) => Protocol::Tcp,
            Some(_) => Protocol::Http,
            None if by_request => Protocol::Http,
            None => Protocol::Tcp,
        };
        let (Some(given), Some(at)) = (self.matching.protocol, self.matching.table.take("protocol")) else {
            return natural;
        };
        match (tls, given) {
            (Some(TlsMode::Passthrough), Protocol::Http) => at.error_help(
                "what is passed through is not looked into, so it is no http",
                "write \"tcp\", or terminate TLS",
            ),
            (Some(TlsMode::Terminate | TlsMode::TerminateAndReencrypt), Protocol::Tcp) => {
                at.error_help("terminating TLS for tcp is not supported yet", "write \"http\", or use \"passthrough\"");
            }
            (None, Protocol::Tcp) if !domains.is_empty() => {
                if let Some(at) = self.matching.table.key("domains") {
                    at.error_help(
                        "plain tcp has no names: \"domains\" needs tls.mode: passthrough",
                        "add \"tls\": {\"mode\": \"passthrough\"} to the action, or remove \"domains\"",
                    );
                }
            }
            _ => {}
        }
        given
    }

    fn matches_on(&self, key: &'static str) -> bool {
        match self.matching.table.take(key).map(|at| &at.node.value) {
            None => false,
            Some(Value::List(items)) => !items.is_empty(),
            Some(Value::Table(entries)) => !entries.is_empty(),
            Some(_) => true,
        }
    }

    fn certificate(&self, route: &mut Route) {
        let terminates = route.tls.is_some_and(TlsMode::terminates);
        let own = &self.action.tls.certificate;
        if terminates && own.is_none() && !self.defaults.certificates {
            let at = self.action.table.take("tls").unwrap_or_else(|| self.action.table.cursor.clone());
            at.error_help(
                "there is no certificate to terminate TLS with",
                "add \"certificate\" here or in defaults.tls, or \"certificates\" to the top-level \"tls\"",
            );
        }
        let tls_key = |key| self.action.table.take("tls").filter(|at| !at.is_none())?.table()?.key(key);
        if !terminates && let Some(at) = tls_key("certificate") {
            at.error_help("what is passed through needs no certificate", "remove it, or terminate TLS");
        }
        if !terminates && let Some(at) = tls_key("clientAuth").filter(|at| !at.is_none()) {
            at.error_help(
                "what is passed through is not looked into, so no client can show a certificate",
                "remove it, or terminate TLS",
            );
        }
        route.client_auth = self.action.tls.client_auth.clone().flatten().filter(|_| terminates);
        route.certificate = own.clone().filter(|_| terminates).map(|own| self.named(own));
    }

    /// A route's own certificate is for the route's names.
    fn named(&self, certificate: Certificate) -> Certificate {
        let domains = &self.matching.matching.domains;
        let any = domains.contains(&DomainPattern::Any);
        let domains = if any { Vec::new() } else { domains.iter().map(ToString::to_string).collect() };
        Certificate { domains, ..certificate }
    }

    fn versions(&self, tls: Option<TlsMode>) {
        let versions = &self.matching.matching.tls_versions;
        let Some(at) = self.matching.table.take("tlsVersion").filter(|_| !versions.is_empty()) else { return };
        match tls {
            None => at.error_help("a route without TLS has no TLS version", "remove it, or add \"tls\" to the action"),
            Some(mode) if mode.terminates() && versions.iter().all(|&version| version < TlsVersion::V1_2) => {
                at.error_help("TLS before 1.2 can be passed through, but not terminated", "add \"TLSv1.2\"");
            }
            Some(_) => {}
        }
    }

    /// What needs requests, on a route that has none.
    fn bytes(&self, tls: Option<TlsMode>) {
        let help = bytes_help(tls);
        let keys = ["path", "headers"].map(|key| (key, self.matching.table.key(key)));
        for (key, at) in keys.into_iter().chain([("headers", self.headers.clone())]) {
            if let Some(at) = at {
                at.error_help(format!("{key:?} is about requests, and this route carries bytes"), help);
            }
        }
        let answers = match self.action.action {
            Action::Redirect(_) | Action::Respond(_) => self.action.table.take("type"),
            Action::Block | Action::Forward(_) => None,
        };
        if let Some(at) = answers {
            at.error_help(
                "only http can be answered, and this route carries bytes",
                help.replace("remove it", "use \"block\""),
            );
        }
    }

    /// Settings of the backend's side that would do nothing.
    fn backend(&self, tls: Option<TlsMode>, protocol: Protocol) {
        let Action::Forward(forward) = &self.action.action else { return };
        let key = |key| self.action.table.key(key);
        if forward.backend_tls != BackendTls::default()
            && tls != Some(TlsMode::TerminateAndReencrypt)
            && let Some(at) = key("backendTls")
        {
            at.error_help(
                "the backend is not spoken to in TLS by this route",
                "set tls.mode to \"terminate-and-reencrypt\", or remove it",
            );
        }
        if protocol == Protocol::Http {
            if !forward.half_close
                && let Some(at) = key("halfClose")
            {
                at.error_help(
                    "this route carries requests, which say by themselves where they end",
                    requests_help(tls),
                );
            }
            return;
        }
        if forward.health_check.as_ref().is_some_and(|check| check.path.is_some())
            && let Some(at) = key("loadBalancing").and_then(|at| at.key_of("healthCheck")?.key_of("path"))
        {
            at.error_help(
                "this route carries bytes, so its backends cannot be asked for a path",
                "remove it: without a path a check connects and nothing more",
            );
        }
        if !forward.websocket
            && let Some(at) = key("websocket")
        {
            at.error_help("this route carries bytes, so upgrades cannot be refused", "remove it");
        }
        if forward.backend_protocol != BackendProtocol::Auto
            && let Some(at) = key("backendProtocol")
        {
            at.error_help("this route carries bytes, whatever the protocol", "remove it");
        }
    }
}
