//! Who may connect, and how often at once.

use crate::cursor::{Cursor, Table};
use crate::network::access;
use crate::tree::Value;
use crate::value::limit;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy_route::{AccessList, IpSet, RouteLimits, Security};

/// What a `security` says; what it does not say is `None`.
#[derive(Clone, Default)]
pub(crate) struct SecurityKeys {
    /// `Some(None)` is everybody.
    allow: Option<Option<IpSet>>,
    block: Option<IpSet>,
    pub(crate) max_connections: Option<u32>,
    per_client: Option<u32>,
}

impl SecurityKeys {
    /// Who may connect.
    pub(crate) fn access(self) -> AccessList {
        AccessList { allow: self.allow.flatten(), block: self.block.unwrap_or_default() }
    }

    /// For a route, with defaults for what it does not say. Their `maxConnections` is that of the process.
    pub(crate) fn for_route(self, defaults: &Self) -> Security {
        let limits = RouteLimits {
            max_connections: self.max_connections.unwrap_or(0),
            per_client: self.per_client.or(defaults.per_client).unwrap_or(0),
        };
        let allow = self.allow.or_else(|| defaults.allow.clone());
        let block = self.block.or_else(|| defaults.block.clone());
        Security { access: Self { allow, block, ..Self::default() }.access(), limits }
    }
}

/// The keys of a `security`; that of the process itself has no limits (they have places of their own).
pub(crate) fn security(at: &Cursor<'_>, limits: bool) -> Option<SecurityKeys> {
    let table = at.table()?;
    let mut keys = SecurityKeys::default();
    // An empty list lets everybody in, as in the original.
    let listed = |set: Option<IpSet>| set.filter(|set| !set.is_empty());
    keys.allow = table.take_renamed("ipAllowList", "allowedIps").and_then(|at| access(&at)).map(listed);
    let block = table.take_renamed("ipBlockList", "blockedIps");
    keys.block = block.and_then(|at| access(&at)).map(|set| set.unwrap_or_else(everybody));
    if limits {
        keys.max_connections = table.get("maxConnections", limit);
        keys.per_client = table.get("maxConnectionsPerIP", limit);
        zero(&table, "connectionRateLimitPerMinute");
        zero(&table, "maxRequests");
        zero(&table, "maxRequestsPerIP");
        rate_limit(&table);
    }
    table.unsupported(&["basicAuth", "jwtAuth", "authentication"]);
    table.finish();
    Some(keys)
}

fn everybody() -> IpSet {
    [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())].into_iter().collect()
}

/// A limit that is not built: only "unlimited" is kept.
fn zero(table: &Table<'_>, key: &'static str) {
    if let Some(at) = table.take(key)
        && limit(&at).is_some_and(|limit| limit != 0)
    {
        at.error_help(format!("{key:?} is not supported yet"), "remove it, or write 0");
    }
}

fn rate_limit(table: &Table<'_>) {
    let Some(at) = table.take("rateLimit") else { return };
    let Some(inner) = at.table() else { return };
    let off = inner.take("enabled").is_some_and(|enabled| enabled.node.value == Value::Bool(false));
    if !off {
        at.error_help("\"rateLimit\" is not supported yet", "remove it, or set \"enabled\": false");
    }
}
