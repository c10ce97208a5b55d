//! An HTTP/1.1 connection: a conversation while something is under way, parked while nothing is.
//!
//! A conversation has place for what is read, written and asked. So a connection that has been idle for a moment gives it
//! up: socket, TLS state, permit and one timer stay. The next byte begins it anew. What is spoken is in the modules below:
//! how heads and bodies are read, and how responses are written, knows no socket.

mod active;
mod conversation;
mod head;
mod intake;
mod parked;
mod response;
mod rest;
mod sending;

pub use rest::read_requests;

use super::downstream::Downstream;
use super::{Call, Serving, Term};
use crate::io::ClientIo;
use crate::tunnel;
use active::Active;
use parked::Parked;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

/// How long a client has to take note of the end of its connection, and how much it may still send, in bytes.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 * 1024 * 1024;
/// How much of that is read at once.
const LINGER_READ: usize = 16 * 1024;

/// Where a stage of the connection leads to.
enum Next {
    /// It is idle since then.
    Park(ClientIo, Instant),
    /// More bytes wait, or have come.
    Resume(ClientIo),
    /// It becomes a tunnel.
    Tunnel(ClientIo),
    /// It has to end, in this way.
    End(ClientIo, Farewell),
    /// It is over.
    Over,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, Default)]
struct Farewell {
    /// The client is told that its request took too long.
    answer: bool,
    /// Our side is ended before the connection is closed.
    shutdown: bool,
    /// What the client still sends is taken, for a while.
    linger: bool,
}

/// A stage of the connection. Boxed, so that what an idle connection keeps is no larger than the stage that it is in.
type Stage = Pin<Box<dyn Future<Output = Next> + Send>>;

/// Serves the requests of a connection until it, or the tunnel it becomes, is over.
pub(super) fn serve(io: ClientIo, client: Arc<Downstream>) -> Serving {
    let mut stage: Stage = Box::pin(Active::new(io, Arc::clone(&client)));
    let forget = ForgetTunnel(client);
    Box::pin(async move {
        loop {
            let next = stage.as_mut().await;
            let client = Arc::clone(&forget.0);
            stage = match next {
                Next::Resume(io) => Box::pin(Active::new(io, client)),
                Next::Park(io, since) => Box::pin(Parked::new(io, since, client)),
                Next::Tunnel(io) => Box::pin(tunneling(io, client)),
                Next::End(io, farewell) => Box::pin(end(io, farewell, client)),
                Next::Over => return,
            };
        }
    })
}

/// Drops a tunnel that the connection did not live to become: it holds the connection's slots.
struct ForgetTunnel(Arc<Downstream>);

impl Drop for ForgetTunnel {
    fn drop(&mut self) {
        let tunnel = self.0.tunnel.lock().take();
        drop(tunnel);
    }
}

/// Ends a connection.
async fn end(mut io: ClientIo, farewell: Farewell, client: Arc<Downstream>) -> Next {
    let timers = &client.worker.timers;
    let saying = async {
        if farewell.answer {
            io.write_all(TIMED_OUT).await?;
        }
        if farewell.shutdown { io.shutdown().await } else { Ok(()) }
    };
    _ = timers.within(Some(LINGER), saying).await;
    if farewell.linger {
        _ = timers.within(Some(LINGER), linger(io)).await;
    }
    Next::Over
}

const TIMED_OUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Takes in what a client still sends: a close with unread bytes would be a reset, which may overtake the answer.
async fn linger(mut io: ClientIo) {
    let mut space = vec![0; LINGER_READ];
    let mut left = LINGER_BYTES;
    while let Ok(count @ 1..) = io.read(&mut space).await {
        left = left.saturating_sub(count);
        if left == 0 {
            break;
        }
    }
}

/// Copies bytes until the tunnel that the connection has become is over.
async fn tunneling(mut io: ClientIo, client: Arc<Downstream>) -> Next {
    io.become_tunnel();
    let mut term = Term::new(&client);
    let Some(tunnel) = client.tunnel.lock().take() else { return Next::Over };
    let entry = tunnel.entry();
    let mut run = pin!(tunnel::run(*tunnel, io, ClientIo::has_failed, Arc::clone(&client)));
    let mut finishing = false;
    loop {
        tokio::select! {
            () = run.as_mut() => return Next::Over,
            call = term.called(finishing) => {
                // A tunnel has no place to stop at: a drain lets it go on for a while, its lifetime ends it.
                let reason = match call {
                    Call::Stop(reason) => reason,
                    Call::Finish if term.is_lifetime() => "lifetime",
                    Call::Finish => {
                        finishing = true;
                        continue;
                    }
                };
                client.terminated(reason);
                if let Some(entry) = entry {
                    entry.ends(reason);
                }
                return Next::Over;
            }
        }
    }
}
