//! How the head of a response of HTTP/1 is written. Pure.

use crate::fields::Fields;
use crate::http1::{Sent, announced, field, line, write_number};
use http::header::TRAILER;
use http::{StatusCode, Version};

/// What a request says of its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) version: Version,
    pub(super) is_head: bool,
    /// Whether another request may follow.
    pub(super) keeps: bool,
    /// Whether trailers are wanted.
    pub(super) trailers: bool,
}

/// Writes the head of a response whose body has `length` bytes; `None` if nobody knows how many. Answers how the body
/// goes, and whether another request may follow.
///
/// The length is what the body says, whatever the fields say.
pub(super) fn encode(
    status: StatusCode,
    fields: &Fields,
    asker: &Asker,
    length: Option<u64>,
    date: impl FnOnce(&mut Vec<u8>),
    out: &mut Vec<u8>,
) -> (Sent, bool) {
    let is_1_1 = asker.version == Version::HTTP_11;
    let framing = Framing::of(status, asker, length);
    out.reserve(ENOUGH);
    begin(status, is_1_1, out);
    let (mut dated, mut connected, mut closes) = (false, false, false);
    for one in fields.lines() {
        let (name, value) = (one.name, one.value);
        match (name.len(), name) {
            // To a HEAD it is that of the body that a GET would have.
            (14, b"content-length") if !matches!(framing, Framing::OfGet) => continue,
            (17, b"transfer-encoding") => continue,
            (7, b"trailer") if !matches!(framing, Framing::Chunked) => continue,
            (4, b"date") => dated = true,
            (10, b"connection") => {
                connected = true;
                closes |=
                    value.split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"));
            }
            _ => {}
        }
        line(out, one);
    }
    let keeps = asker.keeps && !closes && !matches!(framing, Framing::UntilClose);
    match (keeps, is_1_1) {
        _ if status == StatusCode::SWITCHING_PROTOCOLS => {}
        (false, true) if !closes => field(out, b"connection", b"close"),
        (true, false) if !connected => field(out, b"connection", b"keep-alive"),
        _ => {}
    }
    let sent = match framing {
        Framing::None | Framing::OfGet => Sent::None,
        Framing::Sized(length) => {
            out.extend_from_slice(b"content-length: ");
            write_number::<10>(length, out);
            out.extend_from_slice(b"\r\n");
            if length == 0 { Sent::None } else { Sent::Sized(length) }
        }
        Framing::Chunked => {
            field(out, b"transfer-encoding", b"chunked");
            Sent::Chunked {
                open: false,
                announced: if asker.trailers { announced(fields.all(&TRAILER)) } else { Vec::new() },
            }
        }
        Framing::UntilClose => Sent::UntilClose,
    };
    if !dated {
        out.extend_from_slice(b"date: ");
        date(out);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    (sent, keeps)
}

/// Room for most heads with a small body.
const ENOUGH: usize = 2048;

/// What asks a client that waits for it to send its body.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

fn begin(status: StatusCode, is_1_1: bool, out: &mut Vec<u8>) {
    if status == StatusCode::OK && is_1_1 {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(if is_1_1 { b"HTTP/1.1 " } else { b"HTTP/1.0 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    // Many a client wants to see one.
    out.extend_from_slice(status.canonical_reason().unwrap_or("unknown").as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Where the body of a response ends.
#[derive(Clone, Copy, Debug)]
enum Framing {
    /// There is none, and no word of it.
    None,
    /// There is none, but it is told of that of a GET.
    OfGet,
    Sized(u64),
    Chunked,
    UntilClose,
}

impl Framing {
    fn of(status: StatusCode, asker: &Asker, length: Option<u64>) -> Self {
        match length {
            _ if status.is_informational() => Self::None,
            _ if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) => Self::None,
            _ if asker.is_head => Self::OfGet,
            Some(length) => Self::Sized(length),
            None if asker.version == Version::HTTP_11 => Self::Chunked,
            None => Self::UntilClose,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    const ASKER: Asker = Asker { version: Version::HTTP_11, is_head: false, keeps: true, trailers: false };
    const OLD: Asker = Asker { version: Version::HTTP_10, ..ASKER };

    fn encoded(
        status: u16,
        fields: &[(&'static str, &'static str)],
        asker: &Asker,
        length: Option<u64>,
    ) -> (String, Sent, bool) {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), value.parse::<http::HeaderValue>().unwrap())
        };
        let (headers, mut out) = (fields.iter().map(pair).collect(), Vec::new());
        let date = |out: &mut Vec<u8>| out.extend_from_slice(b"today");
        let (sent, keeps) = encode(StatusCode::from_u16(status).unwrap(), &headers, asker, length, date, &mut out);
        (String::from_utf8(out).unwrap(), sent, keeps)
    }

    #[test]
    fn a_body_ends_where_its_head_says() {
        let head = Asker { is_head: true, ..ASKER };
        let lying = [("content-length", "9"), ("transfer-encoding", "gzip"), ("trailer", "x-sum")];
        type Case<'a> = (u16, &'a Asker, Option<u64>, &'a str, bool);
        let cases: &[Case<'_>] = &[
            (200, &ASKER, Some(4), "HTTP/1.1 200 OK\r\ncontent-length: 4\r\ndate: today\r\n\r\n", true),
            (404, &ASKER, Some(0), "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\ndate: today\r\n\r\n", true),
            (299, &ASKER, Some(0), "HTTP/1.1 299 unknown\r\ncontent-length: 0\r\ndate: today\r\n\r\n", true),
            (204, &ASKER, Some(0), "HTTP/1.1 204 No Content\r\ndate: today\r\n\r\n", true),
            (304, &ASKER, None, "HTTP/1.1 304 Not Modified\r\ndate: today\r\n\r\n", true),
            (200, &head, Some(0), "HTTP/1.1 200 OK\r\ncontent-length: 9\r\ndate: today\r\n\r\n", true),
            (101, &ASKER, Some(0), "HTTP/1.1 101 Switching Protocols\r\ndate: today\r\n\r\n", true),
            (
                200,
                &ASKER,
                None,
                "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\ndate: today\r\n\r\n",
                true,
            ),
            (200, &OLD, None, "HTTP/1.0 200 OK\r\ndate: today\r\n\r\n", false),
            (
                200,
                &OLD,
                Some(4),
                "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 4\r\ndate: today\r\n\r\n",
                true,
            ),
        ];
        for (status, asker, length, expected, keeps) in cases {
            let (text, sent, kept) = encoded(*status, &lying, asker, *length);
            assert_eq!((&text[..], kept), (*expected, *keeps));
            let framing = match (length, text.contains("chunked")) {
                (None, true) => matches!(sent, Sent::Chunked { .. }),
                (None, false) if *status == 200 => matches!(sent, Sent::UntilClose),
                (Some(4), _) => matches!(sent, Sent::Sized(4)),
                _ => matches!(sent, Sent::None),
            };
            assert!(framing, "{text} {sent:?}");
        }
    }

    #[test]
    fn who_is_not_to_ask_again_is_told() {
        let last = Asker { keeps: false, ..ASKER };
        for (asker, fields, told, keeps) in [
            (&last, &[][..], "connection: close\r\n", false),
            (&last, &[("connection", "x, Close")], "connection: x, Close\r\n", false),
            (&ASKER, &[("connection", "close")], "connection: close\r\n", false),
            (&Asker { keeps: false, ..OLD }, &[], "", false),
            (&OLD, &[("connection", "close")], "connection: close\r\n", false),
            (&ASKER, &[], "", true),
        ] {
            let (text, _, kept) = encoded(200, fields, asker, Some(1));
            let expected = format!(" 200 OK\r\n{told}content-length: 1\r\ndate: today\r\n\r\n");
            assert!(text.ends_with(&expected) && kept == keeps, "{text}");
        }
        let upgrade = [("connection", "upgrade"), ("upgrade", "x"), ("date", "yesterday")];
        let (text, ..) = encoded(101, &upgrade, &last, Some(0));
        assert!(text.ends_with("Protocols\r\nconnection: upgrade\r\nupgrade: x\r\ndate: yesterday\r\n\r\n"), "{text}");
    }

    #[test]
    fn trailers_come_only_to_those_who_want_them() {
        for trailers in [false, true] {
            let (_, sent, _) = encoded(200, &[("trailer", "x-sum")], &Asker { trailers, ..ASKER }, None);
            let Sent::Chunked { announced, .. } = sent else { panic!("{sent:?}") };
            assert_eq!(announced.len(), usize::from(trailers));
        }
    }
}
