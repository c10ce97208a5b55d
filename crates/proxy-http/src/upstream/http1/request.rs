//! How a request of HTTP/1.1 is written. Pure.

use crate::headers::Stamp;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, MAX_FORWARDS,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, Request};
use std::io::Write;

/// How the body of a request is delimited, and how far it is.
#[derive(Debug, Default)]
pub(super) enum Sent {
    /// There is none, or so many more bytes of it.
    #[default]
    None,
    Sized(u64),
    Chunked {
        /// Whether a chunk was begun, whose line end comes before what follows.
        open: bool,
        /// The trailers that the head has announced.
        announced: Vec<HeaderName>,
    },
}

/// Writes the head of a request whose body has `length` bytes; `None` if nobody knows how many.
///
/// The length is what the body says, whatever the fields say: a length beside `transfer-encoding` is how requests are
/// smuggled.
pub(super) fn encode(head: &Request<()>, stamp: Option<&Stamp>, length: Option<u64>, out: &mut Vec<u8>) -> Sent {
    out.reserve(ENOUGH);
    out.extend_from_slice(head.method().as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.uri().path_and_query().map_or("/", |path| path.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let (mut claimed, mut host) = (false, None);
    for (name, value) in head.headers() {
        if *name == CONTENT_LENGTH {
            claimed = true;
        } else if *name != TRANSFER_ENCODING {
            field(out, name.as_str(), value.as_bytes());
        }
        if *name == HOST {
            host = Some(value.as_bytes());
        }
    }
    if host.is_none()
        && let Some(authority) = head.uri().authority()
    {
        host = Some(authority.as_str().as_bytes());
        field(out, "host", authority.as_str().as_bytes());
    }
    if let Some(stamp) = stamp {
        stamp.write(host, out);
    }
    let sent = match length {
        Some(length) => {
            // A request without a body says so only if it did before.
            if claimed || length > 0 {
                write!(out, "content-length: {length}\r\n").expect("memory takes everything");
            }
            if length == 0 { Sent::None } else { Sent::Sized(length) }
        }
        None => {
            field(out, "transfer-encoding", b"chunked");
            Sent::Chunked { open: false, announced: announced(head.headers()) }
        }
    };
    out.extend_from_slice(b"\r\n");
    sent
}

/// Room for most heads.
const ENOUGH: usize = 512;

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn announced(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(TRAILER).into_iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(','));
    names.filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok()).filter(may_trail).collect()
}

/// Whether a field may come behind the body: not if it says how the message is to be read.
fn may_trail(name: &HeaderName) -> bool {
    const NEVER: [HeaderName; 12] = [
        AUTHORIZATION,
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        HOST,
        MAX_FORWARDS,
        SET_COOKIE,
        TRAILER,
        TRANSFER_ENCODING,
        TE,
    ];
    !NEVER.contains(name)
}

impl Sent {
    /// Writes what comes before `count` bytes of the body; `false` if there must not be so many.
    #[must_use]
    pub(super) fn before(&mut self, count: usize, out: &mut Vec<u8>) -> bool {
        match self {
            Self::None => false,
            Self::Sized(left) => {
                let less = left.checked_sub(count as u64);
                *left = less.unwrap_or(*left);
                less.is_some()
            }
            Self::Chunked { open, .. } => {
                let end = if std::mem::replace(open, true) { "\r\n" } else { "" };
                write!(out, "{end}{count:x}\r\n").expect("memory takes everything");
                true
            }
        }
    }

    /// Writes the end of the body; `false` if there should have been more of it.
    #[must_use]
    pub(super) fn end(&mut self, trailers: Option<&HeaderMap>, out: &mut Vec<u8>) -> bool {
        match self {
            Self::None => true,
            Self::Sized(left) => *left == 0,
            Self::Chunked { open, announced } => {
                out.extend_from_slice(if *open { b"\r\n0\r\n" } else { b"0\r\n" });
                for (name, value) in trailers.into_iter().flatten() {
                    if announced.contains(name) {
                        field(out, name.as_str(), value.as_bytes());
                    }
                }
                out.extend_from_slice(b"\r\n");
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(request: http::request::Builder, length: Option<u64>) -> (String, Sent) {
        let mut out = Vec::new();
        let sent = encode(&request.body(()).unwrap(), None, length, &mut out);
        (String::from_utf8(out).unwrap(), sent)
    }

    #[test]
    fn the_length_is_that_of_the_body() {
        let lying = || {
            let request = Request::builder().method("POST").uri("/a?b").header("host", "shop.test");
            request.header("content-length", "9").header("transfer-encoding", "chunked").header("x", "1")
        };
        let head = "POST /a?b HTTP/1.1\r\nhost: shop.test\r\nx: 1\r\n";
        for (length, fields) in [
            (Some(4), "content-length: 4\r\n\r\n"),
            (Some(0), "content-length: 0\r\n\r\n"),
            (None, "transfer-encoding: chunked\r\n\r\n"),
        ] {
            assert_eq!(encoded(lying(), length).0, format!("{head}{fields}"));
        }
        let silent = Request::builder().uri("http://shop.test:8080").header("te", "trailers");
        assert_eq!(encoded(silent, Some(0)).0, "GET / HTTP/1.1\r\nte: trailers\r\nhost: shop.test:8080\r\n\r\n");
    }

    #[test]
    fn a_body_is_as_long_as_it_was_announced() {
        let mut out = Vec::new();
        let mut sent = encoded(Request::builder(), Some(4)).1;
        assert!(sent.before(3, &mut out) && !sent.end(None, &mut out), "one is missing");
        assert!(!sent.before(2, &mut out), "one too many");
        assert!(sent.before(1, &mut out) && sent.end(None, &mut out) && out.is_empty());
        let mut none = encoded(Request::builder(), Some(0)).1;
        assert!(!none.before(1, &mut out) && none.end(None, &mut out));
    }

    #[test]
    fn chunks_have_their_sizes_and_announced_trailers_their_place() {
        let request = Request::builder().header("trailer", "x-sum, content-length , te");
        let mut sent = encoded(request, None).1;
        let mut out = Vec::new();
        assert!(sent.before(3, &mut out));
        out.extend_from_slice(b"abc");
        assert!(sent.before(17, &mut out));
        out.extend_from_slice(&[b'y'; 17]);
        let fields = [("x-sum", "7"), ("content-length", "1"), ("te", "x"), ("x-other", "8")];
        let trailers = fields.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        assert!(sent.end(Some(&HeaderMap::from_iter(trailers)), &mut out));
        let expected = format!("3\r\nabc\r\n11\r\n{}\r\n0\r\nx-sum: 7\r\n\r\n", "y".repeat(17));
        assert_eq!(String::from_utf8(out).unwrap(), expected);

        let (mut empty, mut out) = (encoded(Request::builder(), None).1, Vec::new());
        assert!(empty.end(None, &mut out));
        assert_eq!(out, b"0\r\n\r\n");
    }
}
