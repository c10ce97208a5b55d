//! Two sockets that are one connection: what comes out of either goes into the other.

use crate::Timers;
use crate::lifespan::{End, Lifespan, Signs};
use crate::pipe::Transport;
use crate::socket::{has_unread, poll_recv_over, poll_send, poll_send_held};
use crate::timers::AtomicTick;
use crate::upstream::{Owed, acknowledge_at_once, write_at_once};
use bytes::Bytes;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

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
    /// How many bytes the backend has had of it before.
    pub(crate) said: usize,
    /// What the socket to the backend is still to be told.
    pub(crate) owed: Owed,
    /// Whether the client has its say when the backend has ended.
    pub(crate) half_close: bool,
    pub(crate) lifespan: Lifespan,
}

impl Tunnel {
    /// Moves bytes both ways until both sides have ended, or, without `half_close`, the backend has.
    ///
    /// An end of one side is passed on once everything before it is through; a reset is passed on at once. Holds no
    /// buffer and no pipe while no byte is on its way.
    pub(crate) async fn carry(&mut self, transport: &Transport, timers: &Timers) -> (End, Moved) {
        let activity = Activity::new(timers);
        let (outcome, moved) = {
            let early = std::mem::take(&mut self.early);
            let (client_out, client_in) = self.client.split();
            let (backend_out, backend_in) = self.backend.split();
            let mut up = Way::new((client_out, backend_in), early, true, transport, &activity);
            (up.moved, up.owes) = (self.said as u64, self.owed.writes);
            let mut down = Way::new((backend_out, client_in), Bytes::new(), false, transport, &activity);
            (down.owes, down.ends_both) = (self.owed.acknowledgements, !self.half_close);
            let outcome = tokio::select! {
                biased;
                outcome = up.carry() => outcome,
                outcome = down.carry() => outcome,
                end = activity.expiry(self.lifespan) => Ok(end),
            };
            (outcome, Moved { up: up.moved, down: down.moved })
        };
        let end = match outcome {
            Ok(End::Closed) if !self.half_close && has_unread(&self.client) => {
                Box::pin(self.let_finish(transport, &activity)).await
            }
            Ok(end) => end,
            Err(Reset) => {
                for side in [&self.client, &self.backend] {
                    // The side that broke off does not mind; for the other one this makes the close a reset.
                    side.set_zero_linger().unwrap_or_default();
                }
                End::Reset
            }
        };
        (end, moved)
    }

    /// Ends both sides where the client has said something that nobody takes any more. To close its socket with that unread
    /// would be a reset, which may cost it the last of what the backend said. So it is heard out, for as long as a tunnel may
    /// be half dead.
    async fn let_finish(&mut self, transport: &Transport, activity: &Activity<'_>) -> End {
        for side in [&mut self.client, &mut self.backend] {
            side.shutdown().await.unwrap_or_default();
        }
        let client = &mut self.client;
        let heard_out = poll_fn(|context| {
            loop {
                match ready!(poll_recv_over(client, context, &mut transport.buffer.lock())) {
                    Err(_) => return Poll::Ready(End::Reset),
                    Ok(0) => return Poll::Ready(End::Closed),
                    Ok(_) => {}
                }
            }
        });
        tokio::select! {
            biased;
            end = heard_out => end,
            end = activity.expiry(self.lifespan) => end,
        }
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
struct Activity<'a> {
    timers: &'a Timers,
    /// When the last byte moved.
    last: AtomicTick,
    /// Directions at their end.
    ended: AtomicU8,
    /// Directions with bytes that their end does not take.
    waiting: AtomicU8,
}

impl<'a> Activity<'a> {
    fn new(timers: &'a Timers) -> Self {
        let last = AtomicTick::new(timers.tick());
        Self { timers, last, ended: AtomicU8::new(0), waiting: AtomicU8::new(0) }
    }

    fn touch(&self) {
        self.last.set(self.timers.tick());
    }

    /// Notes the end of one direction; whether it was the second one.
    fn ended(&self) -> bool {
        // Ordering: see the type.
        self.ended.fetch_add(1, Ordering::Relaxed) > 0
    }

    /// Notes that bytes wait, until the answer drops.
    fn waiting(&self) -> Waiting<'_> {
        // Ordering: see the type.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    fn signs(&self) -> Signs {
        // Ordering: see the type.
        let (ended, waiting) = (self.ended.load(Ordering::Relaxed), self.waiting.load(Ordering::Relaxed));
        Signs { last: self.last.get(), half: ended > 0, waiting: waiting > 0 }
    }

    /// Waits until the tunnel is too old or was unused for too long. Moving bytes does not touch the timer: it goes off,
    /// sees that there was traffic, and is set anew.
    async fn expiry(&self, lifespan: Lifespan) -> End {
        let mut timer = self.timers.soon();
        let end = lifespan.end.map(|end| self.timers.tick_at(end));
        // Now that there is a timer, the clock goes.
        self.touch();
        let mut in_doubt = false;
        poll_fn(|context| {
            loop {
                let signs = self.signs();
                if signs.is_in_doubt() <= in_doubt {
                    ready!(Pin::new(&mut timer).poll(context));
                }
                match lifespan.look(self.timers.tick(), signs, end) {
                    Err(why) => return Poll::Ready(why),
                    Ok(next) => timer.set_tick(Some(next)),
                }
                in_doubt = signs.is_in_doubt();
            }
        })
        .await
    }
}

/// Bytes that wait for a side that does not take them.
struct Waiting<'a>(&'a Activity<'a>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Ordering: see `Activity`.
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
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
    /// Whether its end is that of the tunnel.
    ends_both: bool,
    transport: &'a Transport,
    activity: &'a Activity<'a>,
    /// Bytes that its end has taken.
    moved: u64,
    /// Whether the kernel has kept the last of them back.
    held: bool,
    /// Whether the socket to the backend is still to be told what a second write upwards needs, or the first answer down.
    owes: bool,
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

impl<'a> Way<'a> {
    fn new(
        (from, to): (ReadHalf<'a>, WriteHalf<'a>),
        early: Bytes,
        upward: bool,
        transport: &'a Transport,
        activity: &'a Activity<'a>,
    ) -> Self {
        let (ends_both, held, owes) = (false, false, false);
        Self { from, to, early, upward, ends_both, transport, activity, moved: 0, held, owes }
    }

    /// Moves everything there is to move. Returns when that is the end of the tunnel.
    async fn carry(&mut self) -> Result<End, Reset> {
        let taken = match self.stream().await {
            Err(Broken::Read) => return Err(Reset),
            // Whoever does not take any more may still have said something: the other direction goes on to its end.
            Err(Broken::Write) => false,
            Ok(()) => true,
        };
        let both = self.activity.ended();
        if taken && self.ends_both {
            // The close brings what is held, and says the end.
            return Ok(End::Closed);
        }
        // Where both have ended the close says it as well, and brings what is held unless that side was not read to its end.
        if taken && (!both || self.held) {
            // Whoever has gone by now finds out by itself.
            self.to.shutdown().await.unwrap_or_default();
        }
        if both {
            // Both sockets are closed now, which tells the other side too.
            return Ok(End::Closed);
        }
        // The other direction ends the tunnel, unless nobody is left to take what it brings.
        drop(Box::pin(self.from.ready(Interest::ERROR)).await);
        Ok(End::Closed)
    }

    async fn stream(&mut self) -> Result<(), Broken> {
        match std::mem::take(&mut self.early) {
            // All of it was said, and the memory of a whole read is given back.
            early if early.is_empty() => drop(early),
            early => Box::pin(self.write(early.into())).await?,
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
        Ok(())
    }

    async fn write(&mut self, bytes: Vec<u8>) -> Result<(), Broken> {
        let mut rest = &bytes[..];
        let _waiting = self.activity.waiting();
        while !rest.is_empty() {
            self.about_to_write();
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
        let count = ready!(poll_recv_over(self.from.as_ref(), context, &mut buffer)).map_err(|_| Broken::Read)?;
        if count == 0 {
            return Poll::Ready(Ok(Copied::End));
        }
        self.held = count < buffer.len() && ends(self.from.as_ref(), context);
        if self.owes && !self.upward && !self.held {
            self.owes = false;
            acknowledge_at_once(self.from.as_ref());
        }
        self.about_to_write();
        let read = &buffer[..count];
        let outcome = match self.held {
            true => poll_send_held(self.to.as_ref(), context, read),
            false => poll_send(self.to.as_ref(), context, read),
        };
        let written = match outcome {
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

    /// To be called ahead of each write.
    fn about_to_write(&mut self) {
        if self.owes && self.upward && self.moved > 0 {
            self.owes = false;
            write_at_once(self.to.as_ref());
        }
    }

    /// Moves bytes through a pipe from when there are some until there are none; `None` if there is no pipe.
    async fn burst(&mut self) -> Result<Option<Burst>, Broken> {
        self.about_to_write();
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
                        let _waiting = self.activity.waiting();
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

/// Whether the other end of a readable socket has said its last word: what can be read without waiting is all there is, and
/// then its end, not an error.
fn ends(socket: &TcpStream, context: &mut Context<'_>) -> bool {
    match pin!(socket.ready(Interest::READABLE | Interest::WRITABLE)).poll(context) {
        // With both directions closed it may have been reset.
        Poll::Ready(Ok(ready)) => ready.is_read_closed() && !ready.is_write_closed(),
        _ => false,
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
mod tests;
