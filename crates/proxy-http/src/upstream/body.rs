//! The body of a response on its way to the client.

use super::outgoing::Progress;
use super::pool::Pool;
use super::under_way::UnderWay;
use super::witness::Witness;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use proxy_tcp::InFlight;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The body of a response. Gives the connection back to its pool after the last byte; dropped before, it closes an
/// HTTP/1.1 connection and resets an HTTP/2 stream. An error means that the backend broke off (reported already): the
/// client must not take what it got for the whole.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    incoming: Incoming,
    /// `None` after the last byte.
    work: Option<Work>,
}

/// What a response holds until its last byte.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) under_way: UnderWay,
    /// Where the connection goes afterwards; `None` if nowhere.
    pub(super) home: Option<Arc<Pool>>,
    pub(super) in_flight: InFlight,
    pub(super) witness: Witness,
    pub(super) progress: Option<Arc<Progress>>,
}

impl UpstreamBody {
    pub(super) fn new(incoming: Incoming, work: Work) -> Self {
        let mut body = Self { incoming, work: Some(work) };
        body.finish_if_ended();
        body
    }

    /// A body that holds its work until it drops: the way to a tunnel.
    pub(super) fn tunnel(incoming: Incoming, work: Work) -> Self {
        Self { incoming, work: Some(Work { home: None, ..work }) }
    }

    fn finish_if_ended(&mut self) {
        if self.incoming.is_end_stream() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Some(Work { under_way, home, in_flight, .. }) = self.work.take() {
            let (lease, slots) = under_way.finish();
            if let Some(pool) = home {
                pool.give_back(lease, (in_flight, slots));
            }
        }
    }

    fn fail(&mut self, error: &hyper::Error) {
        let Some(work) = self.work.take() else { return };
        if !work.progress.is_some_and(|progress| progress.has_failed()) {
            tracing::debug!(%error, "a backend broke off in the middle of a response");
            work.witness.backend_failed("connection_lost");
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.incoming).poll_frame(context);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => this.finish(),
            Poll::Ready(Some(Ok(_))) => this.finish_if_ended(),
            Poll::Ready(Some(Err(error))) => this.fail(error),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
