//! Who may ask.

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, Method};
use std::hint::black_box;
use std::net::{Ipv6Addr, SocketAddr};

/// The rule of the endpoint: its token, or else callers that are no web page.
#[derive(Clone)]
pub(crate) struct Access {
    token: Option<String>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The token is missing or wrong.
    Token,
    /// A web page asks through the operator's browser.
    Browser,
}

impl Access {
    pub(crate) fn new(token: Option<String>) -> Self {
        Self { token }
    }

    /// Whether a request may be answered.
    ///
    /// Without a token, whoever reaches the loopback address may ask, and so may any web page in a browser of the same
    /// machine. Such a page gives itself away by a `Host` that is a name of its own (it made that name point here), or,
    /// when it sends a POST, by its `Origin`.
    pub(crate) fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Denied> {
        let Some(token) = &self.token else {
            let here = headers.get(HOST).is_none_or(|host| host.to_str().is_ok_and(is_local));
            let page = *method != Method::GET && headers.contains_key(ORIGIN);
            return if here && !page { Ok(()) } else { Err(Denied::Browser) };
        };
        let given = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().split_first_chunk::<7>());
        match given {
            Some((scheme, given)) if scheme.eq_ignore_ascii_case(b"bearer ") && same(given, token.as_bytes()) => Ok(()),
            _ => Err(Denied::Token),
        }
    }
}

/// Whether the two are the same, in a time that depends on their lengths only.
fn same(left: &[u8], right: &[u8]) -> bool {
    let difference = left.iter().zip(right).fold(0, |sum, (left, right)| black_box(sum | (left ^ right)));
    left.len() == right.len() && difference == 0
}

/// Whether `host`, as in a `Host` header, is an address or `localhost`, with or without a port.
fn is_local(host: &str) -> bool {
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) && !bare.contains(':') => bare,
        _ => host,
    };
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::Ipv4Addr>().is_ok()
        || bracketed.is_some_and(|inside| inside.parse::<Ipv6Addr>().is_ok())
        || host.parse::<SocketAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_token_is_compared_whole() {
        let access = Access::new(Some("s3cret".to_owned()));
        for (given, verdict) in [
            ("Bearer s3cret", Ok(())),
            ("bearer s3cret", Ok(())),
            ("Bearer s3cre", Err(Denied::Token)),
            ("Bearer s3crets", Err(Denied::Token)),
            ("Bearer S3cret", Err(Denied::Token)),
            ("Bearer ", Err(Denied::Token)),
            ("Bearer", Err(Denied::Token)),
            ("Basic s3cret", Err(Denied::Token)),
            ("s3cret", Err(Denied::Token)),
        ] {
            assert_eq!(access.check(&Method::GET, &headers(&[("authorization", given)])), verdict, "{given}");
        }
        assert_eq!(access.check(&Method::GET, &HeaderMap::new()), Err(Denied::Token));
    }

    #[test]
    fn without_a_token_web_pages_are_refused() {
        let access = Access::new(None);
        for host in ["localhost", "LOCALHOST:9901", "127.0.0.1", "127.0.0.1:9901", "[::1]", "[::1]:9901"] {
            assert_eq!(access.check(&Method::GET, &headers(&[("host", host)])), Ok(()), "{host}");
        }
        for host in
            ["evil.test", "evil.test:9901", "localhost.evil.test", "127.0.0.1.evil.test", "a:b:9901", "[::1", ""]
        {
            assert_eq!(access.check(&Method::GET, &headers(&[("host", host)])), Err(Denied::Browser), "{host}");
        }
        let page = headers(&[("host", "127.0.0.1:9901"), ("origin", "http://evil.test")]);
        assert_eq!(access.check(&Method::POST, &page), Err(Denied::Browser));
        assert_eq!(access.check(&Method::POST, &headers(&[("host", "127.0.0.1:9901")])), Ok(()));
    }
}
