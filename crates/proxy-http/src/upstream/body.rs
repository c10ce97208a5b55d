//! The body of a response on its way to the client.

use super::http1::Http1;
use super::outgoing::Progress;
use super::pool::{Lease, Pool};
use super::tunnel::UpstreamTunnel;
use super::witness::Witness;
use crate::body::BodyError;
use bytes::Bytes;
use conn_tracker::RequestPermit;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use proxy_tcp::InFlight;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The body of a response. Gives the connection back to its pool after the last byte; dropped before, it closes an
/// HTTP/1.1 connection and resets an HTTP/2 stream. An error means that the backend broke off (reported already): the
/// client must not take what it got for the whole.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    /// Of a stream of HTTP/2. In HTTP/1.1 the connection itself is read.
    incoming: Option<Incoming>,
    /// `None` after the last byte, or once the backend broke off.
    work: Option<Box<Work>>,
    broken: bool,
    /// Why it did, until that is told.
    why: Option<BodyError>,
}

/// What a response holds until its last byte.
#[derive(Debug)]
pub(super) struct Work {
    // First, so that the backend is rid of the request before its slots are free.
    pub(super) lease: Lease,
    /// The slots of the request: a client that gives up many requests must not have more of them at the backend than it
    /// may.
    pub(super) slots: Option<Arc<RequestPermit>>,
    /// Where the connection goes afterwards; `None` if nowhere.
    pub(super) home: Option<Arc<Pool>>,
    pub(super) in_flight: InFlight,
    pub(super) witness: Witness,
    pub(super) progress: Option<Arc<Progress>>,
}

impl UpstreamBody {
    pub(super) fn new(incoming: Option<Incoming>, work: Box<Work>) -> Self {
        let mut body = Self { incoming, work: Some(work), broken: false, why: None };
        body.finish_if_ended();
        body
    }

    /// The tunnel behind a 101; `None` if the connection is shared with other requests.
    pub(crate) fn into_tunnel(self) -> Option<UpstreamTunnel> {
        let Work { lease, slots, in_flight, .. } = *self.work?;
        let Lease::Http1(connection) = lease else { return None };
        Some(UpstreamTunnel::new(*connection, (slots, in_flight)))
    }

    fn http1(&self) -> Option<&Http1> {
        match self.work.as_deref() {
            Some(Work { lease: Lease::Http1(connection), .. }) => Some(connection),
            _ => None,
        }
    }

    fn has_ended(&self) -> bool {
        match &self.incoming {
            Some(incoming) => incoming.is_end_stream(),
            None => !self.broken && self.http1().is_none_or(Http1::is_ended),
        }
    }

    fn finish_if_ended(&mut self) {
        if self.has_ended() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Some(work) = self.work.take() {
            let Work { lease, slots, home, in_flight, .. } = *work;
            if let (Lease::Http1(connection), Some(pool)) = (lease, home) {
                pool.give_back(connection, (in_flight, slots));
            }
        }
    }

    fn fail(&mut self, error: &dyn fmt::Display) {
        self.broken = true;
        let Some(work) = self.work.take() else { return };
        if !work.progress.is_some_and(|progress| progress.has_failed()) {
            tracing::debug!(%error, "a backend broke off in the middle of a response");
            work.witness.backend_failed("connection_lost");
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(why) = this.why.take() {
            return Poll::Ready(Some(Err(why)));
        }
        let polled = match (&mut this.incoming, this.work.as_deref_mut()) {
            (Some(incoming), _) => match Pin::new(&mut *incoming).poll_frame(context) {
                // A reset without an error passes for an end, as a backend may send one behind its response to have no
                // more of the request. It is none in front of the end.
                Poll::Ready(None) if !incoming.is_end_stream() => {
                    Poll::Ready(Some(Err("the backend reset the stream in the middle of a response".into())))
                }
                polled => polled.map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            },
            (None, Some(Work { lease: Lease::Http1(connection), .. })) => connection.poll_frame(context),
            (None, _) if this.broken => Poll::Ready(Some(Err("the backend broke off before".into()))),
            (None, _) => Poll::Ready(None),
        };
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => this.finish(),
            Poll::Ready(Some(Ok(_))) => this.finish_if_ended(),
            Poll::Ready(Some(Err(error))) => this.fail(error),
        }
        match polled {
            // Told a turn later, so that the client gets what came before.
            Poll::Ready(Some(Err(error))) => {
                this.why = Some(error);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.incoming {
            Some(incoming) => incoming.size_hint(),
            None => self.http1().map_or_else(|| SizeHint::with_exact(0), Http1::size_hint),
        }
    }
}
