//! What the operator sees: logging, the access log and the admin endpoint.

use crate::cursor::{Cursor, Table, did_you_mean, nearest};
use crate::value::{choice, integer, period, positive, secret, share, string, unix_socket};
use proxy_route::{AccessLogOutput, AccessLogSettings, AdminSettings, Endpoint, LogFolding, LogFormat, LogSettings};
use std::path::Path;

pub(crate) fn logging(at: &Cursor<'_>) -> Option<LogSettings> {
    let table = at.table()?;
    let mut logging = LogSettings::default();
    table.read("format", format, &mut logging.format);
    table.read("level", level, &mut logging.level);
    if let Some(dedup) = table.take("dedup").and_then(|at| at.table()) {
        folding(&dedup, &mut logging.folding);
        dedup.read("maxKeys", |at| integer(at, 1..=100_000_000), &mut logging.max_keys);
        if let Some(kinds) = dedup.take("kinds").and_then(|at| at.table()) {
            for kind in LogSettings::kinds() {
                if let Some(own) = kinds.take(kind).and_then(|at| at.table()) {
                    let mut of_kind = logging.folding;
                    folding(&own, &mut of_kind);
                    own.finish();
                    logging.kinds.insert(kind, of_kind);
                }
            }
            kinds.finish();
        }
        dedup.finish();
    }
    table.finish();
    Some(logging)
}

/// What can be said of all kinds of events, and of one.
fn folding(table: &Table<'_>, folding: &mut LogFolding) {
    table.read("flushInterval", period, &mut folding.flush_interval);
    table.read("topSources", |at| integer(at, 0..=10_000), &mut folding.top_sources);
    table.read("burst", positive, &mut folding.burst);
    table.read("riseFactor", |at| integer(at, 0..=1_000_000), &mut folding.rise_factor);
}

fn format(at: &Cursor<'_>) -> Option<LogFormat> {
    choice(at, &[("text", LogFormat::Text), ("json", LogFormat::Json)], &[])
}

/// `Some(None)` is none: `false`.
pub(crate) fn access_log(at: &Cursor<'_>) -> Option<Option<AccessLogSettings>> {
    if at.is_none() {
        return Some(None);
    }
    let table = at.table()?;
    let output = table.require("path", "a file, or \"stdout\"").and_then(|at| output(&at));
    let mut settings = AccessLogSettings { output: AccessLogOutput::Stdout, format: LogFormat::Text, sample: 1.0 };
    table.read("format", format, &mut settings.format);
    table.read("sample", share, &mut settings.sample);
    table.finish();
    Some(Some(AccessLogSettings { output: output?, ..settings }))
}

fn output(at: &Cursor<'_>) -> Option<AccessLogOutput> {
    match string(at)? {
        "" => {
            at.error_help("the name of a file is missing", "write a path, or \"stdout\"");
            None
        }
        "stdout" => Some(AccessLogOutput::Stdout),
        path => Some(AccessLogOutput::File(at.sink.surroundings.resolve(Path::new(path)))),
    }
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
    if let Endpoint::Tcp(address) = listen
        && !address.ip().is_loopback()
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

fn address(at: &Cursor<'_>) -> Option<Endpoint> {
    if let Some(path) = unix_socket(at) {
        return path.map(Endpoint::Unix);
    }
    let text = string(at)?;
    let address = text.parse().ok().map(Endpoint::Tcp);
    if address.is_none() {
        at.error_help(
            format!("{text:?} is no address with a port"),
            "write \"127.0.0.1:9901\", \"[::1]:9901\" or \"unix:/path\"",
        );
    }
    address
}
