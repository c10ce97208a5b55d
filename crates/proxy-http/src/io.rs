//! The client's end of a connection, as hyper reads and writes it.

mod gather;

pub(crate) use gather::Gathered;

use bytes::{Buf, Bytes};
use gather::poll_write_gathered;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;

/// What a connection is about, told by its IO and its requests to its task.
///
/// Written and read within one task, but for `busy`, which the body of a request may lower from elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Requests, request bodies and tunnels that are not over.
    busy: AtomicUsize,
    /// Requests ever begun, wrapping.
    requests: AtomicUsize,
    /// Whether bytes came while no request was in flight: the beginning of the next one.
    partial: AtomicBool,
    /// Whether written bytes wait to be flushed.
    unflushed: AtomicBool,
    /// Whether the last read found nothing.
    drained: AtomicBool,
    /// How often bytes came or went, wrapping.
    moves: AtomicUsize,
}

/// Since when a connection has been busy without a byte in either direction.
#[derive(Debug)]
pub(crate) struct Standstill {
    since: Instant,
    moves: usize,
}

impl Standstill {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), moves: 0 }
    }

    /// Looks at a connection: whether it has been at a standstill for `limit`.
    pub(crate) fn is_too_long(&mut self, activity: &Activity, limit: Option<Duration>) -> bool {
        // Ordering: read by the task that writes it.
        let moves = activity.moves.load(Ordering::Relaxed);
        if moves != self.moves || !activity.is_busy() {
            *self = Self { since: Instant::now(), moves };
        }
        limit.is_some_and(|limit| self.since.elapsed() >= limit)
    }
}

impl Activity {
    /// Counts a request whose head is read.
    pub(crate) fn begin_request(&self) {
        // Ordering: read by the task that writes it.
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.partial.store(false, Ordering::Relaxed);
    }

    /// Keeps the connection busy until the answer drops.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        // Ordering: raised by the connection's task, which is the one to look at it.
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy { activity: Arc::clone(self) }
    }

    /// How many requests were ever begun, wrapping.
    pub(crate) fn requests(&self) -> usize {
        // Ordering: read by the task that writes it.
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether nothing is under way, not even the head of a request.
    pub(crate) fn is_idle(&self) -> bool {
        // Ordering: acquires what the body of a request did before it let go.
        !self.is_busy() && !self.partial.load(Ordering::Relaxed)
    }

    /// Whether a request, the body of one or a tunnel is not over.
    pub(crate) fn is_busy(&self) -> bool {
        // Ordering: see `is_idle`.
        self.busy.load(Ordering::Acquire) > 0
    }

    /// Whether the beginning of a request has come.
    pub(crate) fn is_partial(&self) -> bool {
        // Ordering: read by the task that writes it.
        self.partial.load(Ordering::Relaxed)
    }

    /// Whether hyper can be taken off the socket without losing a byte.
    pub(crate) fn can_park(&self) -> bool {
        // Ordering: read by the task that writes them.
        self.is_idle() && !self.unflushed.load(Ordering::Relaxed) && self.drained.load(Ordering::Relaxed)
    }

    fn read(&self, any: bool) {
        // Ordering: written and read by the connection's task.
        self.drained.store(!any, Ordering::Relaxed);
        if any {
            self.moves.fetch_add(1, Ordering::Relaxed);
        }
        if any && self.busy.load(Ordering::Relaxed) == 0 {
            self.partial.store(true, Ordering::Relaxed);
        }
    }

    fn unflushed(&self, unflushed: bool) {
        // Ordering: written and read by the connection's task.
        self.unflushed.store(unflushed, Ordering::Relaxed);
    }
}

/// Keeps a connection busy until it drops.
#[derive(Debug)]
pub(crate) struct Busy {
    activity: Arc<Activity>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        // Ordering: releases what was done to the task that sees the count at zero.
        self.activity.busy.fetch_sub(1, Ordering::Release);
    }
}

/// A socket, and bytes to be taken before any that it gives.
#[derive(Debug)]
pub(crate) struct Prefixed {
    received: Bytes,
    socket: TcpStream,
}

impl Prefixed {
    pub(crate) const fn new(received: Bytes, socket: TcpStream) -> Self {
        Self { received, socket }
    }
}

/// What carries the bytes of HTTP.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TcpStream),
    /// Boxed: the state of a TLS session is much larger than a socket.
    Tls(Box<TlsStream<Prefixed>>),
}

impl Transport {
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.get_ref().0.socket,
        }
    }
}

/// The client's end of a connection.
#[derive(Debug)]
pub(crate) struct ClientIo {
    received: Bytes,
    transport: Transport,
    activity: Arc<Activity>,
    batch: Batch,
}

/// Whether a write waits for the rest of the turn, so that one system call carries the frames of many streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Batch {
    /// Never.
    Off,
    /// The next write waits.
    Closed,
    /// Writes pass, until they are flushed.
    Open,
}

impl ClientIo {
    /// `received` comes before anything that the transport gives.
    pub(crate) fn new(received: Bytes, transport: Transport, activity: Arc<Activity>) -> Self {
        Self { received, transport, activity, batch: Batch::Off }
    }

    /// Puts bytes back that were read but not used. They come before all others.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.received = match self.received.is_empty() {
            true => bytes,
            false => [bytes, std::mem::take(&mut self.received)].concat().into(),
        };
    }

    /// From here on the first write of a turn waits until the other tasks that are ready have had their turn.
    pub(crate) fn batch_writes(&mut self) {
        self.batch = Batch::Closed;
    }

    /// Whether bytes wait that no socket will announce.
    pub(crate) fn has_received(&self) -> bool {
        !self.received.is_empty()
    }

    /// Waits until the socket has something to say, be it its end. Cancel safe.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.transport.socket().readable().await
    }

    /// Makes the coming close a reset.
    pub(crate) fn reset(&self) -> io::Result<()> {
        self.transport.socket().set_zero_linger()
    }

    fn await_turn(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.batch == Batch::Closed {
            self.batch = Batch::Open;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = match &mut this.transport {
            _ if !this.received.is_empty() => take(&mut this.received, buffer),
            Transport::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_read(context, buffer),
        };
        this.activity.read(polled.is_ready() && buffer.filled().len() > before);
        polled
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.activity.unflushed(true);
        std::task::ready!(this.await_turn(context));
        let polled = match &mut this.transport {
            Transport::Plain(socket) => poll_write_gathered(Pin::new(socket), context, bytes),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(context, bytes),
        };
        if polled.is_ready() {
            // Ordering: see `Standstill`.
            this.activity.moves.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = match &mut this.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_flush(context),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(context),
        };
        if polled.is_ready() {
            this.activity.unflushed(false);
            if this.batch == Batch::Open {
                this.batch = Batch::Closed;
            }
        }
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(context),
        }
    }
}

/// Fills `buffer` from bytes that were received already.
pub(crate) fn take(received: &mut Bytes, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    let count = received.len().min(buffer.remaining());
    buffer.put_slice(&received[..count]);
    received.advance(count);
    if received.is_empty() {
        // Lets go of the memory behind it.
        *received = Bytes::new();
    }
    Poll::Ready(Ok(()))
}

impl AsyncRead for Prefixed {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.received.is_empty() {
            true => Pin::new(&mut this.socket).poll_read(context, buffer),
            false => take(&mut this.received, buffer),
        }
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_gathered(Pin::new(&mut self.get_mut().socket), context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}
