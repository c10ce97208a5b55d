//! A stream of HTTP/2 that has become a tunnel.

use bytes::{Buf, Bytes};
use h2::{RecvStream, SendStream};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream of HTTP/2, as bytes both ways. Dropped before both ends, it is reset.
#[derive(Debug)]
pub(crate) struct StreamIo {
    out: SendStream<Bytes>,
    body: RecvStream,
    /// What was received and not taken.
    received: Bytes,
}

impl StreamIo {
    pub(crate) const fn new(out: SendStream<Bytes>, body: RecvStream) -> Self {
        Self { out, body, received: Bytes::new() }
    }

    /// Ends our side.
    pub(crate) fn end(mut self) {
        _ = self.out.send_data(Bytes::new(), true);
    }
}

impl AsyncRead for StreamIo {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.received.is_empty() {
            match ready!(this.body.poll_data(context)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(received)) => this.received = received,
                // Whatever the reason is, it is the end of both sides, as a reset is in TCP (RFC 8441, 5).
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let count = this.received.len().min(buffer.remaining());
        buffer.put_slice(&this.received[..count]);
        this.received.advance(count);
        // It fails where the stream has ended, and then nobody waits for it.
        _ = this.body.flow_control().release_capacity(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.out.reserve_capacity(bytes.len());
        while this.out.capacity() == 0 && !bytes.is_empty() {
            match ready!(this.out.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let count = bytes.len().min(this.out.capacity());
        let sent = this.out.send_data(Bytes::copy_from_slice(&bytes[..count]), false);
        Poll::Ready(sent.map(|()| count).map_err(io::Error::other))
    }

    /// Fails if the client has given the stream up: what was written is the connection's, which sends it.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().out.poll_reset(context) {
            Poll::Ready(Ok(reason)) => Poll::Ready(Err(io::Error::other(h2::Error::from(reason)))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(io::Error::other(error))),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().out.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
