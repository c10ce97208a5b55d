//! Bytes both ways, once a connection has been upgraded.

use crate::connection::Downstream;
use crate::request::{Entry, InFlight};
use crate::upstream::UpstreamTunnel;
use conn_tracker::RouteId;
use proxy_tcp::{End, Lifespan, Signs, Timer, Timers};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A tunnel to a backend that has agreed to the upgrade.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// Counts towards the backend.
    backend: UpstreamTunnel,
    idle: Option<Duration>,
    route: RouteId,
    /// In flight until the tunnel is over.
    request: InFlight,
}

impl Tunnel {
    /// The tunnel of `request`, to `backend`.
    pub(crate) fn new(backend: UpstreamTunnel, idle: Option<Duration>, route: RouteId, request: InFlight) -> Self {
        Self { backend, idle, route, request }
    }
}

impl Tunnel {
    /// What the access log will say of it, if there is one.
    pub(crate) fn entry(&self) -> Option<Arc<Entry>> {
        self.request.entry().cloned()
    }
}

/// Copies between the client and the backend until the tunnel is over. `gone` tells whether the client has broken off.
pub(crate) async fn run<A>(tunnel: Tunnel, io: A, gone: impl Fn(&A) -> bool, client: Arc<Downstream>)
where
    A: AsyncRead + AsyncWrite,
{
    let worker = &client.worker;
    let mut tunnel = tunnel;
    let entry = tunnel.entry();
    let lifespan = Lifespan { idle: tunnel.idle, ..Lifespan::default() };
    let end = copy_both(io, gone, &mut tunnel.backend, lifespan, &worker.timers, entry.as_deref()).await;
    entry.iter().for_each(|entry| entry.ends(end.label()));
    if let Some(kind) = end.kind() {
        worker.event(kind, end.label(), Some(tunnel.route), client.client());
    }
}

/// Copies both ways until both sides have ended, one breaks off, or the tunnel has been silent for too long. The end of one side is
/// passed on to the other, which may go on talking. While nothing moves, no buffer is held. Counts the bytes for `entry`.
///
/// A client that breaks off while its backend takes nothing, or after it has ended its side, is not seen by reading: `gone`
/// is asked from time to time, and a flush fails on a stream of HTTP/2 that was reset.
pub(crate) async fn copy_both<A, B>(
    client: A,
    gone: impl Fn(&A) -> bool,
    backend: B,
    lifespan: Lifespan,
    timers: &Timers,
    entry: Option<&Entry>,
) -> End
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (mut client, mut backend) = (pin!(client), pin!(backend));
    let (mut up, mut down) = (Direction::default(), Direction::default());
    // With a timer the clock goes, so it comes first.
    let mut timer = timers.after(Some(Duration::ZERO));
    let (mut last, mut in_doubt) = (timers.tick(), false);
    let mut look: Option<Timer> = None;
    std::future::poll_fn(|context| {
        let before = up.moved + down.moved;
        let copied = (
            up.poll(context, client.as_mut(), backend.as_mut()),
            down.poll(context, backend.as_mut(), client.as_mut()),
        );
        if let Some(entry) = entry {
            entry.received(std::mem::take(&mut up.passed));
            entry.sent(std::mem::take(&mut down.passed));
        }
        match copied {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(End::Reset),
            _ => {}
        }
        if up.is_stuck() || up.stage == Stage::Ended {
            let look = look.get_or_insert_with(|| timers.after(Some(LOOK)));
            while Pin::new(&mut *look).poll(context).is_ready() {
                // Once we have ended our side there is nothing to flush any more.
                let flushes = down.stage == Stage::Copying;
                if gone(&client) || flushes && matches!(client.as_mut().poll_flush(context), Poll::Ready(Err(_))) {
                    return Poll::Ready(End::Reset);
                }
                look.set(Some(LOOK));
            }
        } else {
            look = None;
        }
        if up.moved + down.moved != before {
            last = timers.tick();
        }
        let signs = Signs {
            last,
            half: up.stage == Stage::Ended || down.stage == Stage::Ended,
            waiting: up.is_stuck() || down.is_stuck(),
        };
        loop {
            // The timer is not moved with every byte: when it fires, it looks how long ago the last one was.
            if signs.is_in_doubt() <= in_doubt {
                ready!(Pin::new(&mut timer).poll(context));
            }
            match lifespan.look(timers.tick(), signs, None) {
                Err(end) => return Poll::Ready(end),
                Ok(next) => timer.set_tick(Some(next)),
            }
            in_doubt = signs.is_in_doubt();
        }
    })
    .await
}

/// How often a client is looked at that is not read from.
const LOOK: Duration = Duration::from_secs(1);

/// Bytes on their way from one side to the other.
#[derive(Debug, Default)]
struct Direction {
    /// What was read and could not be written yet.
    left: Vec<u8>,
    written: usize,
    stage: Stage,
    unflushed: bool,
    moved: u64,
    /// Bytes that the other side has taken and that are not counted yet.
    passed: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Copying,
    Ending,
    Ended,
}

/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// How many chunks are moved before other connections have their turn.
const TURN: usize = 16;

impl Direction {
    /// Whether something was read that the other side does not take.
    fn is_stuck(&self) -> bool {
        !self.left.is_empty()
    }

    fn poll<R, W>(
        &mut self,
        context: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        for _ in 0..TURN {
            while self.written < self.left.len() {
                let count = ready!(to.as_mut().poll_write(context, &self.left[self.written..]))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.written += count;
                self.moved += count as u64;
                self.passed += count;
                self.unflushed = true;
            }
            (self.left, self.written) = (Vec::new(), 0);
            match self.stage {
                Stage::Ended => return Poll::Ready(Ok(())),
                Stage::Ending => {
                    ready!(to.as_mut().poll_shutdown(context))?;
                    self.stage = Stage::Ended;
                    return Poll::Ready(Ok(()));
                }
                Stage::Copying => {
                    if self.read(context, from.as_mut(), to.as_mut())?.is_pending() {
                        if self.unflushed {
                            ready!(to.as_mut().poll_flush(context))?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once onto the stack and writes what it can; only what is left takes memory.
    fn read<R, W>(&mut self, context: &mut Context<'_>, from: Pin<&mut R>, to: Pin<&mut W>) -> io::Result<Poll<()>>
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        let mut space = [std::mem::MaybeUninit::uninit(); CHUNK];
        let mut buffer = ReadBuf::uninit(&mut space);
        if from.poll_read(context, &mut buffer)?.is_pending() {
            return Ok(Poll::Pending);
        }
        let bytes = buffer.filled();
        self.moved += bytes.len() as u64;
        if bytes.is_empty() {
            self.stage = Stage::Ending;
            return Ok(Poll::Ready(()));
        }
        let count = match to.poll_write(context, bytes)? {
            Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(count) => count,
            Poll::Pending => 0,
        };
        self.unflushed |= count > 0;
        self.passed += count;
        self.left = bytes[count..].to_vec();
        Ok(Poll::Ready(()))
    }
}

#[cfg(test)]
mod tests;
