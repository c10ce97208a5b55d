//! What is on its way to the client.

use crate::http1::Sent;
use crate::io::ClientIo;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Heads, and bodies as far as they were taken: a head and what is there of its body leave in one call.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// Heads, small pieces of a body and what frames it.
    pub(super) out: Vec<u8>,
    /// How much of it is written.
    written: usize,
    /// A large piece of a body, and what comes behind it.
    piece: Bytes,
    behind: &'static [u8],
    unflushed: bool,
    /// Whether the kernel keeps the last bytes back for the end of the connection.
    held: bool,
}

/// Pieces of a body up to this size are copied behind the head. More costs more to copy than it spares, unless the end of
/// the body, which a body in chunks tells of by itself, would take a call of its own.
const TOGETHER: usize = 2 * 1024;
const CHUNKS_TOGETHER: usize = 8 * 1024;

/// Room that is kept: enough for most heads with a small body.
const KEPT: usize = 2 * 1024;

/// The end of a chunk, and of all of them.
const LAST: &[u8] = b"\r\n0\r\n\r\n";

impl Sending {
    /// Whether everything has left.
    pub(super) const fn is_done(&self) -> bool {
        self.is_written() && !self.unflushed
    }

    const fn is_written(&self) -> bool {
        self.out.is_empty() && self.piece.is_empty() && self.behind.is_empty()
    }

    /// Whether another piece can be put behind what is there.
    pub(super) const fn has_room(&self) -> bool {
        self.piece.is_empty() && self.behind.is_empty() && self.out.len() < CHUNKS_TOGETHER
    }

    /// Puts a piece of a body behind what is there; `false` if it is longer than the head has said.
    #[must_use]
    pub(super) fn push(&mut self, piece: Bytes, sent: &mut Sent) -> bool {
        if piece.is_empty() {
            return true;
        }
        if !sent.before(piece.len(), &mut self.out) {
            return false;
        }
        let most = if matches!(sent, Sent::Chunked { .. }) { CHUNKS_TOGETHER } else { TOGETHER };
        if piece.len() <= most {
            self.out.extend_from_slice(&piece);
            self.out.extend_from_slice(sent.behind());
        } else {
            (self.piece, self.behind) = (piece, sent.behind());
        }
        true
    }

    /// Puts the end of a body behind what is there; `false` if it is shorter than the head has said.
    #[must_use]
    pub(super) fn end(&mut self, trailers: Option<&HeaderMap>, sent: &mut Sent) -> bool {
        match sent {
            Sent::Chunked { .. } if !self.piece.is_empty() => {
                // Its trailers would have been told of behind its last piece.
                self.behind = LAST;
                true
            }
            sent => sent.end(trailers, &mut self.out),
        }
    }

    /// Gives back what memory can be had again, when everything has left and nobody knows when more comes.
    pub(super) fn rest(&mut self) {
        self.out.shrink_to(KEPT);
    }

    /// Whether the end of the connection has to be said, so that the last bytes leave.
    pub(super) const fn is_held(&self) -> bool {
        self.held
    }

    /// Writes all there is, and flushes it. Behind the `last` follows the end of the connection at once.
    pub(super) fn poll(&mut self, io: &mut ClientIo, last: bool, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_written() {
            let slices =
                [IoSlice::new(&self.out[self.written..]), IoSlice::new(&self.piece), IoSlice::new(self.behind)];
            self.unflushed = true;
            let count = match self.piece.is_empty() && self.behind.is_empty() {
                true if last => {
                    self.held = true;
                    ready!(io.poll_write_last(context, &slices[0]))?
                }
                true => ready!(Pin::new(&mut *io).poll_write(context, &slices[0]))?,
                false => ready!(Pin::new(&mut *io).poll_write_vectored(context, &slices))?,
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.wrote(count);
        }
        ready!(Pin::new(io).poll_flush(context))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, count: usize) {
        let of_out = count.min(self.out.len() - self.written);
        self.written += of_out;
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        let of_piece = (count - of_out).min(self.piece.len());
        self.piece.advance(of_piece);
        if self.piece.is_empty() {
            // Lets go of the memory behind it.
            self.piece = Bytes::new();
        }
        self.behind = &self.behind[count - of_out - of_piece..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written of pieces of these sizes, if every write takes `most` bytes.
    fn written(sent: &mut Sent, sizes: &[usize], most: usize) -> Vec<u8> {
        let (mut sending, mut all) = (Sending::default(), Vec::new());
        sending.out.extend_from_slice(b"head ");
        let mut write = |sending: &mut Sending| {
            while !sending.is_written() {
                let slices = [&sending.out[sending.written..], &sending.piece, sending.behind].concat();
                let count = slices.len().min(most);
                all.extend_from_slice(&slices[..count]);
                sending.wrote(count);
            }
        };
        for size in sizes {
            assert!(sending.push(vec![b'x'; *size].into(), sent));
            if !sending.has_room() {
                write(&mut sending);
            }
        }
        assert!(sending.end(None, sent));
        write(&mut sending);
        all
    }

    #[test]
    fn everything_leaves_in_its_order_whatever_is_taken_at_once() {
        for most in [1, 3, 2048, usize::MAX] {
            let sizes = [1, TOGETHER, TOGETHER + 1, CHUNKS_TOGETHER, CHUNKS_TOGETHER + 1, 0, 7];
            let mut chunked = Sent::Chunked { open: false, announced: Vec::new() };
            let text = String::from_utf8(written(&mut chunked, &sizes, most)).unwrap();
            let chunk = |size: &usize| format!("{size:x}\r\n{}\r\n", "x".repeat(*size));
            let chunks: String = sizes.iter().filter(|size| **size > 0).map(chunk).collect();
            assert_eq!(text, format!("head {chunks}0\r\n\r\n"));
            let all = sizes.iter().sum::<usize>();
            let text = written(&mut Sent::Sized(all as u64), &sizes, most);
            assert_eq!(text, [b"head ".as_slice(), &vec![b'x'; all]].concat());
        }
    }

    #[test]
    fn the_end_comes_behind_a_large_piece_that_is_not_written_yet() {
        let mut sending = Sending::default();
        let mut sent = Sent::Chunked { open: false, announced: Vec::new() };
        let large = vec![b'x'; CHUNKS_TOGETHER + 1];
        assert!(sending.push(large.into(), &mut sent) && !sending.has_room());
        assert!(sending.end(None, &mut sent));
        assert_eq!((&sending.out[..], sending.behind), (&b"2001\r\n"[..], LAST));
        assert!(!Sending::default().push(Bytes::from_static(b"abc"), &mut Sent::Sized(2)), "it is too long");
    }
}
