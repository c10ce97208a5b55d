//! How the body of a request of HTTP/1 is read. Pure.

use super::head;
use crate::fields::Fields;
use crate::http1::{Chunked, Malformed, Step};
use bytes::{Buf, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

/// What is left of the body of a request.
#[derive(Debug)]
pub(super) enum Rest {
    /// So many bytes, at least one.
    Sized(u64),
    /// Boxed: few bodies come in chunks.
    Chunked(Box<Chunked>),
}

impl Rest {
    /// How long it is, if that is known.
    pub(super) const fn length(&self) -> Option<u64> {
        match self {
            Self::Sized(left) => Some(*left),
            Self::Chunked(_) => None,
        }
    }

    /// Takes the next piece from `bytes`.
    pub(super) fn next(&mut self, bytes: &mut BytesMut) -> Result<Step, Malformed> {
        match self {
            Self::Sized(0) => Ok(Step::End(None)),
            Self::Sized(_) if bytes.is_empty() => Ok(Step::More),
            Self::Sized(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= count as u64;
                Ok(Step::Data(bytes.copy_to_bytes(count)))
            }
            Self::Chunked(chunked) => chunked.next(bytes),
        }
    }

    /// Whether it is known that nothing is left.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self, Self::Sized(0))
    }
}

/// Reads requests with their bodies, at once and in two pieces.
///
/// # Panics
/// If the pieces give something else than the whole, or a request has two ends.
pub fn read_requests(bytes: &[u8]) {
    let whole = read(&[bytes]);
    for cut in (0..=bytes.len()).step_by(bytes.len() / 16 + 1) {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(read(&[first, second]), whole, "cut at {cut}");
    }
}

/// What requests there are in bytes that come so: of each the head and the bytes of its body, and how it ends.
fn read(pieces: &[&[u8]]) -> Vec<String> {
    const MOST: usize = 64 * 1024;
    let (mut unread, mut found) = (BytesMut::new(), Vec::new());
    let mut rest: Option<(Rest, usize)> = None;
    for piece in pieces {
        unread.extend_from_slice(piece);
        loop {
            let Some((left, count)) = &mut rest else {
                if unread.is_empty() {
                    break;
                }
                match head::parse(&mut unread, MOST, &mut Fields::default()) {
                    Ok(None) => break,
                    Ok(Some(head)) => {
                        let framed =
                            [CONTENT_LENGTH, TRANSFER_ENCODING].map(|name| head.request.fields.all(&name).count());
                        assert!(framed[0] + framed[1] <= 1, "two ends of one body");
                        let map = HeaderMap::from(head.request.fields.clone());
                        assert_eq!(map.len(), head.request.fields.len(), "what was read is no field");
                        found.push(format!("{:?}", head.request));
                        rest = head.rest.map(|rest| (rest, 0));
                        continue;
                    }
                    Err(refused) => {
                        found.push(format!("{refused:?}"));
                        return found;
                    }
                }
            };
            match left.next(&mut unread) {
                Ok(Step::More) => break,
                Ok(Step::Data(data)) => *count += data.len(),
                Ok(Step::End(trailers)) => {
                    found.push(format!("{count} {trailers:?}"));
                    rest = None;
                }
                Err(Malformed) => {
                    found.push(format!("{count} malformed"));
                    return found;
                }
            }
        }
    }
    found
}
