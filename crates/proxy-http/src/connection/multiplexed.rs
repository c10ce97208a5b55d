//! A connection of HTTP/2 with all of its streams, as one future.
//!
//! What streams answer in one turn is sent together, which only somebody can see to who knows when all of them have had
//! theirs. And a stream costs no task.

use super::downstream::Downstream;
use super::seldom::Seldom;
use super::streams::Stream;
use crate::io::Batched;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::RecvStream;
use h2::server::{Builder, Connection, Handshake, SendResponse};
use http::Request;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// A connection and its streams. Dropped, it ends all of them.
pub(super) struct Multiplexed {
    connection: Seldom<Accepting>,
    streams: FuturesUnordered<Stream>,
    io: Batched,
    /// Whether the client does not take what was sent.
    blocked: bool,
    client: Arc<Downstream>,
    /// How long a client may leave a stream untaken.
    limit: Option<Duration>,
}

impl Multiplexed {
    /// The connection over `io`, whose client may leave each of its streams untaken for `limit`.
    pub(super) fn new(io: Batched, builder: &Builder, client: Arc<Downstream>, limit: Option<Duration>) -> Self {
        let stage = Stage::Shaking(builder.handshake(io.clone()));
        let connection = Seldom::new(Accepting { stage, finishes: false });
        Self { connection, streams: FuturesUnordered::new(), io, blocked: false, client, limit }
    }

    /// Takes no more streams, and ends when those that there are have.
    pub(super) fn finish(&mut self) {
        self.connection.get_mut().finish();
    }

    /// Gives back what memory can be had again.
    pub(super) fn rest(&self) {
        self.io.rest();
    }

    /// Sends what was written; whether the connection, which believes that all of it was, has to be polled because it can
    /// go on, or has to end.
    fn poll_send(&mut self, context: &mut Context<'_>) -> bool {
        let was_blocked = self.blocked;
        let sent = self.io.poll_send(context);
        self.blocked = sent.is_pending();
        let tells = was_blocked && !self.blocked || matches!(sent, Poll::Ready(Err(_)));
        if tells {
            self.connection.get_mut();
        }
        tells
    }

    fn poll_all(&mut self, context: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            while let Poll::Ready(Some(())) = self.streams.poll_next_unpin(context) {}
            let Self { connection, streams, client, limit, .. } = self;
            let before = streams.len();
            let ended = connection.poll_by(context, |connection, context| {
                connection.poll(context, |request, respond| {
                    streams.push(Stream::new(Arc::clone(client), *limit, request, respond));
                })
            });
            if ended.is_ready() || streams.len() == before {
                return ended;
            }
        }
    }
}

impl Future for Multiplexed {
    type Output = Result<(), h2::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.blocked {
            this.poll_send(context);
        }
        let polled = this.poll_all(context);
        if this.poll_send(context) {
            context.waker().wake_by_ref();
        }
        polled
    }
}

/// What begins streams.
struct Accepting {
    stage: Stage,
    finishes: bool,
}

enum Stage {
    /// The client has not sent its preface.
    Shaking(Handshake<Batched, Bytes>),
    Open(Connection<Batched, Bytes>),
}

impl Accepting {
    fn finish(&mut self) {
        self.finishes = true;
        if let Stage::Open(connection) = &mut self.stage {
            connection.graceful_shutdown();
        }
    }

    /// Hands over all streams that the client has begun; ready once there will be no more.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        mut begin: impl FnMut(Request<RecvStream>, SendResponse<Bytes>),
    ) -> Poll<Result<(), h2::Error>> {
        loop {
            match &mut self.stage {
                Stage::Shaking(handshake) => {
                    let connection = ready!(Pin::new(handshake).poll(context))?;
                    self.stage = Stage::Open(connection);
                    if self.finishes {
                        self.finish();
                    }
                }
                Stage::Open(connection) => match ready!(connection.poll_accept(context)) {
                    None => return Poll::Ready(Ok(())),
                    Some(begun) => {
                        let (request, respond) = begun?;
                        begin(request, respond);
                    }
                },
            }
        }
    }
}
