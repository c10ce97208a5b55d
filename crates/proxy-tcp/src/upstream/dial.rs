//! Connecting to a backend.

use super::{Backend, resolve};
use crate::Timers;
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

impl Backend {
    /// Connects to it, for a client of the listener `port`. Tries every address of its name within `timeout`, each for
    /// its share of what is left, of which `timers` tell.
    ///
    /// A Unix socket comes as a [`TcpStream`] too: it reads, writes, splices and shuts down alike, and has no addresses.
    ///
    /// # Errors
    /// If none of them could be reached in time. Dropping the future abandons the attempt.
    pub async fn dial(&self, timers: &Timers, port: u16, timeout: Option<Duration>) -> Result<TcpStream, DialError> {
        self.dial_with(timers, port, timeout, b"").await.map(|(stream, _)| stream)
    }

    /// [`Backend::dial`] that sends the `first` bytes with the end of TCP's handshake, where that is over at once, as it is
    /// on the same machine; how many of them.
    ///
    /// # Errors
    /// Those of [`Backend::dial`].
    pub async fn dial_with(
        &self,
        timers: &Timers,
        port: u16,
        timeout: Option<Duration>,
        first: &[u8],
    ) -> Result<(TcpStream, usize), DialError> {
        let port = self.port.resolve(port);
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        match &self.host {
            Host::Address(address) => within(timers, deadline, connect(*address, port, first)).await,
            Host::Unix(path) => Ok((within(timers, deadline, connect_unix(path)).await?, 0)),
            Host::Name(name) => {
                let addresses = within(timers, deadline, async { Ok(self.find(name).await) }).await?;
                let mut outcome = Err(DialError::NoAddress);
                for (index, address) in addresses.iter().enumerate() {
                    let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
                    outcome = within(timers, share(deadline, left), connect(*address, port, first)).await;
                    if outcome.is_ok() {
                        break;
                    }
                }
                outcome
            }
        }
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

async fn within<T>(
    timers: &Timers,
    deadline: Option<Instant>,
    step: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    timers.until(deadline.map(Into::into), step).await.unwrap_or(Err(DialError::TimedOut))
}

async fn connect(address: IpAddr, port: u16, first: &[u8]) -> Result<(TcpStream, usize), DialError> {
    let connecting = async {
        let (stream, sent) = begin(SocketAddr::new(address, port), first)?;
        if let Some(sent) = sent {
            return Ok((stream, sent));
        }
        // The kernel is asked for the error only where it says that there is one, which spares most dials a call.
        let ready = stream.ready(Interest::WRITABLE | Interest::ERROR).await?;
        let failed = ready.is_error() || ready.is_write_closed();
        match if failed { stream.take_error()? } else { None } {
            Some(error) => Err(error),
            None => {
                let sent = say(&stream, first)?.unwrap_or(0);
                Ok((stream, sent))
            }
        }
    };
    connecting.await.map_err(DialError::Io)
}

/// Begins to connect, and sends `first` if it is connected at once; how many bytes.
fn begin(address: SocketAddr, first: &[u8]) -> io::Result<(TcpStream, Option<usize>)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
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
    let sent = match send(&socket, first, SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN) => return Ok(None),
        sent => sent?,
    };
    // From here on as usual: a backend that writes twice may wait for the first to be acknowledged. Bytes have been sent, so
    // nothing may have the next backend be tried.
    sockopt::set_tcp_quickack(&socket, true).unwrap_or_default();
    Ok(Some(sent))
}

async fn connect_unix(path: &Path) -> Result<TcpStream, DialError> {
    let connect = async {
        let stream = UnixStream::connect(path).await?.into_std()?;
        TcpStream::from_std(OwnedFd::from(stream).into())
    };
    connect.await.map_err(DialError::Io)
}
