//! Two sockets that are one connection: what comes out of either goes into the other.

use crate::pipe::Transport;
use bytes::Bytes;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// How long a tunnel may live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifespan {
    /// Without a byte in either direction.
    pub(crate) idle: Option<Duration>,
    /// At all.
    pub(crate) end: Option<Instant>,
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides are done.
    Closed,
    /// One side broke off.
    Reset,
    /// No byte for too long.
    Idle,
    /// It became too old.
    Lifetime,
}

impl End {
    /// The name in logs and metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Idle => "idle_timeout",
            Self::Lifetime => "lifetime",
        }
    }
}

/// Bytes that a tunnel has passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// To the backend.
    pub(crate) up: u64,
    /// To the client.
    pub(crate) down: u64,
}

/// Two sockets that are one connection.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) client: TcpStream,
    pub(crate) backend: TcpStream,
    /// What the client sent already; goes to the backend before anything else.
    pub(crate) early: Bytes,
    pub(crate) lifespan: Lifespan,
}

impl Tunnel {
    /// Moves bytes both ways until both sides have ended.
    ///
    /// An end of one side is passed on once everything before it is through; a reset is passed on at once. Holds no
    /// buffer and no pipe while no byte is on its way.
    pub(crate) async fn carry(&mut self, transport: &Transport) -> (End, Moved) {
        let activity = Activity::new();
        let (outcome, moved) = {
            let early = std::mem::take(&mut self.early);
            let (client_out, client_in) = self.client.split();
            let (backend_out, backend_in) = self.backend.split();
            let mut up =
                Way { from: client_out, to: backend_in, early, upward: true, transport, activity: &activity, moved: 0 };
            let early = Bytes::new();
            let mut down = Way {
                from: backend_out,
                to: client_in,
                early,
                upward: false,
                transport,
                activity: &activity,
                moved: 0,
            };
            let outcome = tokio::select! {
                biased;
                outcome = up.carry() => outcome,
                outcome = down.carry() => outcome,
                end = activity.expiry(self.lifespan) => Ok(end),
            };
            (outcome, Moved { up: up.moved, down: down.moved })
        };
        let end = outcome.unwrap_or_else(|Reset| {
            for side in [&self.client, &self.backend] {
                // The side that broke off does not mind; for the other one this makes the close a reset.
                side.set_zero_linger().unwrap_or_default();
            }
            End::Reset
        });
        (end, moved)
    }
}

/// A side broke off before its stream ended.
struct Reset;

/// Why a direction cannot go on.
enum Broken {
    /// Where it comes from broke off.
    Read,
    /// Where it goes to broke off.
    Write,
}

/// What the two directions of a tunnel know of each other. Used by one task; atomic only so that the task may move
/// between threads, so nothing is ordered by it.
struct Activity {
    start: Instant,
    last: AtomicU64,
    /// Directions at their end.
    ended: AtomicU8,
}

impl Activity {
    fn new() -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0), ended: AtomicU8::new(0) }
    }

    fn touch(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Ordering: see the type.
        self.last.store(millis, Ordering::Relaxed);
    }

    /// Notes the end of one direction; whether it was the second one.
    fn ended(&self) -> bool {
        // Ordering: see the type.
        self.ended.fetch_add(1, Ordering::Relaxed) > 0
    }

    /// Waits until the tunnel is too old or was unused for too long. Moving bytes does not touch the timer: it goes off,
    /// sees that there was traffic, and is set anew.
    async fn expiry(&self, lifespan: Lifespan) -> End {
        loop {
            // Ordering: see the type.
            let last = self.start + Duration::from_millis(self.last.load(Ordering::Relaxed));
            let idle_at = lifespan.idle.and_then(|idle| last.checked_add(idle));
            let at = match (idle_at, lifespan.end) {
                (Some(idle), Some(end)) => idle.min(end),
                (Some(at), None) | (None, Some(at)) => at,
                (None, None) => return std::future::pending().await,
            };
            let now = Instant::now();
            if at > now {
                tokio::time::sleep_until(at.into()).await;
            } else if lifespan.end.is_some_and(|end| end <= now) {
                return End::Lifetime;
            } else {
                return End::Idle;
            }
        }
    }
}

/// One direction of a tunnel. What it does most of its time is wait for a read; everything else it may wait for is boxed,
/// so that an idle tunnel is small.
struct Way<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    early: Bytes,
    /// Whether it leads from the client to the backend.
    upward: bool,
    transport: &'a Transport,
    activity: &'a Activity,
    /// Bytes that its end has taken.
    moved: u64,
}

/// What one read and write did.
enum Copied {
    /// The stream ended.
    End,
    /// So many bytes went through.
    All(usize),
    /// So many bytes were read, and these of them not taken.
    Left(usize, Vec<u8>),
}

/// How a burst ended.
enum Burst {
    /// With the stream.
    End,
    /// After so many bytes there were no more for now.
    Pause(usize),
}

/// From this on a burst is moved through a pipe.
const BULK: usize = crate::pipe::BUFFER;
/// After so many bytes in one go, others get their turn.
const TURN: usize = 1 << 20;

impl Way<'_> {
    /// Moves everything there is to move. Returns when that is the end of the tunnel.
    async fn carry(&mut self) -> Result<End, Reset> {
        match self.stream().await {
            Err(Broken::Read) => return Err(Reset),
            // Whoever does not take any more may still have said something: the other direction goes on to its end.
            Ok(()) | Err(Broken::Write) => {}
        }
        if !self.activity.ended() {
            // The other direction ends the tunnel, unless nobody is left to take what it brings.
            drop(Box::pin(self.from.ready(Interest::ERROR)).await);
        }
        Ok(End::Closed)
    }

    async fn stream(&mut self) -> Result<(), Broken> {
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            Box::pin(self.write(early.into())).await?;
        }
        let mut bulk = false;
        loop {
            if bulk && let Some(moved) = Box::pin(self.burst()).await? {
                bulk = match moved {
                    Burst::End => break,
                    Burst::Pause(count) => count >= BULK,
                };
                continue;
            }
            match poll_fn(|context| self.poll_copy(context)).await? {
                Copied::End => break,
                Copied::All(count) => bulk = count >= BULK,
                Copied::Left(count, rest) => {
                    Box::pin(self.write(rest)).await?;
                    bulk = count >= BULK;
                }
            }
            self.activity.touch();
        }
        self.to.shutdown().await.map_err(|_| Broken::Write)
    }

    async fn write(&mut self, bytes: Vec<u8>) -> Result<(), Broken> {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let written = tokio::select! {
                biased;
                written = self.to.write(rest) => written,
                () = abandoned(self.from.as_ref(), self.upward) => return Err(Broken::Read),
            };
            match written {
                Ok(0) | Err(_) => return Err(Broken::Write),
                Ok(count) => {
                    rest = &rest[count..];
                    self.moved += count as u64;
                }
            }
            self.activity.touch();
        }
        Ok(())
    }

    /// Moves bytes through the common buffer: what one read gives, as far as one write takes it.
    fn poll_copy(&mut self, context: &mut Context<'_>) -> Poll<Result<Copied, Broken>> {
        let mut buffer = self.transport.buffer.lock();
        let mut buffer = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut self.from).poll_read(context, &mut buffer)).map_err(|_| Broken::Read)?;
        let read = buffer.filled();
        if read.is_empty() {
            return Poll::Ready(Ok(Copied::End));
        }
        let written = match Pin::new(&mut self.to).poll_write(context, read) {
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Write)),
            Poll::Pending => 0,
        };
        self.moved += written as u64;
        Poll::Ready(Ok(if written == read.len() {
            Copied::All(written)
        } else {
            Copied::Left(read.len(), read[written..].to_vec())
        }))
    }

    /// Moves bytes through a pipe from when there are some until there are none; `None` if there is no pipe.
    async fn burst(&mut self) -> Result<Option<Burst>, Broken> {
        let (from, to): (&TcpStream, &TcpStream) = (self.from.as_ref(), self.to.as_ref());
        from.readable().await.map_err(|_| Broken::Read)?;
        let Some(mut pipe) = self.transport.pipe() else { return Ok(None) };
        let mut moved = 0;
        let mut turn = 0;
        loop {
            match from.try_io(Interest::READABLE, || pipe.fill(from)) {
                Ok(0) => return Ok(Some(Burst::End)),
                Ok(count) => {
                    moved += count;
                    turn += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Some(Burst::Pause(moved))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(Broken::Read),
            }
            while pipe.filled() > 0 {
                match to.try_io(Interest::WRITABLE, || pipe.empty(to)) {
                    Ok(count) => {
                        self.moved += count as u64;
                        self.activity.touch();
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        tokio::select! {
                            biased;
                            ready = to.writable() => ready.map_err(|_| Broken::Write)?,
                            () = abandoned(from, self.upward) => return Err(Broken::Read),
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return Err(Broken::Write),
                }
            }
            if turn >= TURN {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Waits until a client resets its connection. Asked for while its bytes wait for the backend: nobody reads from it then,
/// so nothing else would tell that it is gone. What a backend said before it broke off is still to arrive.
async fn abandoned(from: &TcpStream, upward: bool) {
    if !upward || from.ready(Interest::ERROR).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    async fn socket_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }

    /// Sends 8 MiB through a tunnel, which must be the same at the other end.
    async fn transfer(transport: &Transport) {
        let ((mut outer, client), (mut server, backend)) = (socket_pair().await, socket_pair().await);
        let lifespan = Lifespan { idle: None, end: None };
        let mut tunnel = Tunnel { client, backend, early: Bytes::from_static(b"early"), lifespan };
        let data: Vec<u8> = (0..8_u32 << 18).flat_map(u32::to_be_bytes).collect();
        let send = async {
            outer.write_all(&data).await.unwrap();
            outer.shutdown().await.unwrap();
        };
        let receive = async {
            let mut got = Vec::new();
            server.read_to_end(&mut got).await.unwrap();
            server.shutdown().await.unwrap();
            got
        };
        let ((), got, (end, moved)) = tokio::join!(send, receive, tunnel.carry(transport));
        assert!(got.strip_prefix(b"early").is_some_and(|got| got == data));
        assert_eq!(end, End::Closed);
        assert_eq!(moved, Moved { up: got.len() as u64, down: 0 });
    }

    #[tokio::test]
    async fn bulk_goes_through_pipes_that_are_given_back() {
        let transport = Transport::new();
        transfer(&transport).await;
        assert_eq!((transport.leased(), transport.kept()), (0, 1));
        transfer(&transport).await;
        assert_eq!((transport.leased(), transport.kept()), (0, 1), "the one from before was used again");
    }

    #[tokio::test]
    async fn without_a_pipe_everything_is_copied() {
        let transport = Transport::new();
        let leases: Vec<_> = std::iter::from_fn(|| transport.pipe()).collect();
        transfer(&transport).await;
        assert_eq!(transport.leased(), leases.len());
        drop(leases);
        assert_eq!(transport.leased(), 0);
    }
}
