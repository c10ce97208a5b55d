//! A client's socket, which the runtime watches only once somebody waits for it.

mod direct;

pub use direct::{poll_recv, poll_send};
pub(crate) use direct::{poll_recv_over, poll_send_held};

use bytes::BytesMut;
use direct::{send_held, send_now};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::net::{RecvFlags, Shutdown, getsockname, recv, shutdown, sockopt};
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A client's socket.
///
/// A client that sends its request at once and is answered at once is never waited for. So its socket is not registered
/// with the runtime before the first wait, which spares two system calls, an event and what the runtime keeps for it.
#[derive(Debug)]
pub struct ClientSocket(State);

#[derive(Debug)]
enum State {
    /// Nobody has waited for it.
    Unwatched(std::net::TcpStream),
    Watched(TcpStream),
    /// The runtime could not watch it, so it is closed.
    Lost,
}

impl ClientSocket {
    /// A socket that does not block, and that no runtime watches.
    #[must_use]
    pub fn new(socket: std::net::TcpStream) -> Self {
        Self(State::Unwatched(socket))
    }

    /// Whether the runtime watches it. Until then nothing tells what its client does.
    #[must_use]
    pub const fn is_watched(&self) -> bool {
        matches!(self.0, State::Watched(_))
    }

    /// The socket, watched from here on.
    ///
    /// # Errors
    /// If the runtime cannot watch it, now or before; it is closed then.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn watched(&mut self) -> io::Result<&mut TcpStream> {
        if let State::Unwatched(_) = self.0
            && let State::Unwatched(socket) = std::mem::replace(&mut self.0, State::Lost)
        {
            self.0 = State::Watched(TcpStream::from_std(socket)?);
        }
        match &mut self.0 {
            State::Watched(socket) => Ok(socket),
            State::Unwatched(_) | State::Lost => Err(lost()),
        }
    }

    /// The same, for whoever keeps it.
    ///
    /// # Errors
    /// Those of [`ClientSocket::watched`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn into_watched(mut self) -> io::Result<TcpStream> {
        self.watched()?;
        match self.0 {
            State::Watched(socket) => Ok(socket),
            State::Unwatched(_) | State::Lost => Err(lost()),
        }
    }

    /// Waits until there is something to read, be it the end.
    ///
    /// # Errors
    /// If it cannot be watched.
    pub fn poll_read_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watched()?.poll_read_ready(context)
    }

    /// Reads what has come, up to the end of `space`; nothing at the end. Waits until there is something.
    ///
    /// # Errors
    /// If it cannot be watched; what has broken the connection.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn poll_recv<'s>(
        &mut self,
        context: &mut Context<'_>,
        space: &'s mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<&'s mut [u8]>> {
        poll_recv(self.watched()?, context, space)
    }

    /// Reads up to `most` bytes that have come already into `received`, which is empty and takes no memory if there are
    /// none. Only before it is watched. What stands in the way is found by the next read.
    pub(crate) fn read_at_once(&self, received: &mut BytesMut, most: usize) {
        let State::Unwatched(socket) = &self.0 else { return };
        received.resize(most, 0);
        match recv(socket, &mut received[..], RecvFlags::empty()) {
            Ok((count @ 1.., _)) => received.truncate(count),
            _ => *received = BytesMut::new(),
        }
    }

    /// Whether there is something to be read. Of a socket that is watched this is known, and may be its end too; of any other
    /// the system is asked.
    #[must_use]
    pub fn tells_of_more(&self) -> bool {
        match &self.0 {
            State::Unwatched(socket) => has_unread(socket),
            State::Watched(socket) => socket.poll_read_ready(&mut Context::from_waker(Waker::noop())).is_ready(),
            State::Lost => false,
        }
    }

    /// Whether the runtime has been told that the client has ended its side, though there may be bytes to read before that.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let State::Watched(socket) = &self.0 else { return false };
        let told = pin!(socket.ready(Interest::READABLE)).poll(&mut Context::from_waker(Waker::noop()));
        matches!(told, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Writes bytes behind which [`ClientSocket::finish`] follows at once: the kernel keeps a packet that is not full back,
    /// so that both leave in one.
    ///
    /// # Errors
    /// Those of a write.
    pub fn poll_write_last(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let send = |socket: &std::net::TcpStream| send_held(socket, bytes);
        self.poll_writing(context, send, |socket, context| poll_send_held(&socket, context, bytes))
    }

    /// Says that nothing more will be written. The end arrives behind all that was.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn finish(&self) -> io::Result<()> {
        Ok(shutdown(self.as_socket()?, Shutdown::Write)?)
    }

    /// Its own address.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = getsockname(self.as_socket()?)?;
        SocketAddr::try_from(address).map_err(|_| io::ErrorKind::Unsupported.into())
    }

    /// What has broken the connection, told once.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(sockopt::socket_error(self.as_socket()?)?.err().map(Into::into))
    }

    /// Makes the coming close a reset.
    ///
    /// # Errors
    /// If the connection is gone.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        Ok(sockopt::set_socket_linger(self.as_socket()?, Some(Duration::ZERO))?)
    }

    fn as_socket(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.0 {
            State::Unwatched(socket) => Ok(socket.as_fd()),
            State::Watched(socket) => Ok(socket.as_fd()),
            State::Lost => Err(lost()),
        }
    }

    /// Writes without waiting, then waits if it has to.
    fn poll_writing(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(&std::net::TcpStream) -> io::Result<usize>,
        poll_write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let State::Unwatched(socket) = &self.0 {
            match write(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
        poll_write(Pin::new(self.watched()?), context)
    }
}

fn lost() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl From<TcpStream> for ClientSocket {
    fn from(socket: TcpStream) -> Self {
        Self(State::Watched(socket))
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut().watched()?;
        if buffer.initialized().len() < buffer.capacity() {
            return Pin::new(socket).poll_read(context, buffer);
        }
        let count = ready!(poll_recv_over(socket, context, buffer.initialize_unfilled()))?;
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let send = |socket: &std::net::TcpStream| send_now(socket, bytes);
        self.get_mut().poll_writing(context, send, |socket, context| poll_send(&socket, context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = |mut socket: &std::net::TcpStream| socket.write_vectored(bytes);
        self.get_mut().poll_writing(context, write, |socket, context| socket.poll_write_vectored(context, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is written is the kernel's.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.finish())
    }
}

/// Whether something was said that was not read. The system is asked.
pub(crate) fn has_unread(socket: impl AsFd) -> bool {
    recv(socket, &mut [0], RecvFlags::PEEK).is_ok_and(|(count, _)| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A client, and its connection as it is accepted.
    async fn accepted() -> (TcpStream, ClientSocket) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = listener.accept().await.unwrap().0.into_std().unwrap();
        (client, ClientSocket::new(socket))
    }

    #[tokio::test]
    async fn who_is_answered_at_once_is_never_watched() {
        let (mut client, mut socket) = accepted().await;
        let mut received = BytesMut::new();
        socket.read_at_once(&mut received, 100);
        assert_eq!(received.capacity(), 0, "nothing has come");
        client.write_all(b"question").await.unwrap();
        while received.is_empty() {
            tokio::task::yield_now().await;
            socket.read_at_once(&mut received, 100);
        }
        assert_eq!(received, "question");
        assert!(!socket.tells_of_more());
        socket.write_all(b"ans").await.unwrap();
        let sent = poll_fn(|context| socket.poll_write_last(context, b"wer")).await.unwrap();
        assert_eq!((sent, socket.is_watched()), (3, false));
        socket.finish().unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        client.write_all(b"more").await.unwrap();
        while !socket.tells_of_more() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_is_waited_for_is_watched() {
        let (mut client, mut socket) = accepted().await;
        let local = socket.local_addr().unwrap();
        let (read, ()) = tokio::join!(async { socket.read_u8().await.unwrap() }, async {
            client.write_all(b"x").await.unwrap();
        });
        assert_eq!((read, socket.is_watched()), (b'x', true));
        let mut received = BytesMut::new();
        client.write_all(b"y").await.unwrap();
        socket.read_at_once(&mut received, 100);
        assert_eq!(received, "", "what comes is told by the runtime");
        assert_eq!(socket.into_watched().unwrap().local_addr().unwrap(), local);
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_waited_for() {
        let (mut client, mut socket) = accepted().await;
        let data = vec![7; 16 << 20];
        let mut got = Vec::new();
        let send = async {
            socket.write_all(&data).await.unwrap();
            assert!(socket.is_watched(), "no socket has room for so much");
            socket.shutdown().await.unwrap();
        };
        // Polled first, so that the socket is full before the client reads.
        tokio::join!(biased; send, async { client.read_to_end(&mut got).await.unwrap() });
        assert!(got == data);
    }

    #[tokio::test]
    async fn a_reset_is_a_reset_before_it_is_watched() {
        let (mut client, socket) = accepted().await;
        assert!(socket.take_error().unwrap().is_none());
        socket.set_zero_linger().unwrap();
        drop(socket);
        assert_eq!(client.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
