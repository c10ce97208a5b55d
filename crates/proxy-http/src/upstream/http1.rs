//! A connection to a backend that speaks HTTP/1.1, driven by whoever awaits its answer.
//!
//! Neither a task nor a channel stands between a request and its connection: the request's own task writes the head,
//! moves the bodies and reads the answer. What is spoken is in the modules below, which know no socket.

mod request;
mod response;
mod stream;

pub(super) use stream::BackendStream;

use super::outgoing::Outgoing;
use crate::body::BodyError;
use crate::headers::Stamp;
use crate::http1::{Chunked, Malformed, Sent, Step};
use crate::io::{make_room, room};
use crate::message::{Head, Response};
use bytes::{Buf, Bytes, BytesMut};
use http::Method;
use http_body::{Body, Frame, SizeHint};
use response::Framing;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncReadExt, AsyncWrite};

/// A connection, and the exchange that is under way on it. Dropped, it is closed at once.
#[derive(Debug)]
pub(super) struct Http1 {
    io: BackendStream,
    dispatch: Dispatch,
    receiving: Receiving,
    /// Bytes read and not taken yet.
    unread: BytesMut,
    /// How many bytes the next read asks for.
    ask: usize,
    /// Whether backend and request leave the connection open after the response.
    keeps: bool,
    /// How many addresses of the backend had gone when it was dialled.
    pub(super) vintage: u64,
}

/// What is to be written for the request.
#[derive(Debug, Default)]
struct Dispatch {
    /// Heads, small pieces of a body and what frames it.
    out: Vec<u8>,
    /// How much of it is written.
    written: usize,
    /// A large piece of a body, to be written behind it.
    piece: Bytes,
    /// What is left of the body; `None` once all of it was taken.
    body: Option<Outgoing>,
    /// Whether the end of the body is to follow the piece.
    ending: bool,
    framing: Sent,
    unflushed: bool,
    /// Whether any byte has left.
    begun: bool,
    /// Whether the backend takes no more. It may have answered nevertheless.
    failed: bool,
}

/// How far the response is.
#[derive(Debug)]
enum Receiving {
    /// There is no head yet.
    Head {
        to_head: bool,
    },
    Sized(u64),
    Chunked(Chunked),
    UntilClose,
    /// All of it was taken.
    Ended,
    /// It led to another protocol.
    Switched,
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadError {
    /// The client broke off with the body of its request.
    RequestBody,
    /// What came is not HTTP.
    Malformed,
    /// The backend broke off; `untouched` if it cannot have seen anything of the request.
    Lost { untouched: bool },
}

impl Http1 {
    pub(super) fn new(io: BackendStream) -> Self {
        let (dispatch, receiving) = (Dispatch::default(), Receiving::Ended);
        Self { io, dispatch, receiving, unread: BytesMut::new(), ask: FIRST_READ, keeps: true, vintage: 0 }
    }

    /// Whether an idle connection can take a request, as far as is known without asking the system.
    pub(super) fn is_alive(&mut self) -> bool {
        self.io.is_idle()
    }

    /// Begins the exchange of a request. What carries it is up to the calls that follow.
    pub(super) fn begin(&mut self, head: &Head, stamp: Option<&Stamp>, body: Outgoing) {
        let dispatch = &mut self.dispatch;
        dispatch.framing = request::encode(head, stamp, body.size_hint().exact(), &mut dispatch.out);
        (dispatch.begun, dispatch.failed, dispatch.ending) = (false, false, false);
        dispatch.body = (!body.is_end_stream()).then_some(body);
        self.receiving = Receiving::Head { to_head: head.method == Method::HEAD };
        self.keeps = true;
        self.ask = FIRST_READ;
    }

    /// Sends the request and waits for the head of the response.
    pub(super) fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Response<()>, HeadError>> {
        loop {
            if let Poll::Ready(Err(ClientBroke)) = self.dispatch.poll(&mut self.io, context) {
                return Poll::Ready(Err(HeadError::RequestBody));
            }
            match self.take_head() {
                Ok(None) => {}
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Err(Malformed) => return Poll::Ready(Err(HeadError::Malformed)),
            }
            if !matches!(ready!(self.poll_fill(context)), Ok(1..)) {
                return Poll::Ready(Err(HeadError::Lost { untouched: !self.dispatch.begun }));
            }
        }
    }

    /// The next piece of the response's body. Goes on sending the request meanwhile.
    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(Err(ClientBroke)) = self.dispatch.poll(&mut self.io, context) {
            return Poll::Ready(Some(Err("the client broke off with the body of its request".into())));
        }
        loop {
            match self.take_frame() {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.is_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(Malformed) => return Poll::Ready(Some(Err("the backend's chunks are malformed".into()))),
            }
            match ready!(self.poll_fill(context)) {
                Ok(1..) => {}
                Ok(0) if matches!(self.receiving, Receiving::UntilClose) => {
                    self.receiving = Receiving::Ended;
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err("the backend closed in the middle of a response".into()))),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// Whether the response has been taken whole.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self.receiving, Receiving::Ended)
    }

    /// Whether a part of the request has not left yet.
    pub(super) fn is_sending(&self) -> bool {
        !self.dispatch.is_done() && !self.dispatch.failed
    }

    /// Whether another request may follow: everything was sent, everything was taken, and nothing came unasked for.
    pub(super) fn is_reusable(&self) -> bool {
        self.keeps && self.is_ended() && self.dispatch.is_done() && !self.dispatch.failed && self.unread.is_empty()
    }

    /// Sends what is left of a request whose response has ended; whether another one may follow.
    pub(super) fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        match self.dispatch.poll(&mut self.io, context) {
            Poll::Ready(sent) => Poll::Ready(sent.is_ok() && self.is_reusable()),
            // Whatever it says now, be it that it has gone, nobody waits for it.
            Poll::Pending if !self.io.is_silent(context) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    }

    /// How much of the response's body is to come, as far as it is known.
    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.receiving {
            Receiving::Sized(left) => SizeHint::with_exact(*left),
            Receiving::Head { .. } | Receiving::Ended | Receiving::Switched => SizeHint::with_exact(0),
            Receiving::Chunked(_) | Receiving::UntilClose => SizeHint::default(),
        }
    }

    /// The connection as the tunnel that it has become, and what came for it already.
    pub(super) fn into_tunnel(self) -> (Bytes, BackendStream) {
        (self.unread.freeze(), self.io)
    }

    /// The head of the response, if it has come whole.
    fn take_head(&mut self) -> Result<Option<Response<()>>, Malformed> {
        let Receiving::Head { to_head } = self.receiving else { return Err(Malformed) };
        let Some(head) = response::parse(&mut self.unread, to_head)? else { return Ok(None) };
        self.keeps &= head.keeps;
        self.receiving = match head.framing {
            Framing::Sized(0) => Receiving::Ended,
            Framing::Sized(length) => Receiving::Sized(length),
            Framing::Chunked => Receiving::Chunked(Chunked::default()),
            Framing::UntilClose => Receiving::UntilClose,
            Framing::Switched => Receiving::Switched,
        };
        Ok(Some(Response { status: head.status, fields: head.fields, body: () }))
    }

    /// A piece of the body out of what was read; `None` if that is at its end, or the body.
    fn take_frame(&mut self) -> Result<Option<Frame<Bytes>>, Malformed> {
        match &mut self.receiving {
            Receiving::Head { .. } | Receiving::Ended | Receiving::Switched => Ok(None),
            _ if self.unread.is_empty() => Ok(None),
            Receiving::UntilClose => Ok(Some(Frame::data(std::mem::take(&mut self.unread).freeze()))),
            Receiving::Sized(left) => {
                let there = self.unread.len();
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(there);
                *left -= count as u64;
                if *left == 0 {
                    self.receiving = Receiving::Ended;
                }
                let piece = if count == there { std::mem::take(&mut self.unread) } else { self.unread.split_to(count) };
                Ok(Some(Frame::data(piece.freeze())))
            }
            Receiving::Chunked(chunked) => match chunked.next(&mut self.unread)? {
                Step::More => Ok(None),
                Step::Data(piece) => Ok(Some(Frame::data(piece))),
                Step::End(trailers) => {
                    self.receiving = Receiving::Ended;
                    Ok(trailers.map(Frame::trailers))
                }
            },
        }
    }

    /// Reads more behind what was not taken yet. No memory is held while there is nothing to read.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ask == FIRST_READ && self.unread.is_empty() {
            return self.poll_first(context);
        }
        ready!(self.io.poll_readable(context))?;
        make_room(&mut self.unread, self.ask);
        let space = self.unread.capacity() - self.unread.len();
        let polled = pin!(self.io.read_buf(&mut self.unread)).poll(context);
        if self.unread.is_empty() {
            self.unread = BytesMut::new();
        }
        if let Poll::Ready(Ok(count)) = polled
            && count == space
        {
            self.ask = (self.ask * 2).min(MOST_READ);
        }
        polled
    }

    /// Reads by way of the stack, and keeps no more memory than came: most responses are much smaller than the space that
    /// a read has to have, and many of them wait at once for what their clients take.
    #[inline(never)] // For its place on the stack, which other turns do without.
    fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [const { MaybeUninit::uninit() }; FIRST_READ];
        let unread = &mut self.unread;
        let polled = self.io.poll_recv(context, &mut space, |read| {
            if read.len() < LARGE {
                *unread = BytesMut::from(read);
            } else {
                *unread = room(read.len());
                unread.extend_from_slice(read);
            }
            read.len()
        });
        if let Poll::Ready(Ok(FIRST_READ)) = polled {
            self.ask *= 2;
        }
        polled
    }
}

/// Bytes read at first, and at most, at once.
const FIRST_READ: usize = 8 * 1024;
const MOST_READ: usize = 64 * 1024;
/// What is smaller does not take more to be encrypted, wherever it is.
const LARGE: usize = 2 * 1024;

/// The client broke off with the body of its request.
struct ClientBroke;

impl Dispatch {
    fn is_done(&self) -> bool {
        self.body.is_none() && !self.ending && self.is_written() && !self.unflushed
    }

    fn is_written(&self) -> bool {
        self.written == self.out.len() && self.piece.is_empty()
    }

    /// Sends what there is; ready once everything has left, or the backend takes no more.
    fn poll(&mut self, io: &mut BackendStream, context: &mut Context<'_>) -> Poll<Result<(), ClientBroke>> {
        let mut starved = false;
        while !self.is_done() && !self.failed {
            // The head waits for the first piece of the body that is there, so that one call writes both.
            if !starved && self.piece.is_empty() && self.out.len() < TOGETHER {
                match self.poll_body(context) {
                    Poll::Ready(Ok(true)) => continue,
                    Poll::Ready(Ok(false)) => {}
                    Poll::Ready(Err(broke)) => return Poll::Ready(Err(broke)),
                    Poll::Pending => starved = true,
                }
            }
            if let Err(_gone) = ready!(self.poll_write(io, context)) {
                // What was not sent is not asked for any more. An answer may have come before.
                (self.failed, self.body, self.ending) = (true, None, false);
            }
            if starved && self.is_written() {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes a piece of the body; `false` if there is none any more.
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, ClientBroke>> {
        if std::mem::take(&mut self.ending) {
            return Poll::Ready(if self.framing.end(None, &mut self.out) { Ok(true) } else { Err(ClientBroke) });
        }
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(false)) };
        let (data, trailers) = match ready!(Pin::new(&mut *body).poll_frame(context)) {
            Some(Err(_)) => return Poll::Ready(Err(ClientBroke)),
            None => (None, None),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => (Some(data), None),
                Err(frame) => (None, frame.into_trailers().ok()),
            },
        };
        let is_end = data.is_none() || body.is_end_stream();
        if let Some(data) = data.filter(|data| !data.is_empty()) {
            if !self.framing.before(data.len(), &mut self.out) {
                // The body is longer than the head has said.
                return Poll::Ready(Err(ClientBroke));
            }
            if data.len() <= TOGETHER {
                self.out.extend_from_slice(&data);
            } else {
                self.piece = data;
            }
        }
        if is_end {
            self.body = None;
            self.ending = !self.piece.is_empty();
            if !self.ending && !self.framing.end(trailers.as_ref(), &mut self.out) {
                return Poll::Ready(Err(ClientBroke));
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Writes all there is, and flushes it.
    fn poll_write(&mut self, io: &mut BackendStream, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_written() {
            let slices = [IoSlice::new(&self.out[self.written..]), IoSlice::new(&self.piece)];
            let count = match slices[1].is_empty() {
                true => ready!(Pin::new(&mut *io).poll_write(context, &slices[0]))?,
                false => ready!(Pin::new(&mut *io).poll_write_vectored(context, &slices))?,
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            (self.begun, self.unflushed) = (true, true);
            let of_out = count.min(self.out.len() - self.written);
            self.written += of_out;
            self.piece.advance(count - of_out);
        }
        self.out.clear();
        self.out.shrink_to(KEPT);
        self.written = 0;
        ready!(Pin::new(io).poll_flush(context))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }
}

/// Pieces of a body up to this size are copied behind the head.
const TOGETHER: usize = 8 * 1024;
/// Room for heads that an idle connection keeps.
const KEPT: usize = 1024;
