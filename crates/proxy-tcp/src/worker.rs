//! One thread of the data plane: its listeners, and the connections they bring.

use crate::admit::{Next, admit, turn_away};
use crate::connection::Connection;
use crate::listen::{BACKLOG, SocketFile, bequeath};
use crate::pipe::Transport;
use crate::respond::{Lingering, respond};
use crate::shed::Gate;
use crate::{ClientSocket, Drain, DrainWatch, Live, ServeHttp, Shed, Timers, WorkerListener};
use bytes::BytesMut;
use conn_tracker::{ConnectionTracker, Event, EventKind, Rejection, Report};
use parking_lot::Mutex;
use proxy_route::OnReject;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// One thread of the data plane. Give each a single-threaded runtime of its own; on a shared one it works too.
#[derive(Debug)]
pub struct Worker {
    /// Decides who is admitted.
    pub tracker: Arc<dyn ConnectionTracker>,
    /// Hears of everything that went wrong.
    pub report: Arc<dyn Report>,
    /// The configuration in force.
    pub live: Live,
    /// When to stop.
    pub drain: DrainWatch,
    /// Serves what turns out to be HTTP.
    pub http: Arc<dyn ServeHttp>,
    /// Its time-outs; `http` is to have the same.
    pub timers: Timers,
    /// Who is refused in the kernel; shared by all workers.
    pub shed: Arc<Shed>,
}

impl Worker {
    /// Accepts connections and serves each in a task of its own, until the drain begins; then takes what the kernel has
    /// queued and closes the listeners. Connections go on: [`Drain::finished`] waits for them.
    ///
    /// A listener whose port has no route in a newer configuration is closed.
    ///
    /// # Errors
    /// A listener that cannot be watched, or a tracker or report that panics while a connection is admitted.
    pub async fn run(self, listeners: Vec<WorkerListener>) -> io::Result<()> {
        let (_, none) = mpsc::unbounded_channel();
        self.run_with(listeners, none).await
    }

    /// [`Worker::run`] that takes further listeners while it runs, for ports that a newer configuration adds. They may come
    /// before or after that configuration.
    ///
    /// # Errors
    /// Those of [`Worker::run`].
    pub async fn run_with(
        self,
        listeners: Vec<WorkerListener>,
        mut added: mpsc::UnboundedReceiver<WorkerListener>,
    ) -> io::Result<()> {
        let Self { tracker, report, mut live, drain, http, timers, shed } = self;
        let reserve = Mutex::new(Reserve::open());
        let shared = Arc::new(Shared {
            tracker,
            report,
            http,
            shed,
            timers,
            transport: Transport::new(),
            lingering: Lingering::default(),
            reserve,
        });
        let mut acceptors = JoinSet::new();
        let mut stops = Vec::new();
        let start = |listener: WorkerListener, live: &Live, drain: &DrainWatch, acceptors: &mut JoinSet<()>| {
            let (stop, stopped) = Drain::new();
            let port = listener.port;
            let acceptor = Acceptor::new(listener, live.clone(), stopped, drain.clone(), Arc::clone(&shared))?;
            acceptors.spawn(acceptor.run());
            io::Result::Ok((port, stop))
        };
        for listener in listeners {
            stops.push(start(listener, &live, &drain, &mut acceptors)?);
        }
        let mut trim = tokio::time::interval(TRIM);
        let Shared { tracker, report, shed, .. } = &*shared;
        let mut shedding = Box::pin(shed.keep(&**tracker, &**report, live.clone()));
        loop {
            tokio::select! {
                () = drain.draining() => break,
                () = &mut shedding => {}
                _ = trim.tick() => shared.transport.trim(),
                () = live.changed() => {
                    let table = &live.current().table;
                    stops.extract_if(.., |(port, _)| table.port(*port).is_none()).for_each(|(_, stop)| stop.start());
                }
                Some(listener) = added.recv() => match start(listener, &live, &drain, &mut acceptors) {
                    Ok(stop) => stops.push(stop),
                    // Those that run are not to suffer for it.
                    Err(error) => tracing::error!(%error, "a new listener could not be watched and is closed"),
                },
                Some(ended) = acceptors.join_next() => ended.map_err(io::Error::other)?,
            }
        }
        for (_, stop) in stops {
            stop.start();
        }
        // The drain waits for whoever holds these, and from here on that is the connections.
        drop((live, drain, shedding));
        while let Some(ended) = acceptors.join_next().await {
            ended.map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// How often pipes that nobody needs are looked for.
const TRIM: Duration = Duration::from_millis(500);

/// What all connections of a worker share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) tracker: Arc<dyn ConnectionTracker>,
    pub(crate) report: Arc<dyn Report>,
    pub(crate) http: Arc<dyn ServeHttp>,
    pub(crate) timers: Timers,
    shed: Arc<Shed>,
    pub(crate) transport: Transport,
    lingering: Lingering,
    reserve: Mutex<Reserve>,
}

/// A descriptor kept for when there are no others: given up, it lets one connection be accepted and closed, so that its
/// client learns at once and the queue gets shorter.
#[derive(Debug)]
struct Reserve(Option<File>);

impl Reserve {
    fn open() -> Self {
        Self(File::open("/dev/null").ok())
    }
}

/// Accepts on one socket.
struct Acceptor {
    listener: AsyncFd<TcpListener>,
    /// The file of a Unix socket: removed with the last listener.
    file: Option<Arc<SocketFile>>,
    /// The address of every connection, where the listener has one.
    local: Option<SocketAddr>,
    port: u16,
    /// How many were accepted one behind the other.
    in_a_row: usize,
    /// Accepted out of a queue, and not yet dealt with.
    in_hand: Option<(OwnedFd, SocketAddr)>,
    live: Live,
    /// When to stop accepting.
    stopped: DrainWatch,
    /// What connections are given.
    drain: DrainWatch,
    gate: Gate,
    shared: Arc<Shared>,
}

/// What both ends of a connection through a Unix socket count as.
const THIS_MACHINE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Behind so many in a row more wait, most likely.
const QUEUE: usize = 8;
/// How long to wait when accepting fails for a reason that waiting may cure.
const BACK_OFF: Duration = Duration::from_millis(50);

impl Acceptor {
    fn new(
        WorkerListener { socket, port, file }: WorkerListener,
        live: Live,
        stopped: DrainWatch,
        drain: DrainWatch,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let address = if file.is_some() { SocketAddr::new(THIS_MACHINE, port) } else { socket.local_addr()? };
        let local = (!address.ip().is_unspecified()).then_some(address);
        let gate = Gate::new(Arc::clone(&shared.shed));
        Ok(Self {
            listener: watch(socket)?,
            file,
            local,
            port,
            in_a_row: 0,
            in_hand: None,
            live,
            stopped,
            drain,
            gate,
            shared,
        })
    }

    async fn run(mut self) {
        let mut stopped = pin!(self.stopped.draining());
        self.configure();
        loop {
            tokio::select! {
                biased;
                () = &mut stopped => break,
                // What comes through a Unix socket has no address to be told by.
                () = self.gate.changed(), if self.file.is_none() => {
                    self.gate.attach(self.listener.get_ref());
                    continue;
                }
                ready = self.listener.readable() => match ready {
                    Ok(mut ready) => ready.retain_ready(),
                    // The runtime is shutting down.
                    Err(_) => return,
                },
            }
            self.turn().await;
        }
        self.empty_hand();
        // Whoever else has the socket goes on listening.
        self.gate.open(self.listener.get_ref());
        // The kernel has shaken hands with these already, and will with nobody else once the listener is closed.
        // Not more than a queue holds: those who go on coming could keep the worker here for ever.
        for _ in 0..BACKLOG {
            let Progress::One = self.take(self.next(self.listener.get_ref())) else { return };
        }
    }

    /// Accepts one connection, and lets others have their turn if more wait: whoever is served waits for a refusal at each of its
    /// steps, some 12 µs. Out of a queue it is two, and each is dealt with behind the next accept: by then what is counted of its
    /// client has come nearer.
    async fn turn(&mut self) {
        if self.live.has_changed() {
            self.configure();
        }
        let queued = self.in_a_row >= QUEUE;
        let accepted = self.listener.try_io(Interest::READABLE, |listener| Ok(self.next(listener)?));
        // Without a number it is the runtime's own word for "not now".
        match accepted.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN)) {
            Ok(Some(next)) if queued => {
                self.shared.tracker.expect(next.1.ip());
                if let Some(last) = self.in_hand.replace(next) {
                    self.arrived(last);
                }
            }
            other => {
                self.empty_hand();
                match self.take(other) {
                    Progress::One => {}
                    Progress::Empty => return self.nobody_waits(),
                    Progress::Stuck => tokio::time::sleep(BACK_OFF).await,
                }
            }
        }
        self.in_a_row += 1;
        if queued && self.in_a_row % 2 == 1 {
            return;
        }
        if !queued && !self.is_waited_at() {
            return self.nobody_waits();
        }
        tokio::task::yield_now().await;
        // Behind those who read, and behind those whom the first of these wakes to write behind it.
        behind_those_woken().await;
        behind_those_woken().await;
    }

    fn nobody_waits(&mut self) {
        self.in_a_row = 0;
        self.gate.queue_is_empty();
    }

    /// Deals with what was accepted and not yet dealt with.
    fn empty_hand(&mut self) {
        if let Some(last) = self.in_hand.take() {
            self.arrived(last);
        }
    }

    /// Accepts one connection; `None` if it had to be turned away for want of a descriptor.
    fn next(&self, listener: &TcpListener) -> rustix::io::Result<Option<(OwnedFd, SocketAddr)>> {
        let unnamed = self.file.as_ref().map(|_| SocketAddr::new(THIS_MACHINE, 0));
        let exhausted = match accept(listener, unnamed) {
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => error,
            accepted => return accepted.map(Some),
        };
        let mut reserve = self.shared.reserve.lock();
        let given_up = reserve.0.take().map(drop);
        // The system says that it has no descriptor before it looks whether anybody is waiting for one.
        let turned_away = given_up.map_or(Err(exhausted), |()| accept(listener, unnamed).map(drop));
        *reserve = Reserve::open();
        turned_away.map(|()| None)
    }

    /// Whether a connection waits to be accepted, as far as can be told; if not, the next event tells. To ask costs a tenth of an
    /// accept that finds nobody, for which the kernel makes a socket and a file before it looks.
    fn is_waited_at(&self) -> bool {
        let asked = self.listener.try_io(Interest::READABLE, |listener| {
            match poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&Timespec::default())) {
                Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        });
        asked.is_ok()
    }

    /// Makes of it what an accept gave.
    fn take(&mut self, accepted: rustix::io::Result<Option<(OwnedFd, SocketAddr)>>) -> Progress {
        let (reason, progress) = match accepted {
            Ok(Some(accepted)) => {
                self.arrived(accepted);
                return Progress::One;
            }
            Ok(None) => (Some(DESCRIPTORS), Progress::One),
            Err(error) => verdict(error),
        };
        if let Some(reason) = reason {
            self.shared.report.event(Event { kind: EventKind::AcceptFailed, reason, route: None, source: None });
        }
        progress
    }

    /// Turns one connection away with an answer; with a reset if too many take theirs already.
    fn respond(&self, socket: OwnedFd, rejection: Rejection) {
        let Some(lingering) = self.shared.lingering.one_more() else { return turn_away(socket, OnReject::Reset) };
        // Without a place in the runtime it is closed like any other.
        if let Ok(io) = tokio::net::TcpStream::from_std(TcpStream::from(socket)) {
            tokio::spawn(respond(io, rejection, self.shared.timers.clone(), (lingering, self.drain.clone())));
        }
    }

    /// Takes one connection in, or turns it away.
    fn arrived(&mut self, (socket, peer): (OwnedFd, SocketAddr)) {
        let (shared, now) = (&self.shared, Instant::now());
        let generation = self.live.current();
        let admitted = admit(&shared.tracker, &*shared.report, &shared.shed, generation, now, peer.ip(), self.port);
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(Some(rejection)) if generation.settings.on_reject == OnReject::Respond => {
                return self.respond(socket, rejection);
            }
            Err(_) => return turn_away(socket, generation.settings.on_reject),
        };
        self.gate.free(&socket);
        shared.report.admitted(self.port);
        let connection = Connection {
            io: ClientSocket::new(TcpStream::from(socket)),
            peer,
            source: peer,
            local: self.local,
            port: self.port,
            accepted: now,
            generation: Arc::clone(generation),
            shared: Arc::clone(shared),
            received: BytesMut::new(),
            spoken: false,
            sni: None,
            drain: self.drain.clone(),
            permit: admitted.permit,
        };
        match admitted.next {
            Next::Tunnel(route) => tokio::spawn(connection.forward(route)),
            next => tokio::spawn(connection.run(next)),
        };
    }

    /// Sets what every accepted socket inherits from its listener, so that it costs no system call of its own.
    fn configure(&mut self) {
        if self.file.is_some() {
            // There is no TCP whose options could be set.
            return;
        }
        let keep_alive = self.live.current().settings.keep_alive.tcp;
        if let Err(error) = bequeath(self.listener.get_ref(), keep_alive) {
            tracing::warn!(port = self.port, %error, "socket options of the listener could not be set");
        }
    }
}

/// What came of one accept.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// One connection was dealt with.
    One,
    /// Nobody is there.
    Empty,
    /// The next one will most likely fail too.
    Stuck,
}

/// What an accept that failed means: what is told of it, and how to go on.
fn verdict(error: Errno) -> (Option<&'static str>, Progress) {
    match error {
        Errno::AGAIN => (None, Progress::Empty),
        // Gone before it was accepted, or an error of the network that the next one need not have.
        Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::NOPROTOOPT | Errno::OPNOTSUPP => (None, Progress::One),
        Errno::NETDOWN | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::HOSTUNREACH | Errno::NONET => {
            (None, Progress::One)
        }
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => (Some(DESCRIPTORS), Progress::Stuck),
        _ => (Some("accept"), Progress::Stuck),
    }
}

/// What is told when a descriptor, or memory for one, is missing.
const DESCRIPTORS: &str = "descriptors";

#[expect(deprecated, reason = "its fault is with types whose descriptor can change, which that of a listener cannot")]
fn watch(socket: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Lets those who have been woken go first, once. Who has read goes behind them to write, and so is ahead of the next accept.
async fn behind_those_woken() {
    let mut gone = false;
    poll_fn(|context| {
        if std::mem::replace(&mut gone, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// `unnamed` is what peers count as that have no address, if they may have none.
fn accept(listener: &TcpListener, unnamed: Option<SocketAddr>) -> rustix::io::Result<(OwnedFd, SocketAddr)> {
    let (socket, peer) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).or(unnamed).ok_or(Errno::CONNABORTED)?;
    Ok((socket, peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_read_writes_ahead_of_the_next_accept() {
        let done = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let accepts = Arc::clone(&done);
        tasks.spawn(async move {
            behind_those_woken().await;
            accepts.lock().push("accept");
        });
        let writes = Arc::clone(&done);
        tasks.spawn(async move { writes.lock().push("write") });
        tasks.join_all().await;
        assert_eq!(*done.lock(), ["write", "accept"]);
    }

    #[test]
    fn no_error_stops_the_accepting_and_none_makes_it_spin() {
        for (error, expected) in [
            (Errno::AGAIN, (None, Progress::Empty)),
            (Errno::CONNABORTED, (None, Progress::One)),
            (Errno::INTR, (None, Progress::One)),
            (Errno::HOSTUNREACH, (None, Progress::One)),
            (Errno::MFILE, (Some("descriptors"), Progress::Stuck)),
            (Errno::NFILE, (Some("descriptors"), Progress::Stuck)),
            (Errno::NOBUFS, (Some("descriptors"), Progress::Stuck)),
            (Errno::NOMEM, (Some("descriptors"), Progress::Stuck)),
            (Errno::PERM, (Some("accept"), Progress::Stuck)),
            (Errno::INVAL, (Some("accept"), Progress::Stuck)),
        ] {
            assert_eq!(verdict(error), expected, "{error:?}");
        }
    }
}
