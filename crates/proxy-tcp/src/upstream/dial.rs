//! Connecting to a backend.

use super::{Backend, resolve};
use crate::{TimedOut, Timers, Within};
use proxy_route::Host;
use rustix::io::Errno;
use rustix::net::{SendFlags, send, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// Why a backend could not be dialled.
#[derive(Debug)]
#[non_exhaustive]
pub enum DialError {
    /// Its name has no address.
    NoAddress,
    /// It was not reached in time.
    TimedOut,
    /// The system said no.
    Io(io::Error),
}

impl DialError {
    /// The name in logs and metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoAddress => "dial_no_address",
            Self::TimedOut => "dial_timeout",
            Self::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => "dial_refused",
            Self::Io(_) => "dial_failed",
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("the name of the backend has no address"),
            Self::TimedOut => f.write_str("the backend was not reached in time"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::NoAddress | Self::TimedOut => None,
        }
    }
}

/// How a backend is dialled for a tunnel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dial<'a> {
    /// Tell when it has taken too long.
    pub(crate) timers: &'a Timers,
    /// The listener's port, for backends that have the same.
    pub(crate) port: u16,
    /// How long it may take; `None` is as long as the system tries.
    pub(crate) timeout: Option<Duration>,
    /// What the backend is told with the end of TCP's handshake, where that is over at once, as it is on the same machine.
    pub(crate) first: &'a [u8],
}

/// A backend that was dialled for a tunnel.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) stream: TcpStream,
    /// How many of the first bytes it was told.
    pub(crate) said: usize,
    pub(crate) owed: Owed,
}

/// What a socket is still to be told that was dialled for a tunnel: it does without for the first question and its answer,
/// and that is all of many connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Owed {
    /// [`write_at_once`], before the second write.
    pub(crate) writes: bool,
    /// [`acknowledge_at_once`], when the first answer was read.
    pub(crate) acknowledgements: bool,
}

impl Backend {
    /// Connects to it, for a client of the listener `port`. Tries every address of its name within `timeout`, each for
    /// its share of what is left, of which `timers` tell.
    ///
    /// A Unix socket comes as a [`TcpStream`] too: it reads, writes, splices and shuts down alike, and has no addresses.
    ///
    /// # Errors
    /// If none of them could be reached in time. Dropping the future abandons the attempt.
    pub async fn dial(&self, timers: &Timers, port: u16, timeout: Option<Duration>) -> Result<TcpStream, DialError> {
        let Dialled { stream, owed, .. } = self.dial_with(Dial { timers, port, timeout, first: b"" }).await?;
        if owed.writes {
            write_at_once(&stream);
        }
        Ok(stream)
    }

    /// [`Backend::dial`] that sends the first bytes as early as it can.
    ///
    /// # Errors
    /// Those of [`Backend::dial`].
    pub(crate) async fn dial_with(&self, dial: Dial<'_>) -> Result<Dialled, DialError> {
        let port = self.port.resolve(dial.port);
        let deadline = dial.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        match &self.host {
            Host::Address(address) => in_time(dial.until(deadline, connect(*address, port, dial.first)).await),
            // Boxed, so that the others need less room.
            Host::Unix(path) => in_time(dial.until(deadline, Box::pin(connect_unix(path))).await),
            Host::Name(name) => Box::pin(self.dial_name(name, port, deadline, dial)).await,
        }
    }

    async fn dial_name(
        &self,
        name: &str,
        port: u16,
        deadline: Option<Instant>,
        dial: Dial<'_>,
    ) -> Result<Dialled, DialError> {
        let Ok(addresses) = dial.until(deadline, self.find(name)).await else { return Err(DialError::TimedOut) };
        let mut outcome = Err(DialError::NoAddress);
        for (index, address) in addresses.iter().enumerate() {
            let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
            outcome = in_time(dial.until(share(deadline, left), connect(*address, port, dial.first)).await);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// The addresses to try; of a name that was not looked up yet, once it is. One asks and the others wait for it.
    async fn find(&self, name: &str) -> Vec<IpAddr> {
        let known = self.addresses.in_turn();
        if !known.is_empty() {
            return known;
        }
        let _turn = self.looking.lock().await;
        let now = Instant::now();
        if self.addresses.all().is_empty() && !self.addresses.just_missed(now) {
            let found = resolve::system_lookup(name.to_owned()).await.unwrap_or_default();
            self.addresses.learn(&found, now);
        }
        self.addresses.in_turn()
    }
}

/// When the first of `left` addresses has had its share of the time until `deadline`.
fn share(deadline: Option<Instant>, left: u32) -> Option<Instant> {
    let now = Instant::now();
    match deadline {
        Some(deadline) => Some(now + deadline.saturating_duration_since(now) / left),
        // The last one may take all the time there is.
        None => (left > 1).then(|| now + PATIENCE),
    }
}

/// How long an address may take while there are others to try, where no time-out says so.
const PATIENCE: Duration = Duration::from_secs(5);

impl<'a> Dial<'a> {
    fn until<F: Future>(&self, deadline: Option<Instant>, step: F) -> Within<'a, F> {
        self.timers.until(deadline.map(Into::into), step)
    }
}

fn in_time(outcome: Result<io::Result<Dialled>, TimedOut>) -> Result<Dialled, DialError> {
    match outcome {
        Ok(dialled) => dialled.map_err(DialError::Io),
        Err(TimedOut) => Err(DialError::TimedOut),
    }
}

async fn connect(address: IpAddr, port: u16, first: &[u8]) -> io::Result<Dialled> {
    let (stream, mut sent) = begin(SocketAddr::new(address, port), first)?;
    if sent.is_none() {
        // The kernel is asked for the error only where it says that there is one, which spares most dials a call.
        let ready = stream.ready(Interest::WRITABLE | Interest::ERROR).await?;
        let failed = ready.is_error() || ready.is_write_closed();
        if failed && let Some(error) = stream.take_error()? {
            return Err(error);
        }
        sent = say(&stream, first)?;
    }
    let owed = Owed { writes: true, acknowledgements: !first.is_empty() };
    Ok(Dialled { stream, said: sent.unwrap_or(0), owed })
}

/// Begins to connect, and sends `first` if it is connected at once; how many bytes.
fn begin(address: SocketAddr, first: &[u8]) -> io::Result<(TcpStream, Option<usize>)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    if !first.is_empty() {
        // The acknowledgement that ends the handshake waits for the first bytes, and leaves with them.
        sockopt::set_tcp_quickack(&socket, false).unwrap_or_default();
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => return Err(error),
        _ => {}
    }
    let sent = say(&socket, first)?;
    Ok((TcpStream::from_std(socket.into())?, sent))
}

/// Sends the first bytes, if there are any; `None` if nothing can be sent yet.
fn say(socket: impl AsFd, first: &[u8]) -> io::Result<Option<usize>> {
    if first.is_empty() {
        return Ok(None);
    }
    match send(&socket, first, SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN) => Ok(None),
        sent => Ok(Some(sent?)),
    }
}

/// Has a backend be sent what is written while it has yet to acknowledge what was written before. Nothing may have the next
/// backend be tried once bytes have been sent, so a failure is none.
pub(crate) fn write_at_once(socket: impl AsFd) {
    sockopt::set_tcp_nodelay(socket, true).unwrap_or_default();
}

/// Has what a backend says be acknowledged at once: until then that waits for something to leave with, and a backend that
/// writes twice may wait for it.
pub(crate) fn acknowledge_at_once(socket: impl AsFd) {
    sockopt::set_tcp_quickack(socket, true).unwrap_or_default();
}

async fn connect_unix(path: &Path) -> io::Result<Dialled> {
    let stream = UnixStream::connect(path).await?.into_std()?;
    let stream = TcpStream::from_std(OwnedFd::from(stream).into())?;
    Ok(Dialled { stream, said: 0, owed: Owed::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_route::{Target, TargetPort};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn behind(listener: &TcpListener) -> Backend {
        let address = listener.local_addr().unwrap();
        Backend::new(&Target::new(address.ip(), TargetPort::Fixed(address.port())))
    }

    #[tokio::test]
    async fn the_first_bytes_are_sent_by_the_dial_where_it_is_over_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (backend, timers) = (behind(&listener), Timers::new());
        let dial = Dial { timers: &timers, port: 80, timeout: None, first: b"first" };
        let Dialled { mut stream, said, owed } = backend.dial_with(dial).await.unwrap();
        assert!(owed.writes && owed.acknowledgements && !stream.nodelay().unwrap());
        stream.write_all(&b"first"[said..]).await.unwrap();
        stream.write_all(b" and more").await.unwrap();
        drop(stream);
        let mut got = String::new();
        listener.accept().await.unwrap().0.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "first and more");
        drop(listener);
        assert_eq!(backend.dial_with(dial).await.unwrap_err().label(), "dial_refused");
    }

    #[tokio::test]
    async fn who_writes_by_and_by_is_sent_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = behind(&listener).dial(&Timers::new(), 80, None).await.unwrap();
        assert!(stream.nodelay().unwrap());
    }
}
