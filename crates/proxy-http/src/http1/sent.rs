//! How a body of HTTP/1.1 is written. Pure.

use super::write_number;
use crate::fields::{Line, text};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, MAX_FORWARDS,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName};

/// How the body of a message is delimited, and how far it is.
#[derive(Debug, Default)]
pub(crate) enum Sent {
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
    /// By the end of the connection.
    UntilClose,
}

impl Sent {
    /// Writes what comes before `count` bytes of the body; `false` if there must not be so many.
    #[must_use]
    pub(crate) fn before(&mut self, count: usize, out: &mut Vec<u8>) -> bool {
        match self {
            Self::None => false,
            Self::Sized(left) => {
                let less = left.checked_sub(count as u64);
                *left = less.unwrap_or(*left);
                less.is_some()
            }
            Self::Chunked { open, .. } => {
                if std::mem::replace(open, true) {
                    out.extend_from_slice(b"\r\n");
                }
                write_number::<16>(count as u64, out);
                out.extend_from_slice(b"\r\n");
                true
            }
            Self::UntilClose => true,
        }
    }

    /// What comes behind the bytes, for a reader who is to know at once that the chunk is whole.
    pub(crate) fn behind(&mut self) -> &'static [u8] {
        let Self::Chunked { open, .. } = self else { return b"" };
        if std::mem::take(open) { b"\r\n" } else { b"" }
    }

    /// Writes the end of the body; `false` if there should have been more of it.
    #[must_use]
    pub(crate) fn end(&mut self, trailers: Option<&HeaderMap>, out: &mut Vec<u8>) -> bool {
        match self {
            Self::None | Self::UntilClose => true,
            Self::Sized(left) => *left == 0,
            Self::Chunked { open, announced } => {
                out.extend_from_slice(if *open { b"\r\n0\r\n" } else { b"0\r\n" });
                for (name, value) in trailers.into_iter().flatten() {
                    if announced.contains(name) {
                        field(out, name.as_str().as_bytes(), value.as_bytes());
                    }
                }
                out.extend_from_slice(b"\r\n");
                true
            }
        }
    }
}

/// Writes a field of a head that was read, or made.
pub(crate) fn line(out: &mut Vec<u8>, line: Line<'_>) {
    match line.whole {
        Some(whole) => out.extend_from_slice(whole),
        None => field(out, line.name, line.value),
    }
}

/// Writes a field of a head, or of trailers.
pub(crate) fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The trailers that a head announces in fields of these values, but for those that may be none.
pub(crate) fn announced<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<HeaderName> {
    let values = values.filter_map(text);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked(trailer: &'static str) -> Sent {
        Sent::Chunked { open: false, announced: announced([trailer.as_bytes()].into_iter()) }
    }

    #[test]
    fn a_body_is_as_long_as_it_was_announced() {
        let mut out = Vec::new();
        let mut sent = Sent::Sized(4);
        assert!(sent.before(3, &mut out) && !sent.end(None, &mut out), "one is missing");
        assert!(!sent.before(2, &mut out), "one too many");
        assert!(sent.before(1, &mut out) && sent.end(None, &mut out) && out.is_empty());
        assert!(!Sent::None.before(1, &mut out) && Sent::None.end(None, &mut out));
        let mut endless = Sent::UntilClose;
        assert!(endless.before(9, &mut out) && endless.behind().is_empty() && endless.end(None, &mut out));
        assert!(out.is_empty());
    }

    #[test]
    fn chunks_have_their_sizes_and_announced_trailers_their_place() {
        for at_once in [false, true] {
            let mut sent = chunked("x-sum, content-length , te");
            let mut out = Vec::new();
            for piece in [&b"abc"[..], &[b'y'; 17]] {
                assert!(sent.before(piece.len(), &mut out));
                out.extend_from_slice(piece);
                if at_once {
                    out.extend_from_slice(sent.behind());
                    assert!(out.ends_with(b"\r\n") && sent.behind().is_empty());
                }
            }
            let fields = [("x-sum", "7"), ("content-length", "1"), ("te", "x"), ("x-other", "8")];
            let trailers = fields.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
            assert!(sent.end(Some(&HeaderMap::from_iter(trailers)), &mut out));
            let expected = format!("3\r\nabc\r\n11\r\n{}\r\n0\r\nx-sum: 7\r\n\r\n", "y".repeat(17));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        let (mut empty, mut out) = (chunked(""), Vec::new());
        assert!(empty.end(None, &mut out));
        assert_eq!(out, b"0\r\n\r\n");
    }
}
