//! What a route does.

use super::headers;
use super::settings::Defaults;
use super::tls::{TlsKeys, tls_keys};
use crate::cursor::{Cursor, Table, did_you_mean, nearest, quoted};
use crate::tree::Value;
use crate::value::{boolean, choice, file, integer, port, send_proxy, string};
use proxy_route::{
    Action, Algorithm, BackendProtocol, BackendTls, Forward, ProxyVersion, Redirect, Respond, Target, TargetPort,
};

/// What an `action` says, and where.
pub(crate) struct ActionKeys<'a> {
    pub(crate) action: Action,
    pub(crate) tls: TlsKeys,
    pub(crate) table: Table<'a>,
}

/// What a target says; what it does not say is `None`.
#[derive(Clone, Default)]
pub(crate) struct TargetKeys {
    hosts: Option<Vec<String>>,
    port: Option<TargetPort>,
    send_proxy: Option<Option<ProxyVersion>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Block,
    Forward,
    Redirect,
    Static,
}

/// The `action` of a route; `None` if its type or its TLS is wrong.
pub(crate) fn action<'a>(at: &Cursor<'a>, defaults: &Defaults) -> Option<ActionKeys<'a>> {
    let table = at.table()?;
    let kinds =
        [("forward", Kind::Forward), ("redirect", Kind::Redirect), ("block", Kind::Block), ("static", Kind::Static)];
    let kind = table.require("type", "forward, redirect, block or static");
    let kind = kind.and_then(|at| choice(&at, &kinds, &["socket-handler"]));
    let tls = match table.take("tls") {
        // Says that the TLS of the defaults is not meant here.
        Some(tls) if tls.is_none() => Some(TlsKeys::default()),
        Some(tls) => tls_keys(&tls).map(|keys| keys.or(&defaults.tls)),
        None => Some(defaults.tls.clone()),
    };
    let forwarding = forward(&table, defaults, kind == Some(Kind::Forward));
    let redirect = table.get("redirect", redirect);
    let respond = table.get("static", respond);
    table.unsupported(&[
        "advanced",
        "options",
        "forwardingEngine",
        "nftables",
        "security",
        "socketHandler",
        "datagramHandler",
        "udp",
    ]);
    table.finish();
    only(&table, kind, Kind::Forward, "forward", FORWARDING);
    only(&table, kind, Kind::Redirect, "redirect", &["redirect"]);
    only(&table, kind, Kind::Static, "static", &["static"]);
    // What is wrong is reported and leaves something of its kind, so that the rest of the route can be judged.
    let action = match kind? {
        Kind::Block => Action::Block,
        Kind::Forward => Action::Forward(Box::new(forwarding)),
        Kind::Redirect => {
            table.require("redirect", "{to, status}");
            Action::Redirect(redirect.unwrap_or_else(|| Redirect { to: String::new(), status: 308 }))
        }
        Kind::Static => {
            table.require("static", "{status, headers, body}");
            let empty = || Respond { status: 200, headers: Vec::new(), body: String::new() };
            Action::Respond(respond.unwrap_or_else(empty))
        }
    };
    Some(ActionKeys { action, tls: tls?, table })
}

/// The keys that mean something for forwarding only.
const FORWARDING: &[&str] =
    &["targets", "target", "loadBalancing", "websocket", "backendTls", "backendProtocol", "sendProxyProtocol"];

fn only(table: &Table<'_>, kind: Option<Kind>, wanted: Kind, name: &str, keys: &[&str]) {
    if kind.is_none_or(|kind| kind == wanted) {
        return;
    }
    for key in keys {
        if let Some(at) = table.key(key) {
            at.error_help(format!("{key:?} is for actions of type {name:?}"), "remove it, or change the type");
        }
    }
}

fn forward(table: &Table<'_>, defaults: &Defaults, wanted: bool) -> Forward {
    let own_proxy = table.get("sendProxyProtocol", send_proxy);
    let listed = table.take_renamed("targets", "target");
    let mut forward = Forward::new(Vec::new());
    if let Some(balancing) = table.take("loadBalancing").and_then(|at| at.table()) {
        let algorithms = [
            ("round-robin", Algorithm::RoundRobin),
            ("least-connections", Algorithm::LeastConnections),
            ("ip-hash", Algorithm::IpHash),
        ];
        balancing.read("algorithm", |at| choice(at, &algorithms, &[]), &mut forward.algorithm);
        balancing.unsupported(&["healthCheck"]);
        balancing.finish();
    }
    if let Some(websocket) = table.take("websocket").and_then(|at| at.table()) {
        websocket.read("enabled", boolean, &mut forward.websocket);
        websocket.unsupported(&[
            "pingInterval",
            "pingTimeout",
            "maxPayloadSize",
            "customHeaders",
            "subprotocols",
            "pathRewrite",
            "rewritePath",
            "allowedOrigins",
        ]);
        websocket.finish();
    }
    table.read("backendTls", backend_tls, &mut forward.backend_tls);
    let protocols =
        [("auto", BackendProtocol::Auto), ("http1", BackendProtocol::Http1), ("http2", BackendProtocol::Http2)];
    table.read("backendProtocol", |at| choice(at, &protocols, &["http3"]), &mut forward.backend_protocol);
    let merge = Merge { target: &defaults.target, route: own_proxy, process: defaults.send_proxy };
    match listed {
        Some(listed) => {
            let items = listed.one_or_many();
            if items.is_empty() {
                listed.error_help("there is nothing to forward to", "name at least one target");
            }
            for item in items {
                let Some(keys) = target_keys(&item) else { continue };
                forward.targets.extend(merge.targets(&item, keys).unwrap_or_default());
            }
        }
        None if wanted && defaults.target.hosts.is_some() => {
            forward.targets = merge.targets(&table.cursor, TargetKeys::default()).unwrap_or_default();
        }
        None if wanted => {
            table.require("targets", "[{host, port}]");
        }
        None => {}
    }
    forward
}

pub(crate) fn target_keys(at: &Cursor<'_>) -> Option<TargetKeys> {
    let table = at.table()?;
    let keys = TargetKeys {
        hosts: table.get("host", hosts),
        port: table.get("port", target_port),
        send_proxy: table.get("sendProxyProtocol", send_proxy),
    };
    table.unsupported(&["match", "tls", "websocket", "loadBalancing", "headers", "priority", "advanced"]);
    table.finish();
    Some(keys)
}

/// Where a target has from what it does not say itself.
struct Merge<'b> {
    target: &'b TargetKeys,
    route: Option<Option<ProxyVersion>>,
    process: Option<ProxyVersion>,
}

impl Merge<'_> {
    /// One target for each host.
    fn targets(&self, at: &Cursor<'_>, own: TargetKeys) -> Option<Vec<Target>> {
        let given = |key| at.table().is_some_and(|table| table.key(key).is_some());
        let hosts = own.hosts.or_else(|| self.target.hosts.clone());
        let port = own.port.or(self.target.port);
        if hosts.is_none() && !given("host") {
            at.error_help("\"host\" is missing", "add \"host\": a name, an address, or a list of them");
        }
        if port.is_none() && !given("port") {
            at.error_help(
                "\"port\" is missing",
                "add \"port\": a number, or \"preserve\" for the port that the client connected to",
            );
        }
        let send_proxy = own.send_proxy.or(self.route).or(self.target.send_proxy).unwrap_or(self.process);
        let port = port?;
        Some(hosts?.into_iter().map(|host| Target { host, port, send_proxy }).collect())
    }
}

fn hosts(at: &Cursor<'_>) -> Option<Vec<String>> {
    let items = at.one_or_many();
    if items.is_empty() {
        at.error("name at least one host");
    }
    let hosts: Vec<_> = items.iter().filter_map(host).collect();
    (!hosts.is_empty()).then_some(hosts)
}

fn host(at: &Cursor<'_>) -> Option<String> {
    let text = string(at)?;
    if text.starts_with("unix:") {
        at.error_help("a backend on a Unix socket is not supported yet", "write a name or an address");
        return None;
    }
    // An address in brackets is the address.
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let name = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !name && bare.parse::<std::net::IpAddr>().is_err() {
        at.error_help(
            format!("{text:?} is neither a host name nor an address"),
            "the port and \"http://\" do not belong to it",
        );
        return None;
    }
    Some(bare.to_owned())
}

fn target_port(at: &Cursor<'_>) -> Option<TargetPort> {
    match &at.node.value {
        Value::String(text) if text.parse::<i64>().is_err() => choice(at, &[("preserve", TargetPort::Preserve)], &[]),
        _ => port(at).map(TargetPort::Fixed),
    }
}

fn backend_tls(at: &Cursor<'_>) -> Option<BackendTls> {
    let table = at.table()?;
    let given = |key| table.take(key).filter(|at| !at.is_none());
    let ca = given("ca").and_then(|at| Some(file(&at, string(&at)?)?.0));
    let server_name = given("serverName").and_then(|at| host(&at));
    let mut tls = BackendTls { ca, server_name, insecure_skip_verify: false };
    table.read("insecureSkipVerify", boolean, &mut tls.insecure_skip_verify);
    table.finish();
    Some(tls)
}

fn redirect(at: &Cursor<'_>) -> Option<Redirect> {
    let table = at.table()?;
    let to = table.require("to", "the location, as in \"https://{domain}{path}\"").and_then(|at| location(&at));
    let status = table.get("status", |at| {
        let status: u16 = integer(at, 100..=999)?;
        let right = [301, 302, 303, 307, 308].contains(&status);
        if !right {
            at.error_help(format!("{status} does not redirect"), "write 301, 302, 303, 307 or 308");
        }
        right.then_some(status)
    });
    table.finish();
    Some(Redirect { to: to?, status: status.unwrap_or(308) })
}

fn location(at: &Cursor<'_>) -> Option<String> {
    const KNOWN: [&str; 3] = ["domain", "port", "path"];
    let text = string(at)?;
    if text.is_empty() || text.chars().any(|char| char.is_control() || char.is_whitespace()) {
        at.error("a location is not empty and has no spaces or control characters");
        return None;
    }
    for name in text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name) {
        if !KNOWN.contains(&name) {
            let help = nearest(name, KNOWN.into_iter())
                .map_or_else(|| format!("known are {}", quoted(KNOWN.into_iter())), did_you_mean);
            at.error_help(format!("nothing is known to put in for \"{{{name}}}\""), help);
        }
    }
    Some(text.to_owned())
}

fn respond(at: &Cursor<'_>) -> Option<Respond> {
    let table = at.table()?;
    let status = table.get("status", |at| integer::<u16>(at, 200..=599));
    let headers = table.get("headers", headers::fixed).unwrap_or_default();
    let body = table.get("body", string).unwrap_or_default().to_owned();
    table.finish();
    let status = status.unwrap_or(200);
    if matches!(status, 204 | 205 | 304)
        && !body.is_empty()
        && let Some(at) = table.take("body")
    {
        at.error_help(format!("an answer with status {status} has no body"), "remove it, or change the status");
    }
    Some(Respond { status, headers, body })
}
