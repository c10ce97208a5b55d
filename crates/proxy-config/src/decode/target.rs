//! Where a route forwards to.

use crate::cursor::Cursor;
use crate::tree::Value;
use crate::value::{choice, limit, port, send_proxy, string, unix_socket};
use proxy_route::{Host, ProxyVersion, Target, TargetPort};

/// What a target says; what it does not say is `None`.
#[derive(Clone, Default)]
pub(crate) struct TargetKeys {
    pub(crate) hosts: Option<Vec<Host>>,
    port: Option<TargetPort>,
    send_proxy: Option<Option<ProxyVersion>>,
    max_connections: Option<u32>,
}

pub(crate) fn target_keys(at: &Cursor<'_>) -> Option<TargetKeys> {
    let table = at.table()?;
    let keys = TargetKeys {
        hosts: table.get("host", hosts),
        port: table.get("port", target_port),
        send_proxy: table.get("sendProxyProtocol", send_proxy),
        max_connections: table.get("maxConnections", limit),
    };
    table.unsupported(&["match", "tls", "websocket", "loadBalancing", "headers", "priority", "advanced"]);
    table.finish();
    Some(keys)
}

/// Where a target has from what it does not say itself.
pub(crate) struct Merge<'b> {
    pub(crate) target: &'b TargetKeys,
    pub(crate) route: Option<Option<ProxyVersion>>,
    pub(crate) process: Option<ProxyVersion>,
}

impl Merge<'_> {
    /// One target for each host.
    pub(crate) fn targets(&self, at: &Cursor<'_>, own: TargetKeys) -> Option<Vec<Target>> {
        let given = |key| at.table().is_some_and(|table| table.key(key).is_some());
        let hosts = own.hosts.or_else(|| self.target.hosts.clone());
        let port = own.port.or(self.target.port);
        if hosts.is_none() && !given("host") {
            at.error_help("\"host\" is missing", "add \"host\": a name, an address, or a list of them");
        }
        let by_port = hosts.iter().flatten().any(|host| !matches!(host, Host::Unix(_)));
        if port.is_none() && !given("port") && (by_port || !given("host")) {
            at.error_help(
                "\"port\" is missing",
                "add \"port\": a number, or \"preserve\" for the port that the client connected to",
            );
        }
        let send_proxy = own.send_proxy.or(self.route).or(self.target.send_proxy).unwrap_or(self.process);
        let max_connections = own.max_connections.or(self.target.max_connections).unwrap_or(0);
        let port = if by_port { port? } else { TargetPort::Fixed(0) };
        Some(hosts?.into_iter().map(|host| Target { host, port, send_proxy, max_connections }).collect())
    }
}

fn hosts(at: &Cursor<'_>) -> Option<Vec<Host>> {
    let items = at.one_or_many();
    if items.is_empty() {
        at.error("name at least one host");
    }
    let place = |item: &Cursor<'_>| match unix_socket(item) {
        Some(path) => path.map(Host::Unix),
        None => host(item).map(|host| Host::from(host.as_str())),
    };
    let hosts: Vec<_> = items.iter().filter_map(place).collect();
    (!hosts.is_empty()).then_some(hosts)
}

/// A host name or an address.
pub(crate) fn host(at: &Cursor<'_>) -> Option<String> {
    let text = string(at)?;
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
