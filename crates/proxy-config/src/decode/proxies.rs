//! Peers that speak for others: PROXY headers and HTTP proxies.

use crate::cursor::{Cursor, Table};
use crate::network::network;
use crate::tree::Value;
use crate::value::{boolean, port};
use ipnet::IpNet;
use proxy_route::Settings;

pub(crate) fn accepted(table: &Table<'_>, settings: &mut Settings) {
    let accept = &mut settings.accept_proxy;
    table.read("acceptProxyProtocol", accept_on, &mut accept.ports);
    let named = table.take("proxyIPs").is_some_and(|at| !at.one_or_many().is_empty());
    if let Some(at) = table.take("acceptProxyProtocol")
        && accept.ports.is_some()
        && !named
    {
        at.error_help(
            "PROXY headers are taken from named peers only, and none is named",
            "add \"proxyIPs\": the addresses of the proxies in front, as in [\"10.0.0.5\"]",
        );
    }
    if let Some(at) = table.key("proxyIPs")
        && table.take("acceptProxyProtocol").is_none()
    {
        at.warn("these peers are not used", "add \"acceptProxyProtocol\": true, or the list of ports");
    }
    table.read("proxyIPs", peers, &mut accept.peers);
    table.read("trustedProxies", peers, &mut settings.trusted_proxies);
}

/// Whether headers are expected: on no port, on every one (an empty list), on these.
fn accept_on(at: &Cursor<'_>) -> Option<Option<Vec<u16>>> {
    if let Value::List(_) = at.node.value {
        let ports: Vec<_> = at.list("a list of ports")?.iter().filter_map(port).collect();
        return Some((!ports.is_empty()).then_some(ports));
    }
    if let Value::Bool(_) = at.node.value {
        return Some(boolean(at)?.then(Vec::new));
    }
    at.expected("true, false or a list of ports");
    None
}

fn peers(at: &Cursor<'_>) -> Option<Vec<IpNet>> {
    let mut peers = Vec::new();
    for item in at.one_or_many() {
        let Some(peer) = network(&item) else { continue };
        if peer.prefix_len() == 0 {
            item.warn("everybody is trusted to say who the client is", "name the proxies in front only");
        }
        peers.push(peer);
    }
    Some(peers)
}
