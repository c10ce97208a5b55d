//! Writing several slices with the cheapest system call.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Slices of so many bytes in all are copied together. More costs more to copy than it spares.
const TOGETHER: usize = 2048;

/// Writes `slices`, as one if they are few bytes: the kernel takes one slice from a caller faster than several, and the
/// head of a response with a small body is the most frequent write of all.
pub(super) fn poll_write_gathered<W: AsyncWrite>(
    io: Pin<&mut W>,
    context: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut filled = slices.iter().filter(|slice| !slice.is_empty());
    let first = filled.next().map_or(&[][..], |slice| slice);
    if filled.next().is_none() {
        return io.poll_write(context, first);
    }
    if slices.iter().map(|slice| slice.len()).sum::<usize>() > TOGETHER {
        return io.poll_write_vectored(context, slices);
    }
    let mut together = [0; TOGETHER];
    let mut end = 0;
    for slice in slices {
        together[end..end + slice.len()].copy_from_slice(slice);
        end += slice.len();
    }
    io.poll_write(context, &together[..end])
}

/// A stream whose small vectored writes are gathered.
#[derive(Debug)]
pub(crate) struct Gathered<I>(pub(crate) I);

impl<I: AsyncRead + Unpin> AsyncRead for Gathered<I> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Gathered<I> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_gathered(Pin::new(&mut self.get_mut().0), context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes how it was written to.
    #[derive(Debug, Default)]
    struct Noting {
        bytes: Vec<u8>,
        slices: Vec<usize>,
    }

    impl AsyncWrite for Noting {
        fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(context, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.slices.push(slices.len());
            slices.iter().for_each(|slice| self.bytes.extend_from_slice(slice));
            Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn few_bytes_are_one_slice_and_many_are_not_copied() {
        let long = vec![b'x'; TOGETHER];
        let cases: &[(&[&[u8]], usize)] = &[
            (&[], 1),
            (&[b""], 1),
            (&[b"head"], 1),
            (&[b"", &long, b""], 1),
            (&[b"head", b"body"], 1),
            (&[b"", b"head", b"", b"body", b""], 1),
            (&[&long[..1000], &long[1000..]], 1),
            (&[b"h", &long], 2),
        ];
        for (slices, written) in cases {
            let mut noting = Noting::default();
            let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
            let mut context = Context::from_waker(std::task::Waker::noop());
            let Poll::Ready(Ok(count)) = poll_write_gathered(Pin::new(&mut noting), &mut context, &slices) else {
                panic!("it is always ready");
            };
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            assert_eq!((count, &noting.bytes), (all.len(), &all));
            assert_eq!(noting.slices, [*written]);
        }
    }
}
