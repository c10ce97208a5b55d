//! How many connections, and how fast, and for whom otherwise.

use super::security::SecurityKeys;
use crate::cursor::{Cursor, Table};
use crate::network::{network, networks};
use crate::value::{integer, limit, period, positive};
use ipnet::IpNet;
use proxy_route::{ClientOverride, ConnectionLimits, PrefixError, Prefixes, Settings, ShedSettings};

pub(crate) fn limits(table: &Table<'_>, defaults: &SecurityKeys, settings: &mut Settings) {
    let limits = &mut settings.limits;
    connections(table, defaults, limits);
    table.read("maxConnectionsPerIP", limit, &mut limits.per_client);
    table.read("connectionRateLimitPerMinute", limit, &mut limits.rate_per_minute);
    limits.rate_burst = table.get("connectionRateBurst", positive);
    limits.pending = table.get("maxPendingConnections", limit);
    table.read("maxTlsHandshakes", limit, &mut limits.handshakes);
    table.read("maxTrackedClients", positive, &mut limits.tracked_clients);
    let v4 = table.get("ipv4PrefixLength", |at| prefix(at, 32)).unwrap_or_else(|| limits.prefixes.v4());
    let v6 = table.get("ipv6PrefixLength", |at| prefix(at, 64)).unwrap_or_else(|| limits.prefixes.v6());
    limits.prefixes = Prefixes::new(v4, v6).unwrap_or_default();
    together(table, limits);
    table.read("exempt", networks, &mut settings.exempt);
    let prefixes = settings.limits.prefixes;
    table.read("clientOverrides", |at| overrides(at, prefixes), &mut settings.client_overrides);
}

/// `Some(None)` is none: `false`.
pub(crate) fn shed(at: &Cursor<'_>) -> Option<Option<ShedSettings>> {
    if at.is_none() {
        return Some(None);
    }
    let table = at.table()?;
    let mut shed = ShedSettings::default();
    table.read("afterRefusalsPerSecond", |at| integer(at, 1..=1_000_000), &mut shed.after_refusals_per_second);
    table.read("holdFor", period, &mut shed.hold_for);
    table.read("maxClients", |at| integer(at, 1..=3000), &mut shed.max_clients);
    table.finish();
    Some(Some(shed))
}

/// The limit of the process has two names.
fn connections(table: &Table<'_>, defaults: &SecurityKeys, limits: &mut ConnectionLimits) {
    let own = table.get("maxConnections", limit);
    if let (Some(own), Some(other), Some(at)) = (own, defaults.max_connections, table.take("maxConnections"))
        && own != other
    {
        at.error_help(
            format!(
                "\"maxConnections\" is {own} here and {other} in defaults.security, and both mean the whole process"
            ),
            "keep one of the two",
        );
    }
    if let Some(max) = own.or(defaults.max_connections) {
        limits.max_connections = max;
        limits.max_connections_explicit = true;
    }
}

fn together(table: &Table<'_>, limits: &ConnectionLimits) {
    let max = limits.max_connections;
    if let (Some(pending), Some(at)) = (limits.pending, table.take("maxPendingConnections"))
        && max != 0
        && pending > max
    {
        at.error_help(
            format!("{pending} pending connections are more than the {max} connections of the process"),
            "lower it, or raise \"maxConnections\"",
        );
    }
    if let (Some(burst), Some(at)) = (limits.rate_burst, table.take("connectionRateBurst")) {
        if limits.rate_per_minute == 0 {
            at.warn("without a rate there is no burst", "set \"connectionRateLimitPerMinute\" too");
        } else if limits.per_client != 0 && burst < limits.per_client {
            at.warn(
                format!("a client may have {} connections, but only {burst} of them at once", limits.per_client),
                "make it at least \"maxConnectionsPerIP\"",
            );
        }
    }
}

fn prefix(at: &Cursor<'_>, longest: u8) -> Option<u8> {
    let bits = integer::<i64>(at, i64::MIN..=i64::MAX)?;
    let right = u8::try_from(bits).ok().filter(|bits| (1..=longest).contains(bits));
    if right.is_none() {
        let bits = u8::try_from(bits).unwrap_or(u8::MAX);
        let error = if longest == 32 { PrefixError::V4(bits) } else { PrefixError::V6(bits) };
        at.error(error.to_string());
    }
    right
}

fn overrides(at: &Cursor<'_>, prefixes: Prefixes) -> Option<Vec<ClientOverride>> {
    let mut overrides: Vec<ClientOverride> = Vec::new();
    for item in at.list("a list of networks and their limits")? {
        let Some(one) = client_override(&item, prefixes) else { continue };
        if overrides.iter().any(|other| other.network == one.network) {
            item.error(format!("{} is given twice", one.network));
        }
        overrides.push(one);
    }
    Some(overrides)
}

fn client_override(at: &Cursor<'_>, prefixes: Prefixes) -> Option<ClientOverride> {
    let table = at.table()?;
    let cidr = table.require("cidr", "the network, as in \"10.0.0.0/8\"");
    let network = cidr.as_ref().and_then(network);
    let per_client = table.get("maxConnectionsPerIP", limit);
    let rate_per_minute = table.get("connectionRateLimitPerMinute", limit);
    table.finish();
    if table.take("maxConnectionsPerIP").or_else(|| table.take("connectionRateLimitPerMinute")).is_none() {
        let help = "add \"maxConnectionsPerIP\" or \"connectionRateLimitPerMinute\"";
        at.error_help("this changes no limit", help);
    }
    let network = network?;
    let longest = match network {
        IpNet::V4(_) => prefixes.v4(),
        IpNet::V6(_) => prefixes.v6(),
    };
    if network.prefix_len() > longest {
        cidr?.error_help(
            format!("{network} is narrower than a client, which is a /{longest} here"),
            format!("write a /{longest} or a shorter prefix"),
        );
        return None;
    }
    Some(ClientOverride { network, per_client, rate_per_minute })
}
