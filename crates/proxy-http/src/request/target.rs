//! What a request asks for.

use crate::fields::{Fields, text};
use crate::headers::imitates_framing;
use crate::message::Head;
use http::header::{HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri, Version};
use std::net::Ipv6Addr;

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// The host, as the client wrote it; empty if it named none.
    host: &'a str,
    /// The URI, in whatever form it came.
    uri: &'a Uri,
}

impl<'a> Target<'a> {
    /// Reads the target of a request that is [complete]; `is_extended`: it asks its stream to become a tunnel.
    ///
    /// # Errors
    /// The status for a request whose target cannot be told: none or several hosts, a host that is not one, no path, or a
    /// method that asks for a tunnel to anywhere. Also for a body in a coding that would be lost on the way.
    pub(super) fn of(head: &'a Head, is_extended: bool) -> Result<Self, StatusCode> {
        let Head { method, uri, version, fields } = head;
        if *method == Method::CONNECT && !is_extended {
            return Err(StatusCode::METHOD_NOT_ALLOWED);
        }
        if has_foreign_coding(fields) {
            return Err(StatusCode::NOT_IMPLEMENTED);
        }
        let named = host(fields, *version)?;
        if *version == Version::HTTP_2 {
            check_http2(fields, uri, named)?;
        }
        // What is matched has to be what is sent: no host in place of the path, and `*` only where it means the server.
        let of_server = uri.path() == "*" && *method == Method::OPTIONS;
        if !uri.path().starts_with('/') && !of_server {
            return Err(StatusCode::BAD_REQUEST);
        }
        let target = Self::with(named, uri);
        // One that is overruled has to be a host, too.
        let is_odd = uri.authority().is_some() && !is_host(named);
        if !is_odd && is_host(target.host) { Ok(target) } else { Err(StatusCode::BAD_REQUEST) }
    }

    /// The target of a request that has one.
    pub(super) fn seen(head: &'a Head) -> Self {
        Self::with(head.fields.get(&HOST).and_then(text).unwrap_or_default(), &head.uri)
    }

    fn with(named: &'a str, uri: &'a Uri) -> Self {
        Self { host: uri.authority().map_or(named, |authority| authority.as_str()), uri }
    }

    /// The host, as the client wrote it; empty if it named none.
    pub(super) const fn host(&self) -> &'a str {
        self.host
    }

    /// The path, without query.
    pub(super) fn path(&self) -> &'a str {
        self.uri.path()
    }

    /// Path and query.
    pub(super) fn path_and_query(&self) -> &'a str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }

    /// The host without its port.
    pub(super) fn domain(&self) -> &'a str {
        match self.host().rsplit_once(':') {
            Some((domain, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => domain,
            _ => self.host(),
        }
    }
}

/// The one `Host` of a request.
fn host(fields: &Fields, version: Version) -> Result<&str, StatusCode> {
    let mut hosts = fields.all(&HOST);
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => text(host).ok_or(StatusCode::BAD_REQUEST),
        (None, _) if version != Version::HTTP_11 => Ok(""),
        _ => Err(StatusCode::BAD_REQUEST),
    }
}

/// What HTTP/2 demands, where h2 does not see to it: one host, and nothing that HTTP/1.1 would read as its framing,
/// which for that version was looked at when the head was read.
fn check_http2(fields: &Fields, uri: &Uri, named: &str) -> Result<(), StatusCode> {
    let authority = uri.authority().map(|authority| authority.as_str());
    let one = match (authority, named) {
        (None, named) => !named.is_empty(),
        (Some(_), "") => !fields.has(&HOST),
        (Some(authority), named) => authority.eq_ignore_ascii_case(named),
    };
    if one && !fields.names().any(imitates_framing) { Ok(()) } else { Err(StatusCode::BAD_REQUEST) }
}

/// Whether the body is in a transfer coding besides `chunked`. The coding belongs to one connection, so it would be taken
/// off the head and stay on the body.
fn has_foreign_coding(fields: &Fields) -> bool {
    fields.may_be_special() && fields.all(&TRANSFER_ENCODING).any(|value| !value.eq_ignore_ascii_case(b"chunked"))
}

/// Whether a text is a host, perhaps with a port, or nothing; above all no user, path or second host.
fn is_host(text: &str) -> bool {
    let (is_host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let Some((address, port)) = bracketed.split_once(']') else { return false };
            (address.parse::<Ipv6Addr>().is_ok(), port.as_bytes())
        }
        None => {
            let end = text.bytes().position(|byte| !IN_NAME[usize::from(byte)]).unwrap_or(text.len());
            (true, &text.as_bytes()[end..])
        }
    };
    is_host
        && match port {
            [] => true,
            [colon, port @ ..] => *colon == b':' && port.iter().all(u8::is_ascii_digit),
        }
}

/// Whether a byte may be in the name of a host. A table, as every byte of every host is looked up.
const IN_NAME: [bool; 256] = {
    let (mut table, marks) = ([false; 256], b"-._~%!$&'()*+;=");
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut mark = 0;
    while mark < marks.len() {
        table[marks[mark] as usize] = true;
        mark += 1;
    }
    table
};

/// Has a request ask for a path where it names a query alone: `http://shop.test?x` asks for `/?x`, and is passed on so.
pub(super) fn complete(head: &mut Head) {
    let lacking = head.uri.path_and_query().filter(|path| path.as_str().starts_with('?'));
    if let Some(path) = lacking.and_then(|path| PathAndQuery::try_from(format!("/{}", path.as_str())).ok()) {
        let mut parts = std::mem::take(&mut head.uri).into_parts();
        parts.path_and_query = Some(path);
        head.uri = Uri::from_parts(parts).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of a request, and what its target is found to be.
    fn head(version: Version, method: &str, uri: &str, hosts: &[&str]) -> Head {
        let mut request = http::Request::builder().version(version).method(method).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let mut head = head.into();
        complete(&mut head);
        head
    }

    #[test]
    fn one_host_is_asked_for() {
        let bad = StatusCode::BAD_REQUEST;
        type Case<'a> = (Version, &'a str, &'a [&'a str], Result<&'a str, StatusCode>);
        let cases: &[Case<'_>] = &[
            (Version::HTTP_11, "/", &["shop.test"], Ok("shop.test")),
            (Version::HTTP_11, "/", &["shop.test:8080"], Ok("shop.test:8080")),
            (Version::HTTP_11, "/", &["[::1]:80"], Ok("[::1]:80")),
            (Version::HTTP_11, "/", &[""], Ok("")),
            (Version::HTTP_11, "/", &[], Err(bad)),
            (Version::HTTP_10, "/", &[], Ok("")),
            (Version::HTTP_11, "/", &["a.test", "b.test"], Err(bad)),
            (Version::HTTP_10, "/", &["a.test", "a.test"], Err(bad)),
            (Version::HTTP_11, "/", &["user@shop.test"], Err(bad)),
            (Version::HTTP_11, "/", &["a.test,b.test"], Err(bad)),
            (Version::HTTP_11, "/", &["a.test/x"], Err(bad)),
            (Version::HTTP_11, "/", &["a.test:80:80"], Err(bad)),
            (Version::HTTP_11, "/", &["a.test:http"], Err(bad)),
            (Version::HTTP_11, "/", &["a.test:"], Ok("a.test:")),
            (Version::HTTP_11, "/", &["[::1"], Err(bad)),
            (Version::HTTP_11, "/", &["[::1]a"], Err(bad)),
            (Version::HTTP_11, "/", &["[a.test]"], Err(bad)),
            (Version::HTTP_11, "/", &["a[::1]"], Err(bad)),
            (Version::HTTP_11, "/", &["[::ffff:192.0.2.1]"], Ok("[::ffff:192.0.2.1]")),
            (Version::HTTP_11, "http://b.test/x", &["a.test"], Ok("b.test")),
            (Version::HTTP_11, "http://b.test/x", &["a.test/y"], Err(bad)),
            (Version::HTTP_2, "https://b.test/x", &[], Ok("b.test")),
            (Version::HTTP_2, "https://b.test/x", &["B.test"], Ok("b.test")),
            (Version::HTTP_2, "https://b.test/x", &["a.test"], Err(bad)),
            (Version::HTTP_2, "https://b.test/x", &[""], Err(bad)),
            (Version::HTTP_2, "/x", &["a.test"], Ok("a.test")),
            (Version::HTTP_2, "/x", &[], Err(bad)),
        ];
        for (version, uri, hosts, expected) in cases {
            let head = head(*version, "GET", uri, hosts);
            let found = Target::of(&head, false);
            assert_eq!(found.as_ref().map(Target::host).map_err(|status| *status), *expected, "{uri} {hosts:?}");
        }
    }

    #[test]
    fn tunnels_to_anywhere_are_refused() {
        let head = head(Version::HTTP_11, "CONNECT", "shop.test:443", &["shop.test"]);
        assert_eq!(Target::of(&head, false).unwrap_err(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn a_target_has_a_path() {
        let bad = StatusCode::BAD_REQUEST;
        for (method, uri, expected) in [
            ("GET", "shop.test", Err(bad)),
            ("GET", "shop.test:80", Err(bad)),
            ("GET", "*", Err(bad)),
            ("OPTIONS", "*", Ok("*")),
            ("GET", "http://shop.test", Ok("/")),
            ("GET", "//shop.test/x", Ok("//shop.test/x")),
        ] {
            let head = head(Version::HTTP_11, method, uri, &["shop.test"]);
            let target = Target::of(&head, false);
            assert_eq!(target.as_ref().map(Target::path).map_err(|status| *status), expected, "{method} {uri}");
        }
    }

    #[test]
    fn a_query_has_a_path_before_it() {
        for (uri, expected) in [
            ("http://shop.test?x=1", "/?x=1"),
            ("http://shop.test", "/"),
            ("http://shop.test/a?x=1", "/a?x=1"),
            ("/?x=1", "/?x=1"),
        ] {
            let head = head(Version::HTTP_11, "GET", uri, &["shop.test"]);
            assert_eq!(Target::of(&head, false).unwrap().path_and_query(), expected, "{uri}");
        }
    }

    #[test]
    fn the_port_is_no_part_of_the_domain() {
        for (host, domain) in [("a.test:80", "a.test"), ("a.test", "a.test"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]")]
        {
            let head = head(Version::HTTP_11, "GET", "/", &[host]);
            assert_eq!(Target::of(&head, false).unwrap().domain(), domain);
            assert_eq!(Target::seen(&head).host(), host);
        }
    }
}
