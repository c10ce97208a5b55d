//! Listening sockets: one for each worker, address and port, opened before anything runs.

mod unix;

pub use unix::{SocketFile, listen_unix};

use crate::shed::detach;
use proxy_route::TcpKeepAlive;
use rustix::io::Errno;
use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

/// Connections that the kernel keeps for one listener until they are accepted. It cuts this to `net.core.somaxconn`.
pub const BACKLOG: i32 = 4096;

/// Every listening socket of the process, sorted by worker.
///
/// Each worker has sockets of its own on every address (`SO_REUSEPORT`), so the kernel spreads connections over workers
/// and no two of them wait at one queue.
#[derive(Debug)]
pub struct Listeners {
    workers: Vec<Vec<WorkerListener>>,
    addresses: Vec<SocketAddr>,
    sockets: Vec<PathBuf>,
}

/// One listening socket of one worker.
#[derive(Debug)]
pub struct WorkerListener {
    pub(crate) socket: TcpListener,
    pub(crate) port: u16,
    /// The file of a Unix socket, which all workers share.
    pub(crate) file: Option<Arc<SocketFile>>,
}

/// A listening socket that could not be opened.
#[derive(Debug)]
pub struct ListenError {
    place: Place,
    source: io::Error,
}

/// Where to listen.
#[derive(Clone, Debug)]
enum Place {
    Address(SocketAddr),
    Socket(PathBuf),
}

impl Listeners {
    /// Opens every port of `ports` on every address of `addresses`, once for each worker.
    ///
    /// `::` takes IPv4 clients too, unless an IPv4 address is beside it; beside one it is left out on a machine without
    /// IPv6. Port 0 is a free port, the same one for all workers; see [`Listeners::addresses`] for which.
    ///
    /// # Errors
    /// The first socket that cannot be opened.
    pub fn bind(
        addresses: &[IpAddr],
        ports: impl IntoIterator<Item = u16>,
        workers: NonZeroUsize,
    ) -> Result<Self, ListenError> {
        Self::bind_or_adopt(addresses, ports, workers, &mut Vec::new())
    }

    /// [`Listeners::bind`] that takes sockets which somebody else has opened, as by socket activation, where they are on
    /// an address that is wanted. All workers share such a socket. What is left in `opened` was not wanted.
    ///
    /// # Errors
    /// The first socket that cannot be opened or shared.
    pub fn bind_or_adopt(
        addresses: &[IpAddr],
        ports: impl IntoIterator<Item = u16>,
        workers: NonZeroUsize,
        opened: &mut Vec<TcpListener>,
    ) -> Result<Self, ListenError> {
        let beside_v4 = addresses.iter().any(IpAddr::is_ipv4);
        let mut all = Self::none(workers);
        for port in ports {
            let dual = opened.iter().any(|socket| is_dual_stack(socket, port));
            for &ip in addresses {
                let address = SocketAddr::new(ip, port);
                let adopted = opened.iter().position(|socket| socket.local_addr().is_ok_and(|own| own == address));
                if let Some(place) = adopted {
                    all.adopt(&opened.swap_remove(place), address)?;
                    continue;
                }
                if dual && ip.is_ipv4() && ip.is_unspecified() {
                    continue;
                }
                match all.open(address, beside_v4) {
                    Err(error) if beside_v4 && ip.is_ipv6() && ip.is_unspecified() && error.is_missing_family() => {
                        tracing::warn!(port, "listening on IPv4 only: this machine has no IPv6");
                    }
                    outcome => outcome?,
                }
            }
        }
        Ok(all)
    }

    /// Opens a Unix socket for each of `ports`, at each of `paths` with the number of the port in place of `{port}`. All
    /// workers share it. Its clients have no address; they count as 127.0.0.1.
    ///
    /// A socket on which nobody listens any more is replaced. The file is removed when the last of its listeners closes.
    ///
    /// # Errors
    /// The first socket that cannot be opened or shared.
    pub fn bind_unix(
        paths: &[PathBuf],
        ports: impl IntoIterator<Item = u16>,
        workers: NonZeroUsize,
    ) -> Result<Self, ListenError> {
        let mut all = Self::none(workers);
        for port in ports {
            for path in paths {
                let path = PathBuf::from(path.to_string_lossy().replace("{port}", &port.to_string()));
                all.open_unix(path, port)?;
            }
        }
        Ok(all)
    }

    /// Where they listen: each address once, with the port that was opened.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The paths of the Unix sockets, each once.
    #[must_use]
    pub fn sockets(&self) -> &[PathBuf] {
        &self.sockets
    }

    /// Takes others in, for the same number of workers.
    pub fn extend(&mut self, others: Self) {
        self.addresses.extend(others.addresses);
        self.sockets.extend(others.sockets);
        self.workers.iter_mut().zip(others.workers).for_each(|(all, own)| all.extend(own));
    }

    /// The sockets of each worker.
    #[must_use]
    pub fn into_workers(self) -> Vec<Vec<WorkerListener>> {
        self.workers
    }

    fn none(workers: NonZeroUsize) -> Self {
        let workers = (0..workers.get()).map(|_| Vec::new()).collect();
        Self { workers, addresses: Vec::new(), sockets: Vec::new() }
    }

    fn open_unix(&mut self, path: PathBuf, port: u16) -> Result<(), ListenError> {
        let failed = |source| ListenError { place: Place::Socket(path.clone()), source };
        let (socket, file) = unix::listen(&path).map_err(failed)?;
        let file = Arc::new(file);
        for worker in &mut self.workers {
            let socket = socket.try_clone().map_err(failed)?;
            worker.push(WorkerListener { socket, port, file: Some(Arc::clone(&file)) });
        }
        self.sockets.push(path);
        Ok(())
    }

    fn adopt(&mut self, socket: &TcpListener, address: SocketAddr) -> Result<(), ListenError> {
        let failed = |source| ListenError { place: Place::Address(address), source };
        for worker in &mut self.workers {
            let socket = socket.try_clone().map_err(failed)?;
            worker.push(WorkerListener::new(socket, address.port()).map_err(failed)?);
        }
        self.addresses.push(address);
        Ok(())
    }

    fn open(&mut self, asked: SocketAddr, beside_v4: bool) -> Result<(), ListenError> {
        let failed = |source| ListenError { place: Place::Address(asked), source };
        let mut address = asked;
        for worker in &mut self.workers {
            let socket = listen(address, beside_v4).map_err(failed)?;
            address = socket.local_addr().map_err(failed)?;
            worker.push(WorkerListener { socket, port: asked.port(), file: None });
        }
        self.addresses.push(address);
        Ok(())
    }
}

impl WorkerListener {
    /// A socket that somebody else opened, as by socket activation. `port` selects its routes.
    ///
    /// # Errors
    /// If its options cannot be set.
    pub fn new(socket: TcpListener, port: u16) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // One that sheds clients may be left of a process that crashed.
        detach(&socket);
        bequeath(&socket, Some(TcpKeepAlive::default()))?;
        Ok(Self { socket, port, file: None })
    }

    /// The port that selects its routes: the one asked for, even where 0 asked for any.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl ListenError {
    /// The address and port; `None` for a Unix socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self.place {
            Place::Address(address) => Some(address),
            Place::Socket(_) => None,
        }
    }

    fn is_missing_family(&self) -> bool {
        let missing = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].map(Errno::raw_os_error);
        self.source.raw_os_error().is_some_and(|code| missing.contains(&code))
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match &self.place {
            Place::Address(address) => address,
            Place::Socket(path) => {
                let path = path.display();
                return match self.source.kind() {
                    io::ErrorKind::AddrInUse => write!(
                        f,
                        "cannot listen on unix:{path}: another program listens there; stop it or choose another path"
                    ),
                    io::ErrorKind::NotFound => {
                        write!(f, "cannot listen on unix:{path}: its folder does not exist; make it before starting")
                    }
                    _ => write!(f, "cannot listen on unix:{path}: {}", self.source),
                };
            }
        };
        let advice = match self.source.kind() {
            io::ErrorKind::AddrInUse => "another program has this port; stop it or choose another port",
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need the capability CAP_NET_BIND_SERVICE; grant it or choose a higher port"
            }
            io::ErrorKind::AddrNotAvailable => "no interface has this address; choose one that this machine has",
            _ => return write!(f, "cannot listen on {address}: {}", self.source),
        };
        write!(f, "cannot listen on {address}: {advice}")
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Whether it takes all clients of `port`, of IPv4 too.
fn is_dual_stack(socket: &TcpListener, port: u16) -> bool {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    socket.local_addr().is_ok_and(|own| own == any) && !SockRef::from(socket).only_v6().unwrap_or(true)
}

fn listen(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // The settings come later; connections that are there before them get the defaults.
    bequeath(&socket, Some(TcpKeepAlive::default()))?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Sets what every accepted socket inherits from its listener, so that it costs no system call of its own.
pub(crate) fn bequeath(listener: impl AsFd, keep_alive: Option<TcpKeepAlive>) -> rustix::io::Result<()> {
    sockopt::set_tcp_nodelay(&listener, true)?;
    sockopt::set_socket_keepalive(&listener, keep_alive.is_some())?;
    if let Some(TcpKeepAlive { idle, interval, probes }) = keep_alive {
        sockopt::set_tcp_keepidle(&listener, idle)?;
        sockopt::set_tcp_keepintvl(&listener, interval)?;
        sockopt::set_tcp_keepcnt(&listener, probes)?;
    }
    Ok(())
}
