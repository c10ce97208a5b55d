//! Who may connect, and how often at once.

use crate::cursor::Cursor;
use crate::network::access;
use crate::tree::Value;
use crate::value::{boolean, choice, integer, limit, name, period, secret, string};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proxy_route::{AccessList, BasicAuth, IpSet, RateLimit, RouteLimits, Security};
use std::time::Duration;

/// What a `security` says; what it does not say is `None`.
#[derive(Clone, Default)]
pub(crate) struct SecurityKeys {
    /// `Some(None)` is everybody.
    allow: Option<Option<IpSet>>,
    block: Option<IpSet>,
    pub(crate) max_connections: Option<u32>,
    per_client: Option<u32>,
    rate_per_minute: Option<u32>,
    max_requests: Option<u32>,
    max_requests_per_client: Option<u32>,
    /// `Some(None)` is off.
    rate_limit: Option<Option<Rate>>,
    /// `Some(None)` is everybody.
    basic_auth: Option<Option<BasicAuth>>,
}

/// A limit of requests in some time, and what is said to those beyond it.
#[derive(Clone)]
struct Rate {
    limit: RateLimit,
    message: Option<String>,
}

impl SecurityKeys {
    /// Who may connect.
    pub(crate) fn access(self) -> AccessList {
        AccessList { allow: self.allow.flatten(), block: self.block.unwrap_or_default() }
    }

    /// For a route, with defaults for what it does not say. Their `maxConnections` is that of the process.
    pub(crate) fn for_route(self, defaults: &Self) -> Security {
        let rate = self.rate_limit.or_else(|| defaults.rate_limit.clone()).flatten();
        let limits = RouteLimits {
            max_connections: self.max_connections.unwrap_or(0),
            per_client: self.per_client.or(defaults.per_client).unwrap_or(0),
            rate_per_minute: self.rate_per_minute.or(defaults.rate_per_minute).unwrap_or(0),
            max_requests: self.max_requests.or(defaults.max_requests).unwrap_or(0),
            max_requests_per_client: self.max_requests_per_client.or(defaults.max_requests_per_client).unwrap_or(0),
            rate_limit: rate.as_ref().map(|rate| rate.limit),
        };
        let allow = self.allow.or_else(|| defaults.allow.clone());
        let block = self.block.or_else(|| defaults.block.clone());
        Security {
            access: Self { allow, block, ..Self::default() }.access(),
            limits,
            too_fast: rate.and_then(|rate| rate.message),
            basic_auth: self.basic_auth.or_else(|| defaults.basic_auth.clone()).flatten(),
        }
    }
}

/// What is about requests, on a route that carries bytes. `own` is the route's `security`, `at` the route.
pub(crate) fn bytes(security: &mut Security, own: Option<&Cursor<'_>>, at: &Cursor<'_>, help: &str) {
    let Security { limits, basic_auth, .. } = security;
    let set = [
        ("maxRequests", limits.max_requests != 0),
        ("maxRequestsPerIP", limits.max_requests_per_client != 0),
        ("rateLimit", limits.rate_limit.is_some()),
        ("basicAuth", basic_auth.is_some()),
    ];
    for (key, _) in set.into_iter().filter(|(_, set)| *set) {
        match own.and_then(|own| own.key_of(key)) {
            Some(at) => at.error_help(format!("{key:?} is about requests, and this route carries bytes"), help),
            // Limits of the defaults have nothing to limit here. That everybody may come in must be said.
            None if key == "basicAuth" => at.error_help(
                "the \"basicAuth\" of the defaults cannot be asked for on a route that carries bytes",
                "write \"basicAuth\": false in its \"security\" to let everybody in, or terminate TLS",
            ),
            None => {}
        }
    }
    let RouteLimits { max_connections, per_client, rate_per_minute, .. } = *limits;
    *limits = RouteLimits { max_connections, per_client, rate_per_minute, ..RouteLimits::default() };
    *basic_auth = None;
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
        keys.rate_per_minute = table.get("connectionRateLimitPerMinute", limit);
        keys.max_requests = table.get("maxRequests", limit);
        keys.max_requests_per_client = table.get("maxRequestsPerIP", limit);
        keys.rate_limit = table.get("rateLimit", rate_limit);
        keys.basic_auth = table.get("basicAuth", basic_auth);
    }
    table.unsupported(&["jwtAuth", "authentication"]);
    table.finish();
    Some(keys)
}

fn everybody() -> IpSet {
    [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())].into_iter().collect()
}

/// `Some(None)` is off.
fn rate_limit(at: &Cursor<'_>) -> Option<Option<Rate>> {
    if at.is_none() {
        return Some(None);
    }
    let table = at.table()?;
    let mut enabled = true;
    table.read("enabled", boolean, &mut enabled);
    table.get("keyBy", |at| choice(at, &[("ip", ())], &["path", "header"]));
    let max_requests = table.require("maxRequests", "how many requests one client may send in the window");
    let count = max_requests.as_ref().and_then(limit);
    let window = table.get("window", window);
    let given = table.take("window").is_some();
    let message = table.get("errorMessage", string).map(ToOwned::to_owned);
    table.unsupported(&["headerName"]);
    table.finish();
    let window = if given { window? } else { Duration::from_secs(60) };
    let count = count?;
    // One a microsecond is what can be told apart.
    let most = u32::try_from(window.as_micros()).unwrap_or(u32::MAX).min(1_000_000_000);
    if count > most {
        max_requests?.error_help(
            format!("at most {most} requests can be counted in this window"),
            "lower it, make the window longer, or write 0 for no limit",
        );
        return None;
    }
    let limit = RateLimit { max_requests: count, window };
    Some((enabled && count > 0).then_some(Rate { limit, message }))
}

/// Seconds as a number, as in the original; a string has a unit.
fn window(at: &Cursor<'_>) -> Option<Duration> {
    const LONGEST: Duration = Duration::from_secs(24 * 3600);
    let window = match at.node.value {
        Value::Integer(_) => integer::<u64>(at, 1..=86_400).map(Duration::from_secs)?,
        _ => period(at)?,
    };
    if window > LONGEST || window < Duration::from_millis(1) {
        at.error_help("a window is a millisecond to a day", "write seconds as a number, or \"500ms\", \"1h\"");
        return None;
    }
    Some(window)
}

/// `Some(None)` is everybody.
fn basic_auth(at: &Cursor<'_>) -> Option<Option<BasicAuth>> {
    if at.is_none() {
        return Some(None);
    }
    let table = at.table()?;
    let mut enabled = true;
    table.read("enabled", boolean, &mut enabled);
    let realm = table.get("realm", realm).unwrap_or_else(|| "restricted".to_owned());
    let mut auth = BasicAuth::new(realm);
    let users = table.require("users", "[{username, password}]");
    let items = users.as_ref().and_then(|at| at.list("a list of {username, password}")).unwrap_or_default();
    if let Some(users) = users.filter(|_| items.is_empty()) {
        users.error_help("nobody could come in", "name at least one user");
    }
    for item in items {
        let Some(user) = item.table() else { continue };
        let name = user.require("username", "a name without a colon").and_then(|at| user_name(&at));
        let password = user.require("password", "the password, \"${VARIABLE}\" or \"@file\"");
        let password = password.and_then(|at| secret(&at));
        user.finish();
        if let (Some(name), Some(password)) = (name, password) {
            auth.add(&name, &password);
        }
    }
    table.unsupported(&["excludePaths"]);
    table.finish();
    Some(enabled.then_some(auth))
}

fn user_name(at: &Cursor<'_>) -> Option<String> {
    let user = name(at)?;
    if user.contains(':') {
        at.error("a user name has no colon: it would end there");
        return None;
    }
    Some(user)
}

fn realm(at: &Cursor<'_>) -> Option<String> {
    let realm = name(at)?;
    if !realm.is_ascii() {
        at.error("a realm is sent in a header, so it has only ASCII characters");
        return None;
    }
    Some(realm)
}
