//! How the head of a request of HTTP/1 is read: once, and so that it can be understood in one way only. Pure.

use super::rest::Rest;
use crate::fields::{Fields, Place};
use crate::headers::{MOST_HEADERS, imitates_framing};
use crate::http1::{Malformed, decimal};
use crate::message;
use bytes::BytesMut;
use http::{Method, StatusCode, Uri, Version};
use std::mem::MaybeUninit;

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
/// place of `spare`, which is empty.
///
/// Nothing is copied: values share the memory that they were read to.
#[inline(never)] // Its place on the stack is large, and most turns of a connection do without.
pub(super) fn parse(bytes: &mut BytesMut, most: usize, spare: &mut Fields) -> Result<Option<Head>, Refused> {
    let mut space = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut request, bytes, &mut space);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) if length <= most => length,
        Ok(httparse::Status::Partial) if bytes.len() <= most => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Refused::TooLarge),
        Err(_) => return Err(Refused::Malformed),
    };
    let (Some(method), Some(path), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Refused::Malformed);
    };
    if path.len() > LONGEST_TARGET {
        return Err(Refused::TargetTooLong);
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Refused::Malformed)?;
    let version = if minor == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    // The bytes are about to be given away, so the parts are noted by their places.
    let begin = bytes.as_ptr().addr();
    let target = Place::of(path.as_bytes(), begin).ok_or(Refused::TooLarge)?;
    let mut fields = std::mem::take(spare);
    fields.reserve(request.headers.len() + ADDED);
    if !fields.found(request.headers, begin) {
        return Err(Refused::Malformed);
    }
    let mut reading = Reading::default();
    let head = fields.read(bytes.split_to(length), |name, value| reading.field(name, value, version))?;
    let uri = Uri::from_maybe_shared(target.share(head)).map_err(|_| Refused::Malformed)?;
    let keeps = reading.keeps(&method, version);
    let expects = reading.expects && version == Version::HTTP_11;
    let (rest, trailers) = (reading.rest()?, reading.trailers);
    let request = Box::new(message::Head { method, uri, version, fields });
    Ok(Some(Head { request, rest, keeps, expects, trailers }))
}

/// Fields that a request may gain on its way: place for them is made once.
const ADDED: usize = 2;

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
