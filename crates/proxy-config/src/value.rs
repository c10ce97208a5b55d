//! Single values: numbers, times, choices, secrets, files.

use crate::cursor::{Cursor, did_you_mean, nearest, quoted};
use crate::tree::Value;
use proxy_route::{PortRange, ProxyVersion};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) fn string<'a>(at: &Cursor<'a>) -> Option<&'a str> {
    match &at.node.value {
        Value::String(text) => Some(text),
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) => {
            at.error_help(format!("this should be a string, not {}", at.node.value.kind()), "put it in double quotes");
            None
        }
        _ => {
            at.expected("a string");
            None
        }
    }
}

/// A string of at least one character and without control characters: names, which end up in logs and metrics.
pub(crate) fn name(at: &Cursor<'_>) -> Option<String> {
    let text = string(at)?;
    if text.is_empty() || text.chars().any(char::is_control) {
        at.error("a name has at least one character, and no line breaks or control characters");
        return None;
    }
    Some(text.to_owned())
}

pub(crate) fn boolean(at: &Cursor<'_>) -> Option<bool> {
    match &at.node.value {
        Value::Bool(value) => return Some(*value),
        Value::String(text) if ["true", "yes", "on"].contains(&text.as_str()) => {
            at.error_help("this should be a truth value, not a string", "write true");
        }
        Value::String(text) if ["false", "no", "off"].contains(&text.as_str()) => {
            at.error_help("this should be a truth value, not a string", "write false");
        }
        _ => at.expected("true or false"),
    }
    None
}

/// A whole number within `range`.
pub(crate) fn integer<T: TryFrom<i64>>(at: &Cursor<'_>, range: RangeInclusive<i64>) -> Option<T> {
    let (low, high) = (*range.start(), *range.end());
    match &at.node.value {
        Value::Integer(value) if range.contains(value) => return T::try_from(*value).ok(),
        Value::Integer(0) if low == 1 => {
            at.error_help("0 makes no sense here", format!("write 1 or more, up to {high}"));
        }
        Value::Integer(value) => at.error(format!("{value} is not within {low} to {high}")),
        Value::Float(_) => at.error(format!("this should be a whole number from {low} to {high}")),
        Value::String(text) if text.parse::<i64>().is_ok() => {
            at.error_help("this should be a number, not a string", format!("write {text} without quotes"));
        }
        _ => at.expected("a number"),
    }
    None
}

/// A number from 0 to 1.
pub(crate) fn share(at: &Cursor<'_>) -> Option<f64> {
    match at.node.value {
        Value::Integer(0) => return Some(0.0),
        Value::Integer(1) => return Some(1.0),
        Value::Float(value) if (0.0..=1.0).contains(&value) => return Some(value),
        Value::Integer(_) | Value::Float(_) => at.error_help("this is not within 0 to 1", "write 0.1 for one in ten"),
        _ => at.expected("a number from 0 to 1"),
    }
    None
}

/// A limit: `0` is unlimited.
pub(crate) fn limit(at: &Cursor<'_>) -> Option<u32> {
    integer(at, 0..=i64::from(u32::MAX))
}

/// A number that is at least 1.
pub(crate) fn positive(at: &Cursor<'_>) -> Option<u32> {
    integer(at, 1..=i64::from(u32::MAX))
}

/// A time: milliseconds, or a string with units.
pub(crate) fn duration(at: &Cursor<'_>) -> Option<Duration> {
    // Ten years: more is a slip, and clocks must not overflow by it.
    const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
    const EXAMPLES: &str = "write milliseconds as a number, or a string with a unit: \"500ms\", \"15s\", \"4h\"";
    let duration = match &at.node.value {
        Value::Integer(millis) => u64::try_from(*millis).ok().map(Duration::from_millis),
        Value::String(text) if text.trim() == "0" => Some(Duration::ZERO),
        Value::String(text) => humantime::parse_duration(text).ok(),
        _ => {
            at.expected("a time");
            return None;
        }
    };
    match duration {
        Some(duration) if duration <= LONGEST => return Some(duration),
        Some(_) => at.error_help("this is longer than ten years", "write 0 for \"never\""),
        None => at.error_help("this is no time", EXAMPLES),
    }
    None
}

/// A time after which something ends: `0` is never.
pub(crate) fn timeout(at: &Cursor<'_>) -> Option<Option<Duration>> {
    duration(at).map(|duration| (!duration.is_zero()).then_some(duration))
}

/// A time that cannot be 0.
pub(crate) fn period(at: &Cursor<'_>) -> Option<Duration> {
    let period = duration(at)?;
    if period.is_zero() {
        at.error("0 makes no sense here");
        return None;
    }
    Some(period)
}

/// One of some names. Those of `unbuilt` are known and refused.
pub(crate) fn choice<T: Copy>(at: &Cursor<'_>, names: &[(&str, T)], unbuilt: &[&str]) -> Option<T> {
    let text = string(at)?;
    if let Some((_, value)) = names.iter().find(|(name, _)| *name == text) {
        return Some(*value);
    }
    let known = || names.iter().map(|(name, _)| *name);
    if unbuilt.contains(&text) {
        at.error_help(format!("{text:?} is not supported yet"), format!("choose from {}", quoted(known())));
        return None;
    }
    let message = format!("{text:?} is none of {}", quoted(known()));
    match nearest(text, known()) {
        Some(name) => at.error_help(message, did_you_mean(name)),
        None => at.error(message),
    }
    None
}

pub(crate) fn port(at: &Cursor<'_>) -> Option<u16> {
    integer(at, 1..=65_535)
}

/// Ports: a number, `{from, to}`, or a list of those.
pub(crate) fn ports(at: &Cursor<'_>) -> Option<Vec<PortRange>> {
    let items = at.one_or_many();
    if items.is_empty() {
        at.error_help("a route without ports is never used", "name at least one port");
    }
    let count = items.len();
    let ranges: Vec<_> = items.iter().filter_map(port_range).collect();
    (count > 0 && ranges.len() == count).then_some(ranges)
}

fn port_range(at: &Cursor<'_>) -> Option<PortRange> {
    if !matches!(at.node.value, Value::Table(_)) {
        return port(at).map(PortRange::single);
    }
    let table = at.table()?;
    let from = table.require("from", "the first port").and_then(|at| port(&at));
    let to = table.require("to", "the last port").and_then(|at| port(&at));
    table.finish();
    let range = PortRange { from: from?, to: to? };
    if range.from > range.to {
        at.error_help("this range ends before it begins", format!("write from {} to {}", range.to, range.from));
        return None;
    }
    Some(range)
}

/// Whether a PROXY header is sent, and which.
pub(crate) fn send_proxy(at: &Cursor<'_>) -> Option<Option<ProxyVersion>> {
    match at.node.value {
        Value::Bool(send) => Some(send.then_some(ProxyVersion::V1)),
        Value::String(_) => choice(at, &[("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)], &[]).map(Some),
        _ => {
            at.expected("true, false, \"v1\" or \"v2\"");
            None
        }
    }
}

/// The path of `unix:/path`: `None` if the value is no Unix socket, `Some(None)` if it is a wrong one.
pub(crate) fn unix_socket(at: &Cursor<'_>) -> Option<Option<PathBuf>> {
    // The kernel keeps 108 bytes for a path, the last of which is 0.
    const LONGEST: usize = 107;
    let Value::String(text) = &at.node.value else { return None };
    let path = text.strip_prefix("unix:")?;
    if path.is_empty() {
        at.error_help("the path of the Unix socket is missing", "write it as in \"unix:/run/app.sock\"");
        return Some(None);
    }
    let path = at.sink.surroundings.resolve(Path::new(path));
    if path.as_os_str().len() > LONGEST {
        at.error_help(
            format!("{} is too long for a Unix socket", path.display()),
            format!("the system takes paths of up to {LONGEST} bytes"),
        );
        return Some(None);
    }
    Some(Some(path))
}

/// A secret: the text itself, `${VARIABLE}`, or `@file`.
pub(crate) fn secret(at: &Cursor<'_>) -> Option<String> {
    let text = string(at)?;
    let secret = if let Some(variable) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
        let value = at.sink.surroundings.variable(variable);
        if value.is_none() {
            at.error_help(format!("the environment variable {variable:?} is not set"), "set it before starting");
        }
        value?
    } else if let Some(path) = text.strip_prefix('@') {
        file(at, path)?.1.trim_end_matches(['\r', '\n']).to_owned()
    } else {
        text.to_owned()
    };
    if secret.is_empty() {
        at.error("a secret cannot be empty");
        return None;
    }
    Some(secret)
}

/// A file that the configuration refers to: where it is, and its text.
pub(crate) fn file(at: &Cursor<'_>, path: &str) -> Option<(PathBuf, String)> {
    if path.is_empty() {
        at.error("the name of a file is missing");
        return None;
    }
    let path = at.sink.surroundings.resolve(Path::new(path));
    match at.sink.surroundings.read(&path) {
        Ok(text) => Some((path, text)),
        Err(error) => {
            let help = "relative paths begin at the folder of the configuration";
            at.error_help(format!("{} cannot be read: {error}", path.display()), help);
            None
        }
    }
}
