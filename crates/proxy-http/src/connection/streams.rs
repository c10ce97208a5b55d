//! The streams of an HTTP/2 connection: each answers a request, and sends the answer as far as its client makes room.
//!
//! A stream whose client takes nothing of it ends. A response is asked for more only when its client has made room, so
//! neither the response nor anybody it knows is asked while there is none. The stream is: what its request and its
//! response have said of the turn tells whom it waits for.

use super::confined::{Confined, confined};
use super::downstream::Downstream;
use crate::body::{Incoming, ResponseBody, StreamBody};
use crate::fields::Fields;
use crate::headers::{self, X_REQUEST_ID};
use crate::io::StreamIo;
use crate::message::{Request, Response, StreamTunnel};
use crate::request::{self, Answering, Dropped};
use crate::special::is_hop_by_hop;
use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE, EXPECT, TE};
use http::{HeaderValue, Method, StatusCode};
use http_body::Body;
use proxy_tcp::Timer;
use std::cell::Cell;
use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What a stream has done in its turn.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// It answers a request: it is no tunnel.
    answers: bool,
    /// It waits for its backend, or for the client to send more.
    waits: bool,
    /// A part of the answer was taken.
    moved: bool,
}

thread_local! {
    // Written within the poll of one stream and read at its end, so no other stream comes in between.
    static TURN: Cell<Turn> = const { Cell::new(Turn { answers: false, waits: false, moved: false }) };
}

/// The answer, or the next piece of it, is not there yet.
pub(crate) fn waits() {
    TURN.set(Turn { answers: true, waits: true, ..TURN.get() });
}

/// The answer, or a piece of it, was taken.
pub(crate) fn moves() {
    TURN.set(Turn { answers: true, moved: true, ..TURN.get() });
}

/// A request and its answer. Dropped before the end, it is reset.
pub(super) struct Stream {
    stage: Stage,
    respond: SendResponse<Bytes>,
    /// Whether the client waits to be asked for the body.
    expects: bool,
    /// Whether it is the first of its connection.
    first: bool,
    client: Arc<Downstream>,
    untaken: Untaken,
}

#[allow(clippy::large_enum_variant, reason = "a stream is allocated as one, and most of them come to be sent")]
enum Stage {
    Answering(Confined<Answering>, Option<Connect>),
    Sending(Sending),
}

/// How long a connection has its dates remembered by the table of HPACK.
const DATED: Duration = Duration::from_secs(2);

/// What is kept of a stream that asks to become a tunnel, until it is answered.
struct Connect {
    body: RecvStream,
    granted: oneshot::Sender<StreamIo>,
}

/// The body of an answer.
struct Sending {
    body: Confined<ResponseBody>,
    out: SendStream<Bytes>,
    /// A piece for which the client has no room yet, and whether it is the last.
    piece: Option<(Bytes, bool)>,
}

/// How long the client has taken nothing.
#[derive(Debug)]
struct Untaken {
    /// How long it may.
    limit: Option<Duration>,
    answers: bool,
    since: Option<Instant>,
    /// How often bytes had gone over the connection when this was looked at before.
    before: Option<usize>,
    timer: Option<Timer>,
}

impl Stream {
    /// Begins to answer a request, whose client may leave the answer untaken for `limit`.
    pub(super) fn new(
        client: Arc<Downstream>,
        limit: Option<Duration>,
        request: http::Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Self {
        let (mut parts, body) = request.into_parts();
        let (first, ends) = (client.activity.requests() == 0, body.is_end_stream());
        let expects = !ends && parts.headers.get(EXPECT).is_some_and(is_expectation);
        let (body, tunnel, connect) = if parts.method == Method::CONNECT {
            let (sender, granted) = oneshot::channel();
            let protocol = parts.extensions.remove::<Protocol>();
            let tunnel = protocol.map(|protocol| Box::new(StreamTunnel { protocol, granted }));
            (Incoming::Empty, tunnel, Some(Connect { body, granted: sender }))
        } else if ends {
            (Incoming::Empty, None, None)
        } else {
            (Incoming::Http2(StreamBody::new(body, &parts.headers)), None, None)
        };
        let request = Request { head: Box::new(parts.into()), body, tunnel };
        let answer = confined(|| request::answer(Arc::clone(&client), request));
        let untaken = Untaken { limit, answers: false, since: None, before: None, timer: None };
        Self { stage: Stage::Answering(answer, connect), respond, expects, first, client, untaken }
    }

    fn poll_stream(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.stage {
                Stage::Answering(answer, connect) => {
                    let Poll::Ready(answer) = Pin::new(answer).poll(context) else {
                        if std::mem::take(&mut self.expects) {
                            // It is not refused. Where this fails, there is nobody to be asked.
                            _ = self.respond.send_informational(go_on());
                        }
                        // Also when the client gives it up.
                        return self.respond.poll_reset(context).map(drop);
                    };
                    let connect = connect.take();
                    let sending = match answer {
                        Ok(response) => self.answer(response, connect),
                        Err(Dropped) => Err(Reason::INTERNAL_ERROR),
                    };
                    match sending {
                        Ok(Some(sending)) => self.stage = Stage::Sending(sending),
                        Ok(None) => return Poll::Ready(()),
                        Err(reason) => {
                            self.respond.send_reset(reason);
                            return Poll::Ready(());
                        }
                    }
                }
                Stage::Sending(sending) => {
                    if let Err(reason) = ready!(sending.poll(context)) {
                        sending.out.send_reset(reason);
                    }
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Whether the table of HPACK is to remember no more dates. Each second has another one: a table that remembers all is
    /// full of them after a minute, has nothing else any more, and is searched through for each answer.
    fn is_old(&self) -> bool {
        let timers = &self.client.worker.timers;
        timers.tick() >= timers.tick_at(self.client.accepted + DATED)
    }

    /// Sends the head of an answer; what of its body is to be sent.
    fn answer(
        &mut self,
        response: Response<Confined<ResponseBody>>,
        connect: Option<Connect>,
    ) -> Result<Option<Sending>, Reason> {
        let Response { status, mut fields, body } = response;
        let mut has = Has::of(&fields);
        if has.hops {
            // What a route's rules have put there.
            headers::remove_hop_by_hop(&mut fields);
            fields.remove(&TE);
            has = Has::of(&fields);
        }
        if !has.date {
            fields.push(DATE, self.client.worker.date());
        }
        let ends = body.is_end_stream();
        let connect = connect.filter(|_| status.is_success());
        if connect.is_some() {
            if !ends {
                return Err(Reason::INTERNAL_ERROR);
            }
            fields.remove(&CONTENT_LENGTH);
        } else if let Some(length) = body.size_hint().exact().filter(|_| !ends && !has.length) {
            fields.push(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let mut head = http::Response::new(());
        (*head.status_mut(), *head.headers_mut()) = (status, fields.into());
        if self.first
            && let Some(id) = head.headers_mut().get_mut(X_REQUEST_ID)
        {
            // The table of HPACK learns the name, so that the answers that follow need not spell it.
            id.set_sensitive(false);
        }
        if self.is_old()
            && let Some(date) = head.headers_mut().get_mut(DATE)
        {
            date.set_sensitive(true);
        }
        let sent = self.respond.send_response(head, ends && connect.is_none());
        let out = sent.map_err(|_| Reason::INTERNAL_ERROR)?;
        if let Some(Connect { body, granted }) = connect {
            if let Err(stream) = granted.send(StreamIo::new(out, body)) {
                stream.end();
            }
            return Ok(None);
        }
        Ok((!ends).then_some(Sending { body, out, piece: None }))
    }
}

/// What there is among the fields of an answer.
#[derive(Debug, Default)]
struct Has {
    /// Something that is for one connection only.
    hops: bool,
    date: bool,
    length: bool,
}

impl Has {
    /// Looks at each field once, which is cheaper than to look for each that might be.
    fn of(fields: &Fields) -> Self {
        let mut has = Self::default();
        for name in fields.names() {
            match (name.len(), name) {
                (4, b"date") => has.date = true,
                (14, b"content-length") => has.length = true,
                _ => has.hops |= name == b"te" || is_hop_by_hop(name),
            }
        }
        has
    }
}

impl Sending {
    /// Sends the body as there is room for it.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        let polled = self.poll_pieces(context);
        // Whatever is waited for: the client may give the answer up.
        if polled.is_pending() && self.out.poll_reset(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        polled
    }

    /// Sends pieces of the body as there is room for them, or fails to where the client has given the answer up.
    fn poll_pieces(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Reason>> {
        loop {
            if let Some((piece, last)) = &mut self.piece {
                // Room is asked for once there is something to send, and only what there is room for is handed over: the
                // stream lives until its client has made room for the last byte.
                self.out.reserve_capacity(piece.len());
                let mut room = self.out.capacity();
                while room == 0 {
                    if !matches!(ready!(self.out.poll_capacity(context)), Some(Ok(_))) {
                        return Poll::Ready(Ok(()));
                    }
                    room = self.out.capacity();
                }
                let part = piece.split_to(piece.len().min(room));
                let ends = *last && piece.is_empty();
                moves();
                if self.out.send_data(part, ends).is_err() || ends {
                    return Poll::Ready(Ok(()));
                }
                if piece.is_empty() {
                    self.piece = None;
                }
                continue;
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Err(reason(&*error))),
                None => return self.end(),
            };
            match frame.into_data() {
                Ok(piece) if piece.is_empty() => {
                    if self.body.is_end_stream() {
                        return self.end();
                    }
                }
                Ok(piece) => self.piece = Some((piece, self.body.is_end_stream())),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        _ = self.out.send_trailers(trailers);
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }

    /// Sends the end of a body behind which there is nothing.
    fn end(&mut self) -> Poll<Result<(), Reason>> {
        // It fails where the client has given the answer up.
        _ = self.out.send_data(Bytes::new(), true);
        Poll::Ready(Ok(()))
    }
}

fn is_expectation(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// What asks a client for the body of its request.
fn go_on() -> http::Response<()> {
    let mut head = http::Response::new(());
    *head.status_mut() = StatusCode::CONTINUE;
    head
}

/// What a client is told of an error: what the backend's HTTP/2 has said, if it has.
fn reason(error: &(dyn Error + 'static)) -> Reason {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(reason) = error.downcast_ref().and_then(h2::Error::reason) {
            return reason;
        }
        cause = error.source();
    }
    Reason::INTERNAL_ERROR
}

impl Future for Stream {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        TURN.set(Turn::default());
        if this.poll_stream(context).is_ready() {
            return Poll::Ready(());
        }
        this.untaken.poll(TURN.get(), &this.client, context)
    }
}

impl Untaken {
    /// Looks at what a stream has done in its turn, and waits for its time to be over.
    fn poll(&mut self, turn: Turn, client: &Downstream, context: &mut Context<'_>) -> Poll<()> {
        self.answers |= turn.answers;
        let Some(limit) = self.limit.filter(|_| self.answers && !turn.waits) else {
            (self.since, self.before, self.timer) = (None, None, None);
            return Poll::Pending;
        };
        let now = Instant::now();
        let since = self.since.filter(|_| !turn.moved).unwrap_or(now);
        self.since = Some(since);
        // Set once: while pieces are taken it is not moved with each of them.
        let timer = self.timer.get_or_insert_with(|| client.worker.timers.after(Some(limit)));
        while Pin::new(&mut *timer).poll(context).is_ready() {
            let left = limit.saturating_sub(now.duration_since(since));
            if !left.is_zero() {
                timer.set(Some(left));
                continue;
            }
            // Where nothing is taken of the whole connection, it is the one to end, and this is no business of the stream.
            let (writes, waiting) = client.activity.writes();
            let flows = !waiting || self.before.is_some_and(|before| before != writes);
            if flows {
                // Dropped, the stream is reset.
                client.terminated("response_body_timeout");
                return Poll::Ready(());
            }
            self.before = Some(writes);
            timer.set(Some(limit / 4));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fmt, io};

    /// An error because of another one.
    #[derive(Debug)]
    struct Because(h2::Error);

    impl fmt::Display for Because {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("it broke off")
        }
    }

    impl Error for Because {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_client_is_told_what_a_backend_has_said() {
        let said = || h2::Error::from(Reason::ENHANCE_YOUR_CALM);
        assert_eq!([reason(&said()), reason(&Because(said()))], [Reason::ENHANCE_YOUR_CALM; 2]);
        assert_eq!(reason(&io::Error::from(io::ErrorKind::BrokenPipe)), Reason::INTERNAL_ERROR);
    }
}
