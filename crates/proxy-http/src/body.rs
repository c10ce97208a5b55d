//! Bodies on their way through the proxy, in constant memory.

use crate::clock::later;
use crate::io::Busy;
use crate::request::{Entry, InFlight};
use crate::upstream::UpstreamBody;
use bytes::Bytes;
use conn_tracker::{Event, Report};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Why a body broke off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request on its way to a backend.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// There is none.
    Empty,
    /// As it comes from the client.
    Streaming(ClientBody),
}

/// Whether a client was too slow with the body of its request.
#[derive(Debug)]
pub(crate) struct Pace {
    too_slow: AtomicBool,
    report: Arc<dyn Report>,
    event: Event,
}

impl Pace {
    /// Nothing yet; `event` is what is reported once it is.
    pub(crate) const fn new(report: Arc<dyn Report>, event: Event) -> Self {
        Self { too_slow: AtomicBool::new(false), report, event }
    }

    /// Whether the client was too slow.
    pub(crate) fn is_too_slow(&self) -> bool {
        // Ordering: read once the failure of the body has been handed over, which orders it.
        self.too_slow.load(Ordering::Relaxed)
    }

    fn give_up(&self) {
        // Ordering: see `is_too_slow`.
        if !self.too_slow.swap(true, Ordering::Relaxed) {
            self.report.event(self.event);
        }
    }
}

/// The body of a request as it comes from the client, which may pause for so long only.
#[derive(Debug)]
pub(crate) struct ClientBody {
    incoming: Incoming,
    patience: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    pace: Arc<Pace>,
    entry: Option<Arc<Entry>>,
    /// The connection cannot be taken from hyper while its body is being read.
    _busy: Busy,
}

impl ClientBody {
    /// Breaks off, and tells `pace`, when the client pauses for longer than `patience`. Counts its bytes for `entry`.
    pub(crate) fn new(
        incoming: Incoming,
        patience: Option<Duration>,
        pace: Arc<Pace>,
        entry: Option<Arc<Entry>>,
        busy: Busy,
    ) -> Self {
        Self { incoming, patience, timer: None, waiting: false, pace, entry, _busy: busy }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) {
            self.waiting = false;
            if let (Some(entry), Some(Ok(frame))) = (&self.entry, &frame) {
                entry.received(frame.data_ref().map_or(0, Bytes::len));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some(patience) = self.patience else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(later(Instant::now(), patience));
        }
        ready!(timer.as_mut().poll(context));
        self.pace.give_up();
        Poll::Ready(Some(Err("the client took too long to send the body of its request".into())))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(body) => body.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(body) => body.incoming.size_hint(),
        }
    }
}

/// Where the body of a response comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// It is known; empty is none.
    Fixed(Bytes),
    /// As it comes from the backend.
    Upstream(UpstreamBody),
}

/// The body of a response on its way to the client. The request is in flight until it drops.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    source: Source,
    request: Option<InFlight>,
}

impl ResponseBody {
    /// The body of the response to `request`; `None` if the request goes on elsewhere.
    pub(crate) fn new(source: Source, request: Option<InFlight>) -> Self {
        let body = Self { source, request };
        if body.is_end_stream() {
            body.note(None);
        }
        body
    }

    /// Notes for the access log what was handed over; `None` is the end.
    fn note(&self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        let Some(entry) = self.request.as_ref().and_then(InFlight::entry) else { return };
        match frame {
            Some(Ok(frame)) => entry.sent(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(_)) => return entry.ends("connection_lost"),
            None => {}
        }
        // Nobody asks any further once the announced length is reached.
        if frame.is_none() || self.is_end_stream() {
            entry.ends("complete");
        }
    }

    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.source {
            Source::Fixed(bytes) if bytes.is_empty() => Poll::Ready(None),
            Source::Fixed(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::Upstream(body) => Pin::new(body).poll_frame(context),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.get_mut();
        let frame = ready!(body.poll_source(context));
        body.note(frame.as_ref());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Fixed(bytes) => bytes.is_empty(),
            Source::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Fixed(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Upstream(body) => body.size_hint(),
        }
    }
}
