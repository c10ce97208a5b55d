//! Reads and writes of sockets that a runtime watches, without the C library.
//!
//! Each call of its own is a point at which a thread may be cancelled. Where there are threads, it takes one atomic operation
//! to become that, and another one to be it no more.

use rustix::buffer::Buffer;
use rustix::fd::AsFd;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io;
use std::mem::MaybeUninit;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Reads what has come, up to the end of `space`; nothing at the end. Waits until there is something.
///
/// # Errors
/// What has broken the connection.
pub fn poll_recv<'s>(
    socket: &TcpStream,
    context: &mut Context<'_>,
    space: &'s mut [MaybeUninit<u8>],
) -> Poll<io::Result<&'s mut [u8]>> {
    poll_read(socket, context, space.len(), space).map_ok(|((read, _), _)| read)
}

/// The same, where there was something before; how much was read.
pub(crate) fn poll_recv_over(
    socket: &TcpStream,
    context: &mut Context<'_>,
    space: &mut [u8],
) -> Poll<io::Result<usize>> {
    poll_read(socket, context, space.len(), space).map_ok(|(_, count)| count)
}

/// Writes as much as there is room for. Waits until there is some.
///
/// # Errors
/// What has broken the connection.
pub fn poll_send(socket: &TcpStream, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    poll_write(socket, context, || send_now(socket, bytes))
}

/// [`ClientSocket::poll_write_last`](super::ClientSocket::poll_write_last) for any socket.
pub(crate) fn poll_send_held(socket: &TcpStream, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    poll_write(socket, context, || send_held(socket, bytes))
}

/// Writes as much as there is room for, if there is any, to a socket that does not block.
pub(super) fn send_now(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, SendFlags::NOSIGNAL)?)
}

/// The same; the kernel keeps a packet that is not full back.
pub(super) fn send_held(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket, bytes, SendFlags::MORE | SendFlags::NOSIGNAL)?)
}

fn poll_write(
    socket: &TcpStream,
    context: &mut Context<'_>,
    write: impl Fn() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        // Most often there is room, and nothing to be told of.
        match socket.try_io(Interest::WRITABLE, &write) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(socket.poll_write_ready(context))?,
            outcome => return Poll::Ready(outcome),
        }
    }
}

fn poll_read<B: Buffer<u8>>(
    socket: &TcpStream,
    context: &mut Context<'_>,
    most: usize,
    space: B,
) -> Poll<io::Result<(B::Output, usize)>> {
    ready!(socket.poll_read_ready(context))?;
    let mut read = None;
    let outcome = socket.try_io(Interest::READABLE, || {
        let (output, count) = recv(socket, space, RecvFlags::empty())?;
        read = Some((output, count));
        // With room left, all there was has been read. The runtime is told so: else the next read would be a call that
        // finds nothing. Of more that comes, and of the end, the kernel tells anew.
        if (1..most).contains(&count) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match (read, outcome) {
        (Some(read), _) => Poll::Ready(Ok(read)),
        (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => Poll::Ready(Err(error)),
        (None, _) => {
            // There was nothing after all. If something has come by now, nobody else would tell.
            if socket.poll_read_ready(context).is_ready() {
                context.waker().wake_by_ref();
            }
            Poll::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{Shutdown, shutdown};
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    /// What one read of up to `most` bytes gives.
    async fn read(socket: &TcpStream, most: usize) -> io::Result<Vec<u8>> {
        poll_fn(|context| {
            let mut space = vec![MaybeUninit::uninit(); most];
            poll_recv(socket, context, &mut space).map_ok(|read| read.to_vec())
        })
        .await
    }

    #[tokio::test]
    async fn everything_is_read_whatever_there_is_room_for_and_then_the_end() {
        let (mut client, socket) = pair().await;
        let (data, mut got) = (vec![7; 1 << 20], Vec::new());
        let sending = async {
            client.write_all(&data).await.unwrap();
            shutdown(&client, Shutdown::Write).unwrap();
        };
        let receiving = async {
            for most in (1..=4096).cycle() {
                match read(&socket, most).await.unwrap() {
                    piece if piece.is_empty() => break,
                    piece => got.extend(piece),
                }
            }
        };
        tokio::join!(sending, receiving);
        assert!(got == data);
        assert!(read(&socket, 1).await.unwrap().is_empty(), "it stays the end");
    }

    #[tokio::test]
    async fn who_has_read_all_there_was_does_not_ask_again() {
        let (mut client, socket) = pair().await;
        client.write_all(b"question").await.unwrap();
        assert_eq!(read(&socket, 100).await.unwrap(), b"question");
        let error = socket.try_io(Interest::READABLE, || Ok(())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "the runtime knows of nothing");
        client.write_all(b"more").await.unwrap();
        assert_eq!(read(&socket, 4).await.unwrap(), b"more");
        socket.try_io(Interest::READABLE, || Ok(())).expect("there may be more");
        drop(client);
        assert!(read(&socket, 4).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_breaks_the_connection_is_told() {
        let (client, socket) = pair().await;
        client.set_zero_linger().unwrap();
        drop(client);
        assert_eq!(read(&socket, 1).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let sent = poll_fn(|context| poll_send(&socket, context, b"x")).await;
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn what_finds_no_room_waits_for_it() {
        let (mut client, socket) = pair().await;
        let (data, mut got) = (vec![7; 16 << 20], Vec::new());
        let mut waited = false;
        let sending = async {
            let mut left = &data[..];
            while !left.is_empty() {
                let sent = poll_fn(|context| {
                    let polled = poll_send(&socket, context, left);
                    waited |= polled.is_pending();
                    polled
                });
                left = &left[sent.await.unwrap()..];
            }
            shutdown(&socket, Shutdown::Write).unwrap();
        };
        // Polled first, so that the socket is full before the client reads.
        tokio::join!(biased; sending, async { client.read_to_end(&mut got).await.unwrap() });
        assert!(got == data && waited);
    }
}
