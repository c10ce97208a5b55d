//! The body of a request on a stream of HTTP/2.

use super::Cut;
use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};
use std::task::{Context, Poll, ready};

/// The body of a request on a stream. The client may send more as it is taken.
#[derive(Debug)]
pub(crate) struct StreamBody {
    stream: RecvStream,
    /// How many bytes were not taken, if the client has said how many there are.
    left: Option<u64>,
    /// Whether only trailers may be left.
    taken: bool,
}

impl StreamBody {
    /// The body on `stream`, of a request that began with `headers`.
    pub(crate) fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        Self { stream, left: length(headers), taken: false }
    }

    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if !self.taken {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(piece)) => {
                    // It fails where the stream has ended, and then nobody waits for it.
                    _ = self.stream.flow_control().release_capacity(piece.len());
                    if let Some(left) = &mut self.left {
                        *left = left.saturating_sub(piece.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Some(Err(error)) => return Poll::Ready(broken(error)),
                None => self.taken = true,
            }
        }
        Poll::Ready(match ready!(self.stream.poll_trailers(context)) {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => broken(error),
        })
    }

    /// Whether there is nothing to take any more.
    pub(super) fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The end of a body that broke off, but for a client that only has enough of it (RFC 9113, 8.1).
fn broken(error: h2::Error) -> Option<Result<Frame<Bytes>, Cut>> {
    (error.reason() != Some(Reason::NO_ERROR)).then(|| Err(error.into()))
}

/// How long a body is by its head, if that says it once or the same each time. h2 holds the body to it.
fn length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let first = lengths.next().filter(|first| lengths.all(|other| other == first))?;
    // A sign is no digit.
    let digits = first.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_length_is_known_where_it_is_certain() {
        let cases: &[(&[&'static str], Option<u64>)] = &[
            (&[], None),
            (&["0"], Some(0)),
            (&["18446744073709551615"], Some(u64::MAX)),
            (&["18446744073709551616"], None),
            (&["7", "7"], Some(7)),
            (&["7", "8"], None),
            (&["+7"], None),
            (&[""], None),
            (&["7, 7"], None),
        ];
        for (values, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in *values {
                headers.append(CONTENT_LENGTH, HeaderValue::from_static(value));
            }
            assert_eq!(length(&headers), *expected, "{values:?}");
        }
    }
}
