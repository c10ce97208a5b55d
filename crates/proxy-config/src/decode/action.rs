//! What a route does.

use super::balancing::load_balancing;
use super::headers;
use super::settings::Defaults;
use super::target::{Merge, TargetKeys, host, target_keys};
use super::tls::{TlsKeys, tls_keys};
use crate::cursor::{Cursor, Table, did_you_mean, nearest, quoted};
use crate::value::{boolean, choice, file, integer, send_proxy, string};
use proxy_route::{Action, BackendProtocol, BackendTls, Forward, Redirect, Respond};

/// What an `action` says, and where.
pub(crate) struct ActionKeys<'a> {
    pub(crate) action: Action,
    pub(crate) tls: TlsKeys,
    pub(crate) table: Table<'a>,
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
const FORWARDING: &[&str] = &[
    "targets",
    "target",
    "loadBalancing",
    "websocket",
    "backendTls",
    "backendProtocol",
    "halfClose",
    "sendProxyProtocol",
];

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
    if let Some(at) = table.take("loadBalancing") {
        load_balancing(&at, &mut forward);
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
    table.read("halfClose", boolean, &mut forward.half_close);
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
