//! What the streams of one connection write in one turn, sent as one.
//!
//! h2 flushes behind every frame of data, so that each response would be a record of TLS and a system call of its own. So
//! what it writes is gathered, and a flush is put off until whoever drives the connection has had all of its streams
//! polled.

use super::ClientIo;
use super::room::APART;
use parking_lot::Mutex;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose writes are gathered until [`Batched::poll_send`]. Clones are the same connection: h2 keeps one,
/// whoever drives it the other.
#[derive(Clone, Debug)]
pub(crate) struct Batched(Arc<Mutex<Batch>>);

#[derive(Debug)]
struct Batch {
    io: ClientIo,
    /// What was gathered, behind [`APART`] bytes that are nothing, if it has memory.
    out: Vec<u8>,
    /// As far as it is written.
    written: usize,
    unflushed: bool,
    /// Whether a read has found in this turn that there is nothing, and will wake whoever drives the connection.
    dry: bool,
    /// Why nothing can be sent any more.
    failed: Option<io::ErrorKind>,
}

/// As much as is gathered: a record of TLS, in 16 KiB with what is in front of it.
const MOST: usize = 16 * 1024 - APART;

impl Batched {
    pub(crate) fn new(io: ClientIo) -> Self {
        let (out, written, unflushed, dry, failed) = (Vec::new(), 0, false, false, None);
        Self(Arc::new(Mutex::new(Batch { io, out, written, unflushed, dry, failed })))
    }

    /// Sends what was gathered. Pending until the client takes it; then the task is woken, and whoever had more to write
    /// has to be polled: it is not told. Called last in each turn, as it lets reads look anew.
    ///
    /// # Errors
    /// Once, if the client takes no more. So does whatever is written from here on.
    pub(crate) fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut batch = self.0.lock();
        batch.dry = false;
        if batch.is_sent() {
            return Poll::Ready(Ok(()));
        }
        let sent = ready!(batch.poll_send(context));
        batch.failed = sent.as_ref().err().map(io::Error::kind);
        Poll::Ready(sent)
    }

    /// Gives back the memory that is not in use.
    pub(crate) fn rest(&self) {
        let mut batch = self.0.lock();
        if batch.is_written() {
            (batch.out, batch.written) = (Vec::new(), 0);
        }
        batch.io.rest();
    }
}

impl Batch {
    const fn is_written(&self) -> bool {
        self.written == self.out.len()
    }

    const fn is_sent(&self) -> bool {
        self.is_written() && !self.unflushed || self.failed.is_some()
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(context))?;
        ready!(Pin::new(&mut self.io).poll_flush(context))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn poll_write_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_written() {
            self.unflushed = true;
            match ready!(Pin::new(&mut self.io).poll_write(context, &self.out[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.out.truncate(APART);
        self.written = self.out.len();
        Poll::Ready(Ok(()))
    }

    fn poll_gather(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.failed {
            return Poll::Ready(Err(kind.into()));
        }
        let count = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if self.out.len().saturating_sub(APART) + count > MOST {
            ready!(self.poll_write_out(context))?;
            if count > MOST {
                // Nothing is gained by a copy.
                self.unflushed = true;
                return Pin::new(&mut self.io).poll_write_vectored(context, slices);
            }
        }
        if self.out.capacity() == 0 {
            // What comes in small pieces is not to be moved about while it grows.
            self.out.reserve_exact(APART + MOST);
            self.out.resize(APART, 0);
            self.written = APART;
        }
        slices.iter().for_each(|slice| self.out.extend_from_slice(slice));
        Poll::Ready(Ok(count))
    }
}

impl AsyncRead for Batched {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut batch = self.0.lock();
        // h2 asks anew for each stream that it hands over.
        if batch.dry {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut batch.io).poll_read(context, buffer);
        batch.dry = polled.is_pending();
        polled
    }
}

impl AsyncWrite for Batched {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().poll_gather(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().poll_gather(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: [`Batched::poll_send`] follows.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut batch = self.0.lock();
        if batch.failed.is_none() {
            ready!(batch.poll_send(context))?;
        }
        Pin::new(&mut batch.io).poll_shutdown(context)
    }
}
