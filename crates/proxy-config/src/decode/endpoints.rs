//! What the operator sees: logging and the admin endpoint.

use crate::cursor::{Cursor, did_you_mean, nearest};
use crate::value::{choice, integer, period, positive, secret, string};
use proxy_route::{AdminSettings, LogFormat, LogSettings};
use std::net::SocketAddr;

pub(crate) fn logging(at: &Cursor<'_>) -> Option<LogSettings> {
    let table = at.table()?;
    let mut logging = LogSettings::default();
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    table.read("format", |at| choice(at, &formats, &[]), &mut logging.format);
    table.read("level", level, &mut logging.level);
    if let Some(dedup) = table.take("dedup").and_then(|at| at.table()) {
        dedup.read("flushInterval", period, &mut logging.flush_interval);
        dedup.read("topSources", |at| integer(at, 0..=10_000), &mut logging.top_sources);
        dedup.read("maxKeys", |at| integer(at, 1..=100_000_000), &mut logging.max_keys);
        dedup.read("burst", positive, &mut logging.burst);
        dedup.finish();
    }
    table.finish();
    Some(logging)
}

/// `info`, or `warn,proxy_http=debug`. A misspelt level alone would be taken for the name of a module.
fn level(at: &Cursor<'_>) -> Option<String> {
    const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];
    let text = string(at)?;
    for part in text.split(',') {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim();
        if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            let help = nearest(level, LEVELS.into_iter()).map_or_else(
                || "write trace, debug, info, warn, error or off, or \"warn,proxy_http=debug\"".to_owned(),
                did_you_mean,
            );
            at.error_help(format!("{level:?} is no level"), help);
            return None;
        }
    }
    Some(text.to_owned())
}

pub(crate) fn admin(at: &Cursor<'_>) -> Option<AdminSettings> {
    let table = at.table()?;
    let listen = table.require("listen", "where, as in \"127.0.0.1:9901\"").and_then(|at| address(&at));
    let token = table.get("token", secret);
    table.finish();
    let listen = listen?;
    if !listen.ip().is_loopback()
        && table.key("token").is_none()
        && let Some(at) = table.take("listen")
    {
        at.error_help(
            format!("{listen} can be reached from other machines, and there is no token"),
            "add \"token\", or listen on 127.0.0.1",
        );
    }
    Some(AdminSettings { listen, token })
}

fn address(at: &Cursor<'_>) -> Option<SocketAddr> {
    let text = string(at)?;
    if text.starts_with("unix:") {
        at.error_help("an admin endpoint on a Unix socket is not supported yet", "write \"127.0.0.1:9901\"");
        return None;
    }
    let address = text.parse().ok();
    if address.is_none() {
        at.error_help(format!("{text:?} is no address with a port"), "write \"127.0.0.1:9901\" or \"[::1]:9901\"");
    }
    address
}
