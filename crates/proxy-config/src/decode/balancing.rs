//! How a route uses its backends: which one is next, and which are well.

use super::target::host;
use crate::cursor::Cursor;
use crate::value::{choice, period, positive, string};
use proxy_route::{Algorithm, Ejection, Forward, HealthCheck};

/// The `loadBalancing` of an action.
pub(crate) fn load_balancing(at: &Cursor<'_>, forward: &mut Forward) {
    let Some(table) = at.table() else { return };
    let algorithms = [
        ("round-robin", Algorithm::RoundRobin),
        ("least-connections", Algorithm::LeastConnections),
        ("ip-hash", Algorithm::IpHash),
    ];
    table.read("algorithm", |at| choice(at, &algorithms, &[]), &mut forward.algorithm);
    table.read("healthCheck", health_check, &mut forward.health_check);
    table.read("ejection", ejection, &mut forward.ejection);
    table.finish();
}

/// `Some(None)` is none: `false`.
fn health_check(at: &Cursor<'_>) -> Option<Option<HealthCheck>> {
    if at.is_none() {
        return Some(None);
    }
    let table = at.table()?;
    let mut check = HealthCheck { path: table.get("path", path), ..HealthCheck::default() };
    check.host = table.get("host", host);
    table.read("interval", period, &mut check.interval);
    table.read("timeout", period, &mut check.timeout);
    table.read("unhealthyThreshold", positive, &mut check.unhealthy_threshold);
    table.read("healthyThreshold", positive, &mut check.healthy_threshold);
    table.finish();
    if check.timeout > check.interval
        && let Some(at) = table.take("timeout").or_else(|| table.take("interval"))
    {
        at.error_help(
            format!("a check may take {:?}, but the next one begins after {:?}", check.timeout, check.interval),
            "make \"timeout\" at most as long as \"interval\"",
        );
    }
    if let (None, Some(at)) = (&check.path, table.key("host").filter(|_| table.key("path").is_none())) {
        at.error_help("without a path nothing is asked for, so no host is named", "add \"path\", or remove it");
    }
    Some(Some(check))
}

/// A path, with a query perhaps, as it is sent.
fn path(at: &Cursor<'_>) -> Option<String> {
    let text = string(at)?;
    if !text.starts_with('/') || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        at.error_help(format!("{text:?} is no path that can be asked for"), "write one as in \"/up\"");
        return None;
    }
    Some(text.to_owned())
}

/// `Some(None)` is none: `false`.
fn ejection(at: &Cursor<'_>) -> Option<Option<Ejection>> {
    if at.is_none() {
        return Some(None);
    }
    let table = at.table()?;
    let mut ejection = Ejection::default();
    table.read("afterFailures", positive, &mut ejection.after_failures);
    table.read("holdFor", period, &mut ejection.hold);
    let longest = table.get("maxHoldFor", period);
    table.finish();
    ejection.max_hold = longest.unwrap_or_else(|| ejection.max_hold.max(ejection.hold));
    if ejection.max_hold < ejection.hold
        && let Some(at) = table.take("maxHoldFor")
    {
        at.error_help("the longest hold is shorter than the first one", "make it at least \"holdFor\"");
    }
    Some(Some(ejection))
}
