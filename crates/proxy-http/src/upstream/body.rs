//! The body of a response on its way to the client.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The body of a response. Gives the connection back to its pool after the last byte; dropped before, it closes an
/// HTTP/1.1 connection and resets an HTTP/2 stream. An error means that the backend broke off (reported already): the
/// client must not take what it got for the whole.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    incoming: Incoming,
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.get_mut().incoming).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
