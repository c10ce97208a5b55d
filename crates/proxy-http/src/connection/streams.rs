//! The streams of an HTTP/2 connection, watched so that one whose client takes nothing of it ends.
//!
//! hyper asks a response for more only when its client has made room, so neither the response nor anybody it knows is asked
//! while there is none. The stream is: what its request and its response have said of the turn tells whom it waits for.

use super::downstream::Downstream;
use super::multiplexed::Beginning;
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use proxy_tcp::Timer;
use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

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

/// Begins the streams of a connection, each of which its client may leave untaken for so long.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    pub(super) beginning: Beginning,
    pub(super) client: Arc<Downstream>,
    pub(super) limit: Option<Duration>,
}

impl<S> Executor<S> for Streams
where
    S: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: S) {
        let (client, limit) = (Arc::clone(&self.client), self.limit);
        let watched = Watched { stream, client, limit, answers: false, since: None, before: None, timer: None };
        self.beginning.begin(watched);
    }
}

pin_project! {
    struct Watched<S> {
        #[pin]
        stream: S,
        client: Arc<Downstream>,
        limit: Option<Duration>,
        answers: bool,
        // Since when the client takes nothing.
        since: Option<Instant>,
        // How often bytes had gone over the connection when this was looked at before.
        before: Option<usize>,
        timer: Option<Timer>,
    }
}

impl<S: Future<Output = ()>> Future for Watched<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        TURN.set(Turn::default());
        if this.stream.poll(context).is_ready() {
            return Poll::Ready(());
        }
        let turn = TURN.get();
        *this.answers |= turn.answers;
        let Some(limit) = this.limit.filter(|_| *this.answers && !turn.waits) else {
            (*this.since, *this.before, *this.timer) = (None, None, None);
            return Poll::Pending;
        };
        let now = Instant::now();
        let since = this.since.filter(|_| !turn.moved).unwrap_or(now);
        *this.since = Some(since);
        // Set once: while pieces are taken it is not moved with each of them.
        let timer = this.timer.get_or_insert_with(|| this.client.worker.timers.after(Some(limit)));
        while Pin::new(&mut *timer).poll(context).is_ready() {
            let left = limit.saturating_sub(now.duration_since(since));
            if !left.is_zero() {
                timer.set(Some(left));
                continue;
            }
            // Where nothing is taken of the whole connection, it is the one to end, and this is no business of the stream.
            let (writes, waiting) = this.client.activity.writes();
            let flows = !waiting || this.before.is_some_and(|before| before != writes);
            if flows {
                // Dropped, the stream is reset.
                this.client.terminated("response_body_timeout");
                return Poll::Ready(());
            }
            *this.before = Some(writes);
            timer.set(Some(limit / 4));
        }
        Poll::Pending
    }
}
