//! How the head of a request of HTTP/1 is read: once, and so that it can be understood in one way only. Pure.

use super::rest::Rest;
use crate::fields::Fields;
use crate::headers::{MOST_HEADERS, imitates_framing};
use crate::http1::{HeadReader, Malformed, Unread, decimal};
use crate::message;
use bytes::BytesMut;
use http::{Method, StatusCode, Uri, Version};
use std::ops::Range;

/// The head of a request, and what it says of its connection.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) request: Box<message::Head>,
    /// What comes behind the head, if anything does.
    pub(super) rest: Option<Rest>,
    /// Whether another request may come behind this one.
    pub(super) keeps: bool,
    /// Whether the client waits with the body until it is asked for it.
    pub(super) expects: bool,
    /// Whether it wants to see trailers.
    pub(super) trailers: bool,
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is none, or could be understood in two ways.
    Malformed,
    TooLarge,
    TargetTooLong,
}

impl Refused {
    /// What the client is answered.
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
        }
    }

    /// What is told of it.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "request_malformed",
            Self::TooLarge | Self::TargetTooLong => "header_too_large",
        }
    }
}

impl From<Malformed> for Refused {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Bytes that a target may have; `http` takes no more.
const LONGEST_TARGET: usize = u16::MAX as usize - 1;

/// Takes the head of a request of up to `most` bytes from `bytes`; `None` if it is not there whole. Its fields take the
/// place of `spare`.
///
/// Nothing is copied: values share the memory that they were read to.
pub(super) fn parse(bytes: &mut BytesMut, most: usize, spare: &mut Fields) -> Result<Option<Head>, Refused> {
    spare.clear();
    let line = match Line::read(bytes, spare) {
        Ok(line) if line.length <= most => line,
        Err(Unread::Partial) if bytes.len() <= most => return Ok(None),
        Ok(_) | Err(Unread::Partial | Unread::TooMany) => return Err(Refused::TooLarge),
        Err(Unread::Malformed) => return Err(Refused::Malformed),
    };
    if line.target.len() > LONGEST_TARGET {
        return Err(Refused::TargetTooLong);
    }
    let method = Method::from_bytes(&bytes[line.method]).map_err(|_| Refused::Malformed)?;
    let version = if line.is_1_1 { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut fields = std::mem::take(spare);
    let mut reading = Reading::default();
    let head = fields.read(bytes.split_to(line.length), |name, value| reading.field(name, value, version))?;
    let uri = Uri::from_maybe_shared(head.slice(line.target)).map_err(|_| Refused::Malformed)?;
    let keeps = reading.keeps(&method, version);
    let expects = reading.expects && version == Version::HTTP_11;
    let (rest, trailers) = (reading.rest()?, reading.trailers);
    let request = Box::new(message::Head { method, uri, version, fields });
    Ok(Some(Head { request, rest, keeps, expects, trailers }))
}

/// The first line of a request.
struct Line {
    method: Range<usize>,
    target: Range<usize>,
    is_1_1: bool,
    /// How long the whole head is.
    length: usize,
}

impl Line {
    /// Reads a head, whose fields are put behind the `found`.
    fn read(bytes: &mut [u8], found: &mut Fields) -> Result<Self, Unread> {
        let mut reader = HeadReader::new(bytes);
        reader.blank_lines()?;
        let (method, target, is_1_1) = (reader.method()?, reader.target()?, reader.is_1_1()?);
        reader.line_end()?;
        reader.fields(MOST_HEADERS, found)?;
        Ok(Self { method, target, is_1_1, length: reader.length() })
    }
}

/// What the fields say of where the request ends, and of the connection.
#[derive(Debug, Default)]
struct Reading {
    length: Option<u64>,
    coded: bool,
    /// Whether the last coding is the one in chunks.
    chunked: bool,
    closes: bool,
    stays: bool,
    upgrades: bool,
    expects: bool,
    trailers: bool,
}

impl Reading {
    /// Takes note of a field; whether it is to be passed on. What is of this connection alone, and of no tunnel, is not.
    fn field(&mut self, name: &[u8], value: &[u8], version: Version) -> Result<bool, Malformed> {
        // By length first, which tells most names apart.
        match (name.len(), name) {
            (14, b"content-length") => {
                self.is_only_framing()?;
                self.length = Some(decimal(value)?);
            }
            (17, b"transfer-encoding") => {
                self.is_only_framing()?;
                if version != Version::HTTP_11 {
                    return Err(Malformed);
                }
                self.coded = true;
                self.chunked = tokens(value).last().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
                // With another coding the request is refused for it.
                return Ok(!value.eq_ignore_ascii_case(b"chunked"));
            }
            (10, b"connection") => {
                let mut others = false;
                for token in tokens(value) {
                    let closes = token.eq_ignore_ascii_case(b"close");
                    let stays = token.eq_ignore_ascii_case(b"keep-alive");
                    self.closes |= closes;
                    self.stays |= stays;
                    others |= !closes && !stays;
                }
                return Ok(others);
            }
            (7, b"upgrade") => self.upgrades |= !tokens(value).any(|protocol| protocol.eq_ignore_ascii_case(b"h2c")),
            (6, b"expect") => self.expects = value.eq_ignore_ascii_case(b"100-continue"),
            (2, b"te") => self.trailers |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"trailers")),
            _ if imitates_framing(name) => return Err(Malformed),
            _ => {}
        }
        Ok(true)
    }

    /// Whatever says twice where the body ends, be it the same, is how requests are smuggled.
    const fn is_only_framing(&self) -> Result<(), Malformed> {
        if self.length.is_some() || self.coded { Err(Malformed) } else { Ok(()) }
    }

    fn rest(&self) -> Result<Option<Rest>, Malformed> {
        match self.length {
            _ if self.coded && !self.chunked => Err(Malformed),
            _ if self.coded => Ok(Some(Rest::Chunked(Box::default()))),
            Some(length @ 1..) => Ok(Some(Rest::Sized(length))),
            Some(0) | None => Ok(None),
        }
    }

    fn keeps(&self, method: &Method, version: Version) -> bool {
        // What comes behind a request for a tunnel may be meant for that, and must not be taken for a request.
        let tunnels = self.upgrades || *method == Method::CONNECT;
        !self.closes && !tunnels && (version == Version::HTTP_11 || self.stays)
    }
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests;
