//! What a route matches.

use super::{headers, tls};
use crate::cursor::{Cursor, Table};
use crate::network::access;
use crate::value::{choice, ports, string};
use proxy_route::{DomainPattern, IpSet, Match, PathPattern, Protocol};

/// What a `match` says, and where.
pub(crate) struct MatchKeys<'a> {
    pub(crate) matching: Match,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) table: Table<'a>,
}

pub(crate) fn matching<'a>(at: &Cursor<'a>) -> Option<MatchKeys<'a>> {
    let table = at.table()?;
    let protocols = [("http", Protocol::Http), ("tcp", Protocol::Tcp)];
    let protocol = table.get("protocol", |at| choice(at, &protocols, &["udp", "quic", "http3"]));
    let versions = |at: &Cursor<'_>| Some(at.one_or_many().iter().filter_map(tls::version).collect());
    let matching = Match {
        ports: table.require("ports", "a number, a range or a list").and_then(|at| ports(&at)).unwrap_or_default(),
        domains: table.get("domains", domains).unwrap_or_default(),
        path: table.get("path", path),
        client_ip: table.get("clientIp", clients).flatten(),
        headers: table.get("headers", headers::patterns).unwrap_or_default(),
        tls_versions: table.get("tlsVersion", versions).unwrap_or_default(),
    };
    table.unsupported(&["transport"]);
    table.finish();
    Some(MatchKeys { matching, protocol, table })
}

fn domains(at: &Cursor<'_>) -> Option<Vec<DomainPattern>> {
    let domain = |item: &Cursor<'_>| match string(item)?.parse() {
        Ok(domain) => Some(domain),
        Err(error) => {
            let error: proxy_route::DomainError = error;
            item.error(error.to_string());
            None
        }
    };
    Some(at.one_or_many().iter().filter_map(domain).collect())
}

fn path(at: &Cursor<'_>) -> Option<PathPattern> {
    let text = string(at)?;
    match text.parse::<PathPattern>() {
        Ok(path) => Some(path),
        Err(error) => {
            at.error_help(error.to_string(), "write \"/exact\", \"/prefix/*\" or \"/users/:id\"");
            None
        }
    }
}

/// `Some(None)` is everybody.
fn clients(at: &Cursor<'_>) -> Option<Option<IpSet>> {
    let set = access(at)?;
    if set.as_ref().is_some_and(IpSet::is_empty) {
        at.error_help("an empty list matches nobody", "leave it out to match everybody");
    }
    Some(set)
}
