//! Headers: matched, changed, answered.

use crate::cursor::Cursor;
use crate::tree::Value;
use crate::value::string;
use proxy_route::{HeaderEdits, HeaderPattern, HeaderRules};

/// The `headers` of a route.
pub(crate) fn rules(at: &Cursor<'_>) -> Option<HeaderRules> {
    let table = at.table()?;
    let mut rules = HeaderRules::default();
    table.read("request", edits, &mut rules.request);
    table.read("response", edits, &mut rules.response);
    table.unsupported(&["cors"]);
    table.finish();
    Some(rules)
}

/// The headers that a request must have.
pub(crate) fn patterns(at: &Cursor<'_>) -> Option<Vec<(String, HeaderPattern)>> {
    let table = at.table()?;
    let mut patterns = Vec::new();
    for (name, key, value) in table.all() {
        if let (true, Some(pattern)) = (header_name(&key, name), pattern(&value)) {
            patterns.push((name.to_ascii_lowercase(), pattern));
        }
    }
    Some(patterns)
}

fn pattern(at: &Cursor<'_>) -> Option<HeaderPattern> {
    let text = string(at)?;
    let Some(regex) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) else {
        return Some(HeaderPattern::Exact(text.to_owned()));
    };
    match regex::bytes::Regex::new(regex) {
        Ok(regex) => Some(HeaderPattern::Regex(regex)),
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            at.error(format!("this is no regular expression: {reason}"));
            None
        }
    }
}

/// Headers of an answer.
pub(crate) fn fixed(at: &Cursor<'_>) -> Option<Vec<(String, String)>> {
    let table = at.table()?;
    let mut headers = Vec::new();
    for (name, key, value) in table.all() {
        if let (true, Some(value)) = (settable_name(&key, name), header_value(&value)) {
            headers.push((name.to_owned(), value));
        }
    }
    Some(headers)
}

fn edits(at: &Cursor<'_>) -> Option<HeaderEdits> {
    let table = at.table()?;
    let mut edits = Vec::new();
    for (name, key, value) in table.all() {
        if !settable_name(&key, name) {
            continue;
        }
        if value.is_none() {
            edits.push((name.to_owned(), None));
        } else if let Some(text) = header_value(&value) {
            templates(&value, &text);
            edits.push((name.to_owned(), Some(text)));
        }
    }
    Some(HeaderEdits(edits))
}

/// The original fills these in; sending them as they are would not mean the same.
fn templates(at: &Cursor<'_>, text: &str) {
    for template in ["{clientIp}", "{domain}", "{port}", "{path}", "{routeName}", "{requestId}", "{timestamp}"] {
        if text.contains(template) {
            at.error_help(format!("{template:?} in a header is not supported yet"), "write a fixed value");
        }
    }
}

fn header_name(at: &Cursor<'_>, name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let right = !name.is_empty() && name.bytes().all(token);
    if !right {
        at.error(format!("{name:?} is no header name"));
    }
    right
}

fn settable_name(at: &Cursor<'_>, name: &str) -> bool {
    const FRAMING: [&str; 8] = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
        at.error_help(format!("{name:?} is the proxy's own: it says how messages are framed"), "remove it");
        return false;
    }
    header_name(at, name)
}

fn header_value(at: &Cursor<'_>) -> Option<String> {
    if at.node.value == Value::Null {
        at.expected("a string");
        return None;
    }
    let text = string(at)?;
    if text.chars().any(|char| char.is_control() && char != '\t') {
        at.error("a header value has no line breaks or control characters");
        return None;
    }
    Some(text.to_owned())
}
