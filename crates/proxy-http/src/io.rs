//! The client's end of a connection, as hyper reads and writes it.

mod activity;
mod batch;
mod frames;
mod gather;
mod requests;

pub(crate) use activity::{Activity, Busy, Standstill, Unread};
pub(crate) use batch::Batched;
pub use frames::follow_frames;
pub(crate) use gather::Gathered;
pub use requests::follow_requests;

use bytes::{Buf, Bytes};
use frames::Frames;
use gather::poll_write_gathered;
use requests::{POISON, Requests};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

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
    followed: Option<Box<Followed>>,
}

/// What the bytes of a client are, as far as they are looked at.
#[derive(Debug)]
enum Followed {
    Requests(Requests),
    Frames(Frames),
}

impl ClientIo {
    /// `received` comes before anything that the transport gives.
    pub(crate) fn new(received: Bytes, transport: Transport, activity: Arc<Activity>) -> Self {
        Self { received, transport, activity, followed: None }
    }

    /// From here on what is read are requests of HTTP/1.1. One that could be read in two ways is replaced by one that
    /// cannot be read at all, and nothing comes after it.
    pub(crate) fn follow_requests(&mut self) {
        self.followed.get_or_insert_with(|| Box::new(Followed::Requests(Requests::default())));
    }

    /// Keeps nothing of requests that are over, until [`ClientIo::follow_requests`] is called again.
    pub(crate) fn rest(&mut self) {
        self.followed.take_if(|followed| matches!(&**followed, Followed::Requests(requests) if requests.is_between()));
    }

    /// From here on what is read is somebody else's business.
    pub(crate) fn follow_nothing(&mut self) {
        self.followed = None;
    }

    /// Puts bytes back that were read but not used. They come before all others.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if let Some(Followed::Requests(requests)) = self.followed.as_deref_mut() {
            requests.expect_again(bytes.len());
        }
        self.received = match self.received.is_empty() {
            true => bytes,
            false => [bytes, std::mem::take(&mut self.received)].concat().into(),
        };
    }

    /// From here on what is read are frames of HTTP/2. A client that keeps us busy with nothing is cut off.
    pub(crate) fn follow_frames(&mut self) {
        self.followed = Some(Box::new(Followed::Frames(Frames::new(std::time::Instant::now()))));
    }

    /// Whether a client has not sent the body of its request whole, as far as was read.
    pub(crate) fn is_in_body(&self) -> bool {
        matches!(self.followed.as_deref(), Some(Followed::Requests(requests)) if requests.is_in_body())
    }

    /// Whether bytes wait that no socket will announce.
    pub(crate) fn has_received(&self) -> bool {
        !self.received.is_empty()
    }

    /// Waits until the socket has something to say, be it its end.
    pub(crate) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.socket().poll_read_ready(context)
    }

    /// Whether the connection is broken, though there may be bytes to read.
    pub(crate) fn has_failed(&self) -> bool {
        !matches!(self.transport.socket().take_error(), Ok(None))
    }

    /// Makes the coming close a reset.
    pub(crate) fn reset(&self) -> io::Result<()> {
        self.transport.socket().set_zero_linger()
    }

    /// Follows what was read into `buffer` behind `before`.
    fn follow(&mut self, buffer: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let requests = match self.followed.as_deref_mut() {
            None => return Ok(()),
            Some(Followed::Requests(requests)) => requests,
            Some(Followed::Frames(frames)) => {
                let followed = frames.follow(&buffer.filled()[before..], std::time::Instant::now);
                // Ordering: written and read by the connection's task.
                self.activity.in_head.store(frames.is_in_head(), Ordering::Relaxed);
                // Other frames than those of a head are the beginning of nothing: the connection stays idle.
                self.activity.partial.store(frames.is_in_head(), Ordering::Relaxed);
                self.activity.opened.store(frames.opened(), Ordering::Relaxed);
                return followed.map_err(|frames::Flood| {
                    self.activity.flooding.store(true, Ordering::Relaxed);
                    io::ErrorKind::ConnectionAborted.into()
                });
            }
        };
        if let Err(kept) = requests.follow(&buffer.filled()[before..]) {
            buffer.set_filled(before + kept);
            // At least the line feed that ended the offending line is gone, so there is room for a byte.
            let poison = POISON.len().min(buffer.remaining());
            buffer.put_slice(&POISON[..poison]);
            self.received = Bytes::from_static(&POISON[poison..]);
        }
        // Ordering: written and read by the connection's task.
        self.activity.beyond.store(requests.is_beyond(), Ordering::Relaxed);
        Ok(())
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
        let any = polled.is_ready() && buffer.filled().len() > before;
        this.activity.read(any);
        if any {
            this.follow(buffer, before)?;
        }
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
        let polled = match &mut this.transport {
            Transport::Plain(socket) => poll_write_gathered(Pin::new(socket), context, bytes),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(context, bytes),
        };
        if let Poll::Ready(written) = &polled {
            // Ordering: see `Standstill`.
            this.activity.moves.fetch_add(1, Ordering::Relaxed);
            this.activity.writes.fetch_add(1, Ordering::Relaxed);
            if let (Some(Followed::Frames(frames)), Ok(written)) = (this.followed.as_deref_mut(), written) {
                frames.took(*written);
            }
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
