//! How the head of a response of HTTP/1 is read. Pure.

use crate::fields::Fields;
use crate::http1::{Malformed, decimal};
use bytes::BytesMut;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use std::mem::MaybeUninit;

/// The head of a response.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) fields: Fields,
    pub(super) framing: Framing,
    /// Whether the connection stays open after the response.
    pub(super) keeps: bool,
}

/// Where the body of a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Sized(u64),
    Chunked,
    /// With the connection.
    UntilClose,
    /// There is no body: what follows is another protocol.
    Switched,
}

/// Takes the head of the response from `bytes`, behind any that only inform; `None` if it is not there whole. `to_head`:
/// it answers a HEAD, so it has no body whatever it says.
pub(super) fn parse(bytes: &mut BytesMut, to_head: bool) -> Result<Option<Head>, Malformed> {
    while !bytes.is_empty() {
        let Some(head) = one(bytes, to_head)? else { return Ok(None) };
        if !head.status.is_informational() || head.framing == Framing::Switched {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

/// Fields that a response may have, and bytes that its head may have.
const MOST_FIELDS: usize = 128;
const LONGEST: usize = 64 * 1024;

#[inline(never)] // Its place on the stack is large, and most turns of a request do without.
fn one(bytes: &mut BytesMut, to_head: bool) -> Result<Option<Head>, Malformed> {
    let mut space = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut space);
    let length = match parsed.map_err(|_| Malformed)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial if bytes.len() >= LONGEST => return Err(Malformed),
        httparse::Status::Partial => return Ok(None),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed)?;
    let is_1_1 = response.version == Some(1);
    let mut fields = Fields::with_capacity(response.headers.len() + ADDED);
    let begin = bytes.as_ptr().addr();
    if !fields.found(response.headers, begin) {
        return Err(Malformed);
    }
    let mut reading = Reading::default();
    fields.read(bytes.split_to(length), |name, value| reading.field(name, value))?;
    if reading.coded && reading.length.is_some() {
        fields.remove(&CONTENT_LENGTH);
    }
    let head =
        Head { status, fields, framing: reading.framing(status, to_head, is_1_1)?, keeps: reading.keeps(is_1_1) };
    Ok(Some(head))
}

/// Fields that a response gains on its way: place for them is made once.
const ADDED: usize = 2;

/// What the fields say of where the response ends, and the connection.
#[derive(Debug, Default)]
struct Reading {
    length: Option<u64>,
    coded: bool,
    closes: bool,
    stays: bool,
    until_close: bool,
}

impl Reading {
    /// Takes note of a field; whether it is to be passed on. A length that is given twice is passed on once, and what is
    /// of this connection alone, and of no tunnel, not at all.
    fn field(&mut self, name: &[u8], value: &[u8]) -> Result<bool, Malformed> {
        if name == b"content-length" {
            let length = length(value)?;
            if self.length.is_some_and(|before| before != length) {
                return Err(Malformed);
            }
            return Ok(self.length.replace(length).is_none());
        }
        if name == b"transfer-encoding" {
            // Another coding would be lost with the field, as it is one of this connection, and stay on the body.
            if self.coded || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed);
            }
            self.coded = true;
            return Ok(false);
        }
        if name == b"connection" {
            let mut others = false;
            for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                let (closes, stays) = (token.eq_ignore_ascii_case(b"close"), token.eq_ignore_ascii_case(b"keep-alive"));
                self.closes |= closes;
                self.stays |= stays;
                others |= !closes && !stays;
            }
            return Ok(others);
        }
        Ok(true)
    }

    fn framing(&mut self, status: StatusCode, to_head: bool, is_1_1: bool) -> Result<Framing, Malformed> {
        Ok(match status {
            StatusCode::SWITCHING_PROTOCOLS => Framing::Switched,
            _ if status.is_informational() || to_head => Framing::Sized(0),
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Framing::Sized(0),
            _ if self.coded && !is_1_1 => return Err(Malformed),
            _ if self.coded => Framing::Chunked,
            _ => match self.length {
                Some(length) => Framing::Sized(length),
                None => {
                    self.until_close = true;
                    Framing::UntilClose
                }
            },
        })
    }

    fn keeps(&self, is_1_1: bool) -> bool {
        // A length beside a coding may be an attempt to have the next response misread.
        let doubtful = self.until_close || self.coded && self.length.is_some();
        !self.closes && !doubtful && (is_1_1 || self.stays)
    }
}

/// A length, be it given several times in one field.
fn length(value: &[u8]) -> Result<u64, Malformed> {
    let mut length = None;
    for digits in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        let number = decimal(digits)?;
        if length.replace(number).is_some_and(|before| before != number) {
            return Err(Malformed);
        }
    }
    length.ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, to_head: bool) -> Result<Option<(u16, Framing, bool)>, Malformed> {
        let mut bytes = BytesMut::from(text);
        let head = parse(&mut bytes, to_head)?;
        Ok(head.map(|head| (head.status.as_u16(), head.framing, head.keeps)))
    }

    #[test]
    fn a_response_ends_where_its_head_says() {
        use Framing::{Chunked, Sized, Switched, UntilClose};
        type Case = (&'static str, &'static str, Result<(Framing, bool), Malformed>);
        let cases: &[Case] = &[
            ("1.1 200", "content-length: 5", Ok((Sized(5), true))),
            ("1.1 200", "content-length: 5\r\ncontent-length: 5", Ok((Sized(5), true))),
            ("1.1 200", "content-length: 5, 5", Ok((Sized(5), true))),
            ("1.1 200", "content-length: 5, 6", Err(Malformed)),
            ("1.1 200", "content-length: 5\r\ncontent-length: 6", Err(Malformed)),
            ("1.1 200", "content-length: +5", Err(Malformed)),
            ("1.1 200", "content-length: ", Err(Malformed)),
            ("1.1 200", "content-length: 99999999999999999999", Err(Malformed)),
            ("1.1 200", "content-length : 5", Err(Malformed)),
            ("1.1 200", "x: y", Ok((UntilClose, false))),
            ("1.1 200", "transfer-encoding: Chunked", Ok((Chunked, true))),
            ("1.1 200", "transfer-encoding: chunked\r\ncontent-length: 5", Ok((Chunked, false))),
            ("1.1 200", "transfer-encoding: gzip, chunked", Err(Malformed)),
            ("1.1 200", "transfer-encoding: chunked\r\ntransfer-encoding: chunked", Err(Malformed)),
            ("1.0 200", "transfer-encoding: chunked", Err(Malformed)),
            ("1.0 200", "content-length: 5", Ok((Sized(5), false))),
            ("1.0 200", "content-length: 5\r\nconnection: Keep-Alive", Ok((Sized(5), true))),
            ("1.1 200", "content-length: 5\r\nconnection: x, Close\r\nconnection: keep-alive", Ok((Sized(5), false))),
            ("1.1 204", "content-length: 5", Ok((Sized(0), true))),
            ("1.1 304", "content-length: 5", Ok((Sized(0), true))),
            ("1.1 101", "upgrade: x", Ok((Switched, true))),
            ("2.0 200", "content-length: 5", Err(Malformed)),
            ("1.1 99", "content-length: 5", Err(Malformed)),
        ];
        for (line, fields, expected) in cases {
            let text = format!("HTTP/{line} Text\r\n{fields}\r\n\r\n");
            let found = read(&text, false).map(|head| head.map(|(_, framing, keeps)| (framing, keeps)));
            assert_eq!(found, expected.map(Some), "{text}");
        }
        assert_eq!(read("HTTP/1.1 200\r\ncontent-length: 5\r\n\r\n", true), Ok(Some((200, Sized(0), true))));
    }

    #[test]
    fn what_only_informs_is_passed_over_and_what_follows_stays() {
        let mut bytes = BytesMut::from(
            &b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\na: c\r\n\r\nbody"[..],
        );
        let head = parse(&mut bytes, false).unwrap().unwrap();
        assert_eq!((head.status.as_u16(), &bytes[..]), (200, &b"body"[..]));
        assert_eq!(head.fields.all(&http::HeaderName::from_static("a")).collect::<Vec<_>>(), [b"b", b"c"]);
    }

    #[test]
    fn a_head_may_come_in_any_pieces() {
        let text = b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
        for end in 0..text.len() {
            let mut bytes = BytesMut::from(&text[..end]);
            assert!(parse(&mut bytes, false).unwrap().is_none(), "{end}");
        }
        let mut endless = BytesMut::from(&[b"HTTP/1.1 200 OK\r\nx: ".as_slice(), &vec![b'y'; LONGEST]].concat()[..]);
        assert_eq!(parse(&mut endless, false).unwrap_err(), Malformed);
    }
}
