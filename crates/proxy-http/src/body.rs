//! Bodies on their way through the proxy, in constant memory.

mod channel;
mod stream;

pub(crate) use channel::{Broken, Receiver, Sender, Wish, channel};
pub(crate) use stream::StreamBody;

use crate::connection;
use crate::headers;
use crate::io::Busy;
use crate::request::{Entry, InFlight};
use crate::upstream::UpstreamBody;
use bytes::Bytes;
use conn_tracker::{Event, EventKind, Report};
use http_body::{Body, Frame, SizeHint};
use proxy_tcp::{Timer, Timers};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// Why a body broke off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request on its way to a backend.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// There is none.
    Empty,
    /// As it comes from the client.
    Streaming(Box<ClientBody>),
}

/// The body of a request as its connection gives it.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// There is none.
    Empty,
    Http1(Receiver),
    Http2(StreamBody),
}

impl Incoming {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Http1(body) => body.poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(Cut::from))),
            Self::Http2(body) => body.poll_frame(context),
        }
    }

    /// Whether there is nothing to take any more.
    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

/// Why a body of a client broke off.
#[derive(Debug)]
struct Cut {
    /// Whether it is no body, rather than one that broke off.
    malformed: bool,
    why: BodyError,
}

impl From<Broken> for Cut {
    fn from(broken: Broken) -> Self {
        Self { malformed: broken == Broken::Malformed, why: broken.into() }
    }
}

impl From<h2::Error> for Cut {
    fn from(error: h2::Error) -> Self {
        Self { malformed: !error.is_io() && !error.is_remote(), why: error.into() }
    }
}

/// Whether a client was too slow with the body of its request.
#[derive(Debug)]
pub(crate) struct Pace {
    too_slow: AtomicBool,
    /// Whether the backend has begun to answer, and so decides by itself how long it listens.
    answered: AtomicBool,
    report: Arc<dyn Report>,
    event: Event,
}

impl Pace {
    /// Nothing yet; `event` is what is reported once it is.
    pub(crate) const fn new(report: Arc<dyn Report>, event: Event) -> Self {
        Self { too_slow: AtomicBool::new(false), answered: AtomicBool::new(false), report, event }
    }

    /// Whether the client was too slow.
    pub(crate) fn is_too_slow(&self) -> bool {
        // Ordering: read once the failure of the body has been handed over, which orders it.
        self.too_slow.load(Ordering::Relaxed)
    }

    /// The backend has begun to answer.
    pub(crate) fn answered(&self) {
        // Ordering: it stands for itself.
        self.answered.store(true, Ordering::Relaxed);
    }

    fn is_answered(&self) -> bool {
        // Ordering: see `answered`.
        self.answered.load(Ordering::Relaxed)
    }

    fn malformed(&self) {
        self.report.event(Event { kind: EventKind::BadRequest, reason: "request_malformed", ..self.event });
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
    timer: Timer,
    /// Since when it is waited for.
    waiting: Option<Instant>,
    average: Average,
    pace: Arc<Pace>,
    entry: Option<Arc<Entry>>,
    /// The connection is not idle while its body is being read.
    _busy: Busy,
}

impl ClientBody {
    /// Breaks off, and tells `pace`, when the client pauses for longer than `patience`, or brings fewer than `rate` bytes
    /// per second. Counts its bytes for `entry`.
    pub(crate) fn new(
        incoming: Incoming,
        patience: Option<Duration>,
        rate: u32,
        pace: Arc<Pace>,
        entry: Option<Arc<Entry>>,
        busy: Busy,
        timers: &Timers,
    ) -> Self {
        let average = Average { rate, after: patience.unwrap_or(AVERAGED), received: 0, waited: Duration::ZERO };
        Self { incoming, patience, timer: timers.after(None), waiting: None, average, pace, entry, _busy: busy }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = self.incoming.poll_frame(context) {
            if let Some(since) = self.waiting.take() {
                self.average.waited += since.elapsed();
            }
            match &frame {
                Some(Ok(frame)) if frame.trailers_ref().is_some_and(headers::has_framing) => {
                    self.pace.malformed();
                    return Poll::Ready(Some(Err(
                        "the trailers of the request say where it ends or whom it is for".into()
                    )));
                }
                Some(Ok(frame)) => {
                    let count = frame.data_ref().map_or(0, Bytes::len);
                    if let Some(entry) = &self.entry {
                        entry.received(count);
                    }
                    self.average.received += count as u64;
                    if self.average.is_too_low() && !self.pace.is_answered() && !self.incoming.is_end_stream() {
                        return self.too_slow();
                    }
                }
                Some(Err(cut)) if cut.malformed => self.pace.malformed(),
                Some(Err(_)) | None => {}
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(|cut| cut.why)));
        }
        let begins = self.waiting.is_none();
        self.waiting.get_or_insert_with(Instant::now);
        let Some(patience) = self.patience else { return Poll::Pending };
        if begins {
            self.timer.set(Some(patience));
        }
        ready!(Pin::new(&mut self.timer).poll(context));
        self.too_slow()
    }

    fn too_slow(&self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.pace.give_up();
        Poll::Ready(Some(Err("the client took too long to send the body of its request".into())))
    }
}

/// How fast a body comes.
#[derive(Debug)]
struct Average {
    /// The least, in bytes per second; 0 is none.
    rate: u32,
    /// How long is waited before it is asked.
    after: Duration,
    received: u64,
    /// How long the client was waited for, in all.
    waited: Duration,
}

/// How long is waited where no time-out says so.
const AVERAGED: Duration = Duration::from_secs(30);

impl Average {
    fn is_too_low(&self) -> bool {
        let least = u128::from(self.rate) * self.waited.as_millis() / 1000;
        self.waited > self.after && u128::from(self.received) < least
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
    request: Option<Box<InFlight>>,
}

impl ResponseBody {
    /// The body of the response to `request`; `None` if the request goes on elsewhere.
    pub(crate) fn new(source: Source, request: Option<Box<InFlight>>) -> Self {
        let body = Self { source, request };
        if body.is_end_stream() {
            body.note(None);
        }
        body
    }

    /// Notes for the access log what was handed over; `None` is the end.
    fn note(&self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        let Some(entry) = self.request.as_deref().and_then(InFlight::entry) else { return };
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
            Source::Upstream(body) => {
                let mut frame = ready!(Pin::new(body).poll_frame(context));
                if let Some(Ok(frame)) = &mut frame
                    && let Some(trailers) = frame.trailers_mut()
                {
                    headers::remove_framing(trailers);
                }
                Poll::Ready(frame)
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let body = self.get_mut();
        let Poll::Ready(frame) = body.poll_source(context) else {
            connection::waits();
            return Poll::Pending;
        };
        connection::moves();
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
