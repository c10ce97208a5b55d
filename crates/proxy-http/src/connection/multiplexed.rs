//! A connection of HTTP/2 with all of its streams, as one future.
//!
//! What streams answer in one turn is sent together, which only somebody can see to who knows when all of them have had
//! theirs. And a stream costs no task.

use super::seldom::Seldom;
use crate::io::Batched;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection and its streams. Dropped, it ends all of them.
pub(super) struct Multiplexed<C> {
    connection: Seldom<C>,
    streams: FuturesUnordered<Stream>,
    begun: Begun,
    io: Batched,
    /// Whether the client does not take what was sent.
    blocked: bool,
}

/// Streams that have begun and were not polled yet.
type Begun = Arc<Mutex<Vec<Stream>>>;

/// Takes the streams that a connection begins.
///
/// Each stream holds a clone, so it must not keep those that wait.
#[derive(Clone, Debug)]
pub(super) struct Beginning(Weak<Mutex<Vec<Stream>>>);

impl Beginning {
    /// Has a stream polled from now on; if its connection is over, it is too.
    pub(super) fn begin(&self, stream: impl Future<Output = ()> + Send + 'static) {
        if let Some(begun) = self.0.upgrade() {
            begun.lock().push(Box::pin(stream));
        }
    }
}

impl<C: Future + Unpin> Multiplexed<C> {
    /// The connection that `connect` makes over `io`, with what it gives its streams to.
    pub(super) fn new(io: Batched, connect: impl FnOnce(Beginning) -> C) -> Self {
        let begun = Begun::default();
        let connection = Seldom::new(connect(Beginning(Arc::downgrade(&begun))));
        Self { connection, streams: FuturesUnordered::new(), begun, io, blocked: false }
    }

    /// The connection itself.
    pub(super) fn connection(&mut self) -> &mut C {
        self.connection.get_mut()
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

    fn poll_all(&mut self, context: &mut Context<'_>) -> Poll<C::Output> {
        loop {
            while let Poll::Ready(Some(())) = self.streams.poll_next_unpin(context) {}
            if let Poll::Ready(ended) = Pin::new(&mut self.connection).poll(context) {
                return Poll::Ready(ended);
            }
            let mut begun = self.begun.lock();
            if begun.is_empty() {
                return Poll::Pending;
            }
            self.streams.extend(begun.drain(..));
        }
    }
}

impl<C: Future + Unpin> Future for Multiplexed<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
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
