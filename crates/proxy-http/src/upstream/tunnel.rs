//! A connection to a backend that has become a tunnel.

use super::http1::{BackendStream, Http1};
use crate::io::take;
use bytes::Bytes;
use conn_tracker::RequestPermit;
use proxy_tcp::InFlight;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection that has become a tunnel. Counts towards the backend until it drops.
#[derive(Debug)]
pub(crate) struct UpstreamTunnel {
    /// Bytes that come before any other.
    received: Bytes,
    stream: BackendStream,
    _counts: Counts,
}

type Counts = (Option<Arc<RequestPermit>>, InFlight);

impl UpstreamTunnel {
    pub(super) fn new(connection: Http1, counts: Counts) -> Self {
        let (received, stream) = connection.into_tunnel();
        Self { received, stream, _counts: counts }
    }
}

impl AsyncRead for UpstreamTunnel {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.received.is_empty() {
            true => Pin::new(&mut this.stream).poll_read(context, buffer),
            false => take(&mut this.received, buffer),
        }
    }
}

impl AsyncWrite for UpstreamTunnel {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
