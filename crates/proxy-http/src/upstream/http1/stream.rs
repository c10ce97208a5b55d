//! What carries the bytes of a connection to a backend.

use proxy_tcp::{poll_recv, poll_send};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What carries the bytes of a connection to a backend.
#[derive(Debug)]
pub(in crate::upstream) enum BackendStream {
    Plain(TcpStream),
    /// Boxed: the state of a TLS session is much larger than a socket.
    Tls(Box<TlsStream<TcpStream>>),
}

impl BackendStream {
    /// Whether there is neither a byte nor an end to be read, as far as the runtime knows.
    pub(super) fn is_idle(&mut self) -> bool {
        match self {
            Self::Plain(socket) => {
                socket.try_read(&mut [0; 1]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            Self::Tls(_) => self.is_silent(&mut Context::from_waker(Waker::noop())),
        }
    }

    /// Whether there is neither a byte nor an end to be read. Tells when that changes.
    pub(super) fn is_silent(&mut self, context: &mut Context<'_>) -> bool {
        let mut space = [0; 1];
        Pin::new(self).poll_read(context, &mut ReadBuf::new(&mut space)).is_pending()
    }

    /// Reads what has come, up to the end of `space`, and answers what `keep` makes of it; of nothing at the end. Waits until
    /// there is something.
    pub(super) fn poll_recv<T>(
        &mut self,
        context: &mut Context<'_>,
        space: &mut [MaybeUninit<u8>],
        keep: impl FnOnce(&[u8]) -> T,
    ) -> Poll<io::Result<T>> {
        match self {
            Self::Plain(socket) => poll_recv(socket, context, space).map_ok(|read| keep(read)),
            Self::Tls(tls) => {
                let mut space = ReadBuf::uninit(space);
                ready!(Pin::new(tls.as_mut()).poll_read(context, &mut space))?;
                Poll::Ready(Ok(keep(space.filled())))
            }
        }
    }

    /// Waits until there may be something to read, where that can be told without a place to read it to.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => socket.poll_read_ready(context),
            // Some may have been read and decrypted already.
            Self::Tls(_) => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncRead for BackendStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for BackendStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => poll_send(socket, context, bytes),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(context),
        }
    }
}
