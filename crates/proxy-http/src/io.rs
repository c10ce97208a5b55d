//! The client's end of a connection.

mod activity;
mod batch;
mod frames;
mod gather;
mod room;
mod stream;
mod tls;

pub(crate) use activity::{Activity, Begun, Busy, Standstill, Unread};
pub(crate) use batch::Batched;
pub use frames::follow_frames;
pub(crate) use gather::Gathered;
pub(crate) use room::{make_room, room};
pub(crate) use stream::StreamIo;
pub(crate) use tls::Tls;

use bytes::{Buf, BytesMut};
use frames::Frames;
use gather::poll_write_gathered;
use proxy_tcp::ClientSocket;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What carries the bytes of HTTP.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(ClientSocket),
    Tls(Box<Tls>),
}

impl Transport {
    pub(crate) fn socket(&self) -> &ClientSocket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket(),
        }
    }

    fn socket_mut(&mut self) -> &mut ClientSocket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.socket_mut(),
        }
    }
}

/// The client's end of a connection.
#[derive(Debug)]
pub(crate) struct ClientIo {
    received: BytesMut,
    transport: Transport,
    activity: Arc<Activity>,
    /// What is read, of HTTP/2.
    frames: Option<Box<Frames>>,
    /// Whether it is silent most of the time, so that no memory is kept in between.
    silent: bool,
}

impl ClientIo {
    /// `received` comes before anything that the transport gives.
    pub(crate) fn new(received: BytesMut, transport: Transport, activity: Arc<Activity>) -> Self {
        Self { received, transport, activity, frames: None, silent: false }
    }

    /// What was received before anything was read.
    pub(crate) fn take_received(&mut self) -> BytesMut {
        if !self.received.is_empty() {
            self.activity.read(true);
        }
        std::mem::take(&mut self.received)
    }

    /// Puts bytes back that were read but not used. They come before all others.
    pub(crate) fn put_back(&mut self, bytes: BytesMut) {
        debug_assert!(self.received.is_empty(), "bytes would change their order");
        self.received = bytes;
    }

    /// Reads behind what `unread` has; how much. No memory is taken before there is something to read, where that can be
    /// told; then it is as much as that takes, or room for `ask` bytes.
    pub(crate) fn poll_fill(
        &mut self,
        unread: &mut BytesMut,
        ask: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Transport::Plain(socket) = &mut self.transport
            && ask <= FIRST_READ
            && unread.is_empty()
            && self.received.is_empty()
        {
            let polled = poll_first(socket, unread, context);
            self.activity.read(matches!(polled, Poll::Ready(Ok(1..))));
            return polled;
        }
        if unread.capacity() - unread.len() < LEAST_READ {
            let waits = match &self.transport {
                Transport::Plain(_) => true,
                // Some may have been read and decrypted already.
                Transport::Tls(tls) => tls.waits_for_socket(),
            };
            if waits && self.received.is_empty() && self.transport.socket_mut().poll_read_ready(context)?.is_pending() {
                self.activity.read(false);
                return Poll::Pending;
            }
            make_room(unread, ask);
        }
        pin!(self.read_buf(unread)).poll(context)
    }

    /// From here on what is read are frames of HTTP/2. A client that keeps us busy with nothing is cut off.
    pub(crate) fn follow_frames(&mut self) {
        self.frames = Some(Box::new(Frames::new(std::time::Instant::now())));
    }

    /// From here on it is a tunnel, which is silent most of the time.
    pub(crate) const fn become_tunnel(&mut self) {
        self.silent = true;
    }

    /// Whether bytes wait that no socket will announce.
    pub(crate) fn has_received(&self) -> bool {
        !self.received.is_empty()
    }

    /// Gives back what memory can be had again, when nobody knows when more comes.
    pub(crate) fn rest(&mut self) {
        if let Transport::Tls(tls) = &mut self.transport {
            tls.rest();
        }
    }

    /// Waits until the socket has something to say, be it its end.
    pub(crate) fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.socket_mut().poll_read_ready(context)
    }

    /// Has the runtime watch the socket.
    pub(crate) fn watch(&mut self) {
        // Where it cannot, the next read fails.
        _ = self.transport.socket_mut().watched();
    }

    /// Writes bytes behind which [`ClientIo::finish`] follows at once, and leaves with them where it can.
    pub(crate) fn poll_write_last(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Transport::Plain(socket) = &mut self.transport else { return Pin::new(self).poll_write(context, bytes) };
        self.activity.unflushed(true);
        let polled = socket.poll_write_last(context, bytes);
        if polled.is_ready() {
            self.activity.wrote();
        }
        polled
    }

    /// Ends our side of a connection that is not encrypted.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.transport.socket().finish()
    }

    /// Whether the socket tells of something to be read.
    pub(crate) fn tells_of_more(&self) -> bool {
        self.transport.socket().tells_of_more()
    }

    /// Whether the connection is broken, though there may be bytes to read.
    pub(crate) fn has_failed(&self) -> bool {
        !matches!(self.transport.socket().take_error(), Ok(None))
    }

    /// Whether the client has ended its side, though there may be bytes to read before that.
    pub(crate) fn has_ended(&self) -> bool {
        self.transport.socket().has_ended()
    }

    /// Whether the end of the connection has to be said before it is closed.
    pub(crate) const fn says_goodbye(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// Makes the coming close a reset.
    pub(crate) fn reset(&self) -> io::Result<()> {
        self.transport.socket().set_zero_linger()
    }

    /// Follows the frames that were read.
    fn follow(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(frames) = self.frames.as_deref_mut() else { return Ok(()) };
        let followed = frames.follow(bytes, std::time::Instant::now);
        // Other frames than those of a head are the beginning of nothing: the connection stays idle.
        self.activity.set_in_head(frames.is_in_head());
        // Ordering: written and read by the connection's task.
        self.activity.opened.store(frames.opened(), Ordering::Relaxed);
        followed.map_err(|frames::Flood| {
            self.activity.flooding.store(true, Ordering::Relaxed);
            io::ErrorKind::ConnectionAborted.into()
        })
    }
}

/// Reads by way of the stack, and keeps no more memory than came, and little more: most requests are much smaller than the
/// space that a read has to have, and those of a connection are read to the same place one after the other.
#[inline(never)] // For its place on the stack, which other turns do without.
fn poll_first(socket: &mut ClientSocket, unread: &mut BytesMut, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut space = [const { MaybeUninit::uninit() }; FIRST_READ];
    socket.poll_recv(context, &mut space).map_ok(|read| {
        make_room(unread, read.len().max(KEPT));
        unread.extend_from_slice(read);
        read.len()
    })
}

/// With less room than this no read is begun.
const LEAST_READ: usize = 1024;
/// Bytes that a reader asks for at first. As much is read by way of the stack.
pub(crate) const FIRST_READ: usize = 8 * 1024;
/// Room for some requests as most are.
const KEPT: usize = 256;

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
            this.follow(&buffer.filled()[before..])?;
        }
        if this.silent && polled.is_pending() {
            this.rest();
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
            Transport::Tls(tls) => poll_write_gathered(Pin::new(tls.as_mut()), context, bytes),
        };
        if let Poll::Ready(written) = &polled {
            this.activity.wrote();
            if let (Some(frames), Ok(written)) = (this.frames.as_deref_mut(), written) {
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
            if this.silent {
                this.rest();
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
pub(crate) fn take(received: &mut (impl Buf + Default), buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    let count = received.remaining().min(buffer.remaining());
    buffer.put_slice(&received.chunk()[..count]);
    received.advance(count);
    if !received.has_remaining() {
        // Lets go of the memory behind it.
        *received = Default::default();
    }
    Poll::Ready(Ok(()))
}
