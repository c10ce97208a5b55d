//! What becomes of headers on their way through the proxy. Pure.

use crate::fields::{Fields, Value, text};
use crate::special::{alike, is_hop_by_hop, speaks_for_others};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, TE, TRAILER, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use proxy_route::{HeaderEdits, HeaderSource, IpSet};
use std::io::Write;
use std::net::IpAddr;

/// What carries the id of a request.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Removes what is meant for one connection only. `te: trailers` stays.
pub(crate) fn remove_hop_by_hop(headers: &mut Fields) {
    if !headers.may_be_special() {
        return;
    }
    // Looking once at the few headers there are is much cheaper than looking up each that might be.
    let (mut any, mut te) = (false, false);
    for name in headers.names() {
        any |= is_hop_by_hop(name);
        te |= name == b"te";
    }
    if any {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            // Most often it is one of these, which are no headers or go anyway.
            .filter(|token| !token.eq_ignore_ascii_case("keep-alive") && !token.eq_ignore_ascii_case("close"))
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            // To do without the host is for no connection to say.
            .filter(|name| name != TE && name != HOST)
            .collect();
        let is_named = |name: &[u8]| named.iter().any(|other| other.as_str().as_bytes() == name);
        headers.retain(|name, _| !is_hop_by_hop(name) && !is_named(name));
    }
    if te {
        let trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case("trailers"));
        headers.remove(&TE);
        if trailers {
            headers.push(TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// Puts the pieces together into which a client of HTTP/2 may cut its cookies (RFC 9113, 8.2.3): elsewhere they are one
/// field, and many a backend reads the first alone.
pub(crate) fn join_cookies(headers: &mut Fields) {
    let pieces: Vec<_> = headers.all(&COOKIE).collect();
    if pieces.len() > 1
        && let Ok(whole) = HeaderValue::from_maybe_shared(Bytes::from(pieces.join(&b"; "[..])))
    {
        headers.set(COOKIE, whole);
    }
}

/// Header fields in one request.
pub(crate) const MOST_HEADERS: usize = 100;

/// Whether a head is larger than one may be, as HTTP/2 counts it; there, nobody else looks.
pub(crate) fn is_too_large(headers: &Fields, most: usize) -> bool {
    let size = |(name, value): (&[u8], &[u8])| name.len() + value.len() + 32;
    headers.len() > MOST_HEADERS || headers.iter().map(size).sum::<usize>() > most
}

/// Whether a header says where a message ends or whom it is for: none of these may come behind a body.
fn is_framing(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH || *name == HOST || *name == TE || *name == TRAILER || is_hop_by_hop(bytes(name))
}

fn bytes(name: &HeaderName) -> &[u8] {
    name.as_str().as_bytes()
}

/// Whether some trailer is of the kind that none may be.
pub(crate) fn has_framing(trailers: &HeaderMap) -> bool {
    trailers.keys().any(|name| is_framing(name) || imitates_framing(bytes(name)))
}

/// Removes trailers of the kind that none may be.
pub(crate) fn remove_framing(trailers: &mut HeaderMap) {
    while let Some(name) = trailers.keys().find(|name| is_framing(name)).cloned() {
        trailers.remove(name);
    }
}

/// Whether servers that take `_` for `-` would take a header for one that says where the body ends.
pub(crate) fn imitates_framing(name: &[u8]) -> bool {
    let alike = |known| name.contains(&b'_') && alike(name, known);
    match name.len() {
        14 => alike(b"content-length"),
        17 => alike(b"transfer-encoding"),
        _ => false,
    }
}

/// The protocol that a request wants to change to, if it asks for that properly. `h2c` is not passed on.
pub(crate) fn upgrade(headers: &Fields) -> Option<HeaderValue> {
    if !headers.may_be_special() || !headers.has(&UPGRADE) {
        return None;
    }
    let asked = tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let h2c = tokens(headers, &UPGRADE).any(|token| token.eq_ignore_ascii_case("h2c"));
    if asked && !h2c { headers.value(&UPGRADE) } else { None }
}

/// What the backend is told of the client's side of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forwarding<'a> {
    /// Who is at the other end of the connection.
    pub(crate) from: IpAddr,
    /// Whether what it says of others is believed.
    pub(crate) trusted: bool,
    /// Whether it came over TLS.
    pub(crate) tls: bool,
    /// The host asked for.
    pub(crate) host: Option<&'a HeaderValue>,
    /// The port connected to.
    pub(crate) port: u16,
}

/// Makes the head of a request fit for a backend, but for its hop-by-hop headers.
pub(crate) fn forward(headers: &mut Fields, forwarding: &Forwarding<'_>) {
    let mut hops = address(forwarding.from);
    if headers.names().any(|name| name == b"expect" || speaks_for_others(name)) {
        // The proxy answers the expectation itself, when the backend asks for the body.
        headers.remove(&EXPECT);
        if forwarding.trusted {
            let name = &X_FORWARDED_FOR;
            let all = headers.all(name).chain([hops.as_bytes()]).filter_map(text);
            hops = HeaderValue::from_str(&all.collect::<Vec<_>>().join(", ")).unwrap_or(hops);
        } else {
            headers.retain(|name, _| !speaks_for_others(name));
        }
    }
    headers.reserve(ADDED);
    headers.set(X_FORWARDED_FOR, hops);
    let scheme = if forwarding.tls { "https" } else { "http" };
    headers.set_missing(X_FORWARDED_PROTO, || HeaderValue::from_static(scheme));
    if let Some(host) = forwarding.host {
        headers.set_missing(X_FORWARDED_HOST, || host.clone());
    }
    headers.set_missing(X_FORWARDED_PORT, || HeaderValue::from(forwarding.port));
}

/// What a backend is told of the client's side of a request that says nothing of it: what [`forward`] would insert, and
/// the id. Writing it is cheaper than making fields of it first.
#[derive(Clone, Debug)]
pub(crate) struct Stamp {
    pub(crate) from: IpAddr,
    pub(crate) tls: bool,
    pub(crate) port: u16,
    pub(crate) id: Value,
}

impl Stamp {
    /// Whether no field stands in the way of a stamp.
    pub(crate) fn fits(headers: &Fields) -> bool {
        !headers.may_be_special()
            || !headers.names().any(|name| matches!(name, b"expect" | b"x-request-id") || speaks_for_others(name))
    }

    /// Writes the fields as HTTP/1.1 has them, for a request of this host.
    pub(crate) fn write(&self, host: Option<&[u8]>, out: &mut Vec<u8>) {
        let Self { from, tls, port, id } = self;
        out.extend_from_slice(b"x-forwarded-for: ");
        write_address(*from, out);
        out.extend_from_slice(if *tls { b"\r\nx-forwarded-proto: https" } else { b"\r\nx-forwarded-proto: http" });
        if let Some(host) = host {
            out.extend_from_slice(b"\r\nx-forwarded-host: ");
            out.extend_from_slice(host);
        }
        out.extend_from_slice(b"\r\nx-forwarded-port: ");
        write_number(*port, out);
        out.extend_from_slice(b"\r\nx-request-id: ");
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// Puts the fields among others, for a request of this host.
    pub(crate) fn insert(self, host: Option<&HeaderValue>, headers: &mut Fields) {
        let Self { from, tls, port, id } = self;
        forward(headers, &Forwarding { from, trusted: false, tls, host, port });
        headers.set(X_REQUEST_ID, id);
    }
}

/// Fields that a request gains on its way, its id included: place for them is made once.
const ADDED: usize = 5;

/// Applies the rules of a route, in order. A name or value that cannot be one changes nothing. What is set or removed
/// also goes in its disguise, with `_` in place of `-`.
pub(crate) fn edit(headers: &mut Fields, edits: &HeaderEdits) {
    let disguised = !edits.0.is_empty() && headers.names().any(|name| name.contains(&b'_'));
    for (name, value) in &edits.0 {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        if disguised {
            headers.retain(|other, _| other == bytes(&name) || !alike(other, bytes(&name)));
        }
        match value {
            None => headers.remove(&name),
            Some(value) => set(headers, name, value),
        }
    }
}

/// An address as a value.
fn address(address: IpAddr) -> HeaderValue {
    let mut written = Vec::with_capacity(15);
    write_address(address, &mut written);
    HeaderValue::from_maybe_shared(Bytes::from(written)).expect("an address is visible ASCII")
}

// Both without the machinery of formatting: this is done for every request.

fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            let (mut text, mut end) = ([0; 16], 0);
            for octet in address.octets() {
                let (digits, length) = OCTETS[usize::from(octet)];
                text[end..end + 4].copy_from_slice(&digits);
                end += length;
            }
            // Without the last dot.
            out.extend_from_slice(&text[..end - 1]);
        }
        IpAddr::V6(address) => write!(out, "{address}").expect("memory takes everything"),
    }
}

/// The decimal digits of each byte with a dot behind them, and how many characters that is.
const OCTETS: [([u8; 4], usize); 256] = {
    let mut table = [([0; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let [hundreds, tens, ones] = [b'0' + digits[0] as u8, b'0' + digits[1] as u8, b'0' + digits[2] as u8];
        table[octet] = match octet {
            0..10 => ([ones, b'.', 0, 0], 2),
            10..100 => ([tens, ones, b'.', 0], 3),
            _ => ([hundreds, tens, ones, b'.'], 4),
        };
        octet += 1;
    }
    table
};

fn write_number(number: u16, out: &mut Vec<u8>) {
    let mut digits = [0; 5];
    let (mut begin, mut left) = (digits.len(), number);
    loop {
        begin -= 1;
        digits[begin] = b'0' + u8::try_from(left % 10).expect("a digit");
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[begin..]);
}

fn set(headers: &mut Fields, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.set(name, value);
    }
}

/// Who a request is for: `from`, or whom trusted proxies name: the right-most hop that is not one of them. A hop that
/// cannot be read ends the search at the proxy that told of it.
pub(crate) fn client(headers: &Fields, from: IpAddr, trusted: &IpSet) -> IpAddr {
    if !trusted.contains(from) {
        return from;
    }
    let listed = headers.has(&X_FORWARDED_FOR);
    let name = if listed { X_FORWARDED_FOR } else { FORWARDED };
    let hops: Vec<&str> = tokens(headers, &name).collect();
    let mut client = from;
    for hop in hops.into_iter().rev() {
        let Some(address) = (if listed { hop_address(hop) } else { forwarded_for(hop) }) else { break };
        client = address;
        if !trusted.contains(client) {
            break;
        }
    }
    client
}

/// The address of `for=` in one element of `forwarded`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let mut named = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    hop_address(named.next()?.1.trim().trim_matches('"'))
}

/// An address, with or without port and brackets.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let parsed = hop.parse::<IpAddr>().ok().or_else(|| {
        let bare = match hop.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?.0,
            None => hop.rsplit_once(':')?.0,
        };
        bare.parse().ok()
    });
    parsed.map(conn_tracker::canonical)
}

fn tokens<'a>(headers: &'a Fields, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.all(name).filter_map(text);
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// The headers of a request, for routes that match on them.
#[derive(Debug)]
pub(crate) struct Lookup<'a>(pub(crate) &'a Fields);

impl HeaderSource for Lookup<'_> {
    fn any(&self, name: &str, fits: &dyn Fn(&[u8]) -> bool) -> bool {
        self.0.iter().any(|(other, value)| other.eq_ignore_ascii_case(name.as_bytes()) && fits(value))
    }
}

#[cfg(test)]
mod tests;
