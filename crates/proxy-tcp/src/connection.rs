//! One admitted connection: who is it, where does it go, and taking it there.

use crate::access::{Seen, Taken};
use crate::admit::{Next, bind, bind_by_address, turn_away, would_refuse};
use crate::hello::TLS_HANDSHAKE;
use crate::lifespan::Lifespan;
use crate::tunnel::{Moved, Tunnel};
use crate::worker::Shared;
use crate::{
    ClientHello, DialError, DrainWatch, Generation, HelloProgress, HelloReader, HttpConnection, InFlight, TimedOut,
    proxy_header,
};
use bytes::{Buf, Bytes, BytesMut};
use conn_tracker::{Event, EventKind, Permit, RouteId, canonical};
use proxy_route::{FirstStep, HelloDecision, HelloFacts, ProxyVersion, RoutedRoute};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;

/// One admitted connection. Its slots are given back after its socket is closed.
pub(crate) struct Connection {
    pub(crate) io: TcpStream,
    /// Who connected.
    pub(crate) peer: SocketAddr,
    /// Who it is for: the peer, or whom its PROXY header named.
    pub(crate) source: SocketAddr,
    /// Where it connected to, if that is known without asking the kernel.
    pub(crate) local: Option<SocketAddr>,
    pub(crate) port: u16,
    pub(crate) accepted: Instant,
    pub(crate) generation: Arc<Generation>,
    pub(crate) shared: Arc<Shared>,
    /// Bytes read and not passed on yet.
    pub(crate) received: BytesMut,
    /// The name in its TLS hello, for the access log.
    pub(crate) sni: Option<String>,
    /// Held for as long as the connection is: the end of a drain waits for it.
    pub(crate) drain: DrainWatch,
    pub(crate) permit: Permit,
}

/// Where a connection goes.
enum Destination {
    /// To the backends of a route, to which it is bound.
    Tunnel(Arc<RoutedRoute>),
    /// To whoever serves HTTP.
    Http(Option<ClientHello>),
}

/// A connection and its backend. Holds nothing of the configuration that it came by: old ones must not live as long as
/// the oldest tunnel.
struct Link {
    // First, so that the sockets are closed before their slots are free.
    tunnel: Tunnel,
    route: RouteId,
    source: IpAddr,
    /// For the access log, if there is one.
    entry: Option<Box<Entry>>,
    shared: Arc<Shared>,
    _held: (InFlight, Permit, DrainWatch),
}

/// What the access log will say of a link.
struct Entry {
    port: u16,
    accepted: Instant,
    route: Taken,
    sni: Option<String>,
}

impl Link {
    async fn carry(&mut self) {
        let (end, moved) = self.tunnel.carry(&self.shared.transport, &self.shared.timers).await;
        let report = &*self.shared.report;
        if let Some(kind) = end.kind() {
            let (route, source) = (Some(self.route), Some(self.source));
            report.event(Event { kind, reason: end.label(), route, source });
        }
        if let Some(entry) = &self.entry {
            let Entry { port, accepted, route, ref sni } = **entry;
            let seen = Seen { client: self.source, port, accepted, sni: sni.as_deref() };
            seen.ended(report, route, end.label(), moved);
        }
    }
}

/// Room for most hellos and all PROXY headers.
const FIRST_READ: usize = 2048;

/// What is left to do for a connection whose way is found.
type Rest = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The task of a connection. It lives as long as the connection, and the runtime moves it about, so it is written out: two
/// pointers, of which the first is gone, with all that only finding the way needs, once there is the second.
enum Run {
    Finding(Pin<Box<dyn Future<Output = Option<Rest>> + Send>>),
    Going(Rest),
}

impl Future for Run {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut *self {
                Self::Finding(finding) => match ready!(finding.as_mut().poll(context)) {
                    Some(rest) => *self = Self::Going(rest),
                    None => return Poll::Ready(()),
                },
                Self::Going(rest) => return rest.as_mut().poll(context),
            }
        }
    }
}

/// A connection that somebody else serves, and that a drain waits for.
struct Served {
    serving: Rest,
    _drain: DrainWatch,
}

impl Future for Served {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.serving.as_mut().poll(context)
    }
}

impl Connection {
    /// Takes it wherever its first bytes say.
    pub(crate) fn run(self, next: Next) -> impl Future<Output = ()> + Send {
        Run::Finding(Box::pin(self.find(next)))
    }

    /// Takes it to a backend of `route`, to which it is bound.
    pub(crate) fn forward(self, route: Arc<RoutedRoute>) -> impl Future<Output = ()> + Send {
        Run::Finding(Box::pin(self.linked(route)))
    }

    async fn find(mut self, next: Next) -> Option<Rest> {
        let deadline = self.generation.settings.timeouts.initial_data.and_then(|time| self.accepted.checked_add(time));
        let timers = self.shared.timers.clone();
        let destination = match timers.until(deadline.map(Into::into), self.destination(next)).await {
            Ok(destination) => destination,
            Err(TimedOut) => self.turn_down(EventKind::Terminated, "initial_data_timeout"),
        };
        match destination {
            Some(Destination::Tunnel(route)) => self.linked(route).await,
            Some(Destination::Http(hello)) => self.hand_over(hello),
            None => {
                turn_away(self.io, self.generation.settings.on_reject);
                None
            }
        }
    }

    async fn linked(self, route: Arc<RoutedRoute>) -> Option<Rest> {
        let mut link = self.link(route).await?;
        Some(Box::pin(async move { link.carry().await }))
    }

    /// Connects it to a backend of `route`.
    async fn link(mut self, route: Arc<RoutedRoute>) -> Option<Link> {
        let (backend, in_flight) = match self.dial(&route).await {
            Ok(reached) => reached,
            Err(reason) => {
                self.seen().ended(&*self.shared.report, (&*route).into(), reason, Moved::default());
                return None;
            }
        };
        let settings = &self.generation.settings;
        let lifespan = Lifespan {
            idle: settings.keep_alive.tunnel_idle_in_force(),
            end: settings.timeouts.lifetime.and_then(|time| self.accepted.checked_add(time)),
            ..Lifespan::default()
        };
        let source = self.client();
        let Self { io, received, shared, permit, drain, port, accepted, sni, .. } = self;
        let early = received.freeze();
        let tunnel = Tunnel { client: io, backend, early, lifespan };
        let held = (in_flight, permit, drain);
        let entry = Entry { port, accepted, route: Taken::from(&*route), sni };
        let entry = shared.report.wants_access().then(|| Box::new(entry));
        Some(Link { tunnel, route: route.id, source, entry, shared, _held: held })
    }

    fn hand_over(self, hello: Option<ClientHello>) -> Option<Rest> {
        // A socket that cannot say where it is has been reset.
        let local = self.local()?;
        let client = self.client();
        let Self { io, received, peer, permit, port, accepted, shared, drain, .. } = self;
        let connection = HttpConnection { io, received, peer, client, local, permit, port, hello, accepted };
        let serving = shared.http.serve(connection);
        Some(Box::pin(Served { serving, _drain: drain }))
    }

    /// Finds out where it goes; `None` is nowhere, reported unless it left by itself.
    async fn destination(&mut self, next: Next) -> Option<Destination> {
        match next {
            Next::Tunnel(route) => return Some(Destination::Tunnel(route)),
            Next::ProxyHeader => self.identify().await?,
            Next::Read => {}
        }
        let generation = Arc::clone(&self.generation);
        let Some(routes) = generation.table.port(self.port) else {
            return self.fail("no_route");
        };
        if routes.first_step() == FirstStep::Decide {
            return self.by_address();
        }
        if !routes.has_tls() {
            match self.received.capacity() {
                // Read by whoever serves it, into a buffer that it has anyway.
                0 => self.readable().await.ok()?,
                // After a PROXY header the socket still counts as readable, so that only reading tells.
                _ if self.received.is_empty() && !self.read().await.ok()? => return None,
                _ => {}
            }
            return Some(Destination::Http(None));
        }
        if self.received.is_empty() && !self.read().await.ok()? {
            return None;
        }
        if self.received.first() != Some(&TLS_HANDSHAKE) {
            return match routes {
                _ if routes.has_plain_http() => Some(Destination::Http(None)),
                _ if routes.by_address(Some(self.client())).is_some() => self.by_address(),
                _ if routes.terminates_tls() => self.fail("not_http"),
                _ => self.fail("no_route"),
            };
        }
        let hello = self.hello().await?;
        let client = Some(self.client());
        let facts = HelloFacts { sni: hello.sni.as_deref(), version: hello.version, client };
        match routes.by_hello(&facts) {
            HelloDecision::Terminate => Some(Destination::Http(Some(hello))),
            HelloDecision::Passthrough(route) => {
                self.sni = hello.sni.filter(|_| self.shared.report.wants_access());
                self.bind(&route).then_some(Destination::Tunnel(route))
            }
            HelloDecision::None => self.fail("no_route"),
        }
    }

    /// Reads the PROXY header that a trusted peer must send, and counts the connection for whom it names.
    async fn identify(&mut self) -> Option<()> {
        let named = loop {
            match proxy_header::parse(&self.received) {
                Ok(Some(named)) => break named,
                Ok(None) if self.received.len() < proxy_header::LIMIT => {}
                Ok(None) | Err(proxy_header::NoHeader) => return self.fail("proxy_header"),
            }
            if !self.read().await.ok()? {
                return if self.received.is_empty() { None } else { self.fail("proxy_header") };
            }
        };
        self.received.advance(named.length);
        let Some((source, destination)) = named.addresses else { return Some(()) };
        self.source = source;
        self.local = Some(destination);
        let client = self.client();
        if let Some(reason) = self.generation.settings.access.refusal(client) {
            return self.turn_down(EventKind::Blocked, reason);
        }
        if self.generation.balancers.contains(client) {
            // Its users are limited by request, as where it connects by itself.
            return Some(());
        }
        match self.permit.identify(Instant::now(), client) {
            Ok(()) => {
                would_refuse(&*self.shared.report, &mut self.permit, client, None);
                Some(())
            }
            Err(rejection) => self.turn_down(EventKind::Refused, rejection.reason.label()),
        }
    }

    async fn hello(&mut self) -> Option<ClientHello> {
        let mut reader = HelloReader::new();
        loop {
            match reader.read(&self.received) {
                HelloProgress::Hello(hello) => return Some(hello),
                HelloProgress::Malformed => return self.fail("hello_malformed"),
                HelloProgress::TooLarge => return self.fail("hello_too_large"),
                HelloProgress::Partial => {}
            }
            if !self.read().await.ok()? {
                return self.fail("hello_truncated");
            }
        }
    }

    fn by_address(&mut self) -> Option<Destination> {
        let client = self.client();
        let Self { shared, generation, permit, port, accepted, .. } = self;
        let seen = Seen { client, port: *port, accepted: *accepted, sni: None };
        bind_by_address(&*shared.report, generation, Instant::now(), permit, seen).map(Destination::Tunnel)
    }

    fn bind(&mut self, route: &RoutedRoute) -> bool {
        let client = self.client();
        let Self { shared, generation, permit, port, accepted, sni, .. } = self;
        let seen = Seen { client, port: *port, accepted: *accepted, sni: sni.as_deref() };
        bind(&*shared.report, generation, Instant::now(), permit, seen, route)
    }

    /// Connects to the first backend that can be reached and tells it who is coming, if it wants to know.
    ///
    /// # Errors
    /// Why the last one was not reached, or why there was none to try. All of it has been reported.
    async fn dial(&mut self, route: &RoutedRoute) -> Result<(TcpStream, InFlight), &'static str> {
        let generation = Arc::clone(&self.generation);
        let Some(cluster) = generation.clusters[route.index].as_ref() else { return Err(NO_BACKEND) };
        let (mut failure, mut full) = (None, false);
        for backend in cluster.order(self.client(), Instant::now()) {
            let Some(in_flight) = backend.count() else {
                full = true;
                continue;
            };
            let addresses = backend.send_proxy.map(|version| (version, self.source, self.local()));
            let timers = self.shared.timers.clone();
            let dialling = backend.dial(&timers, self.port, generation.settings.timeouts.connect);
            let reason = tokio::select! {
                biased;
                outcome = reach(dialling, addresses) => match outcome {
                    Ok(stream) => {
                        backend.succeeded();
                        return Ok((stream, in_flight));
                    }
                    Err(reason) => reason,
                },
                () = self.left(route) => return Err("client_gone"),
            };
            cluster.failed(backend, Instant::now(), reason);
            self.report(EventKind::BackendFailed, reason, Some(route.id));
            failure = Some(reason);
        }
        // Nobody was even tried.
        let (kind, reason) = match failure {
            Some(reason) => return Err(reason),
            None if full => (EventKind::Refused, TARGET_LIMIT),
            None => (EventKind::BackendFailed, NONE_HEALTHY),
        };
        self.report(kind, reason, Some(route.id));
        Err(reason)
    }

    /// Waits until the client has left, while its backend is dialled.
    ///
    /// A client in the middle of its TLS handshake has left at the end of its stream: it cannot be served without
    /// saying more. A plain one may merely have said all it has to say, so only a reset counts.
    async fn left(&mut self, route: &RoutedRoute) {
        if route.tls.is_some() {
            while self.received.len() < MOST_EARLY {
                if !self.read().await.unwrap_or(false) {
                    return;
                }
            }
        }
        // Whatever the outcome, waiting for it is over only when the socket has failed.
        drop(self.io.ready(Interest::ERROR).await);
    }

    /// Reads what there is, after waiting for it without a buffer; `false` at the end of the stream.
    async fn read(&mut self) -> io::Result<bool> {
        loop {
            self.readable().await?;
            if self.received.len() == self.received.capacity() {
                self.received.reserve(FIRST_READ);
            }
            match self.io.try_read_buf(&mut self.received) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome.map(|count| count > 0),
            }
        }
    }

    /// Waits until there is something to read. Who has nothing to say when a drain begins has a moment to begin, and is
    /// then as if it had left.
    async fn readable(&mut self) -> io::Result<()> {
        if !self.received.is_empty() {
            return poll_fn(|context| self.io.poll_read_ready(context)).await;
        }
        let drained = async {
            self.drain.draining().await;
            self.shared.timers.after(Some(FIRST_BYTE)).await;
        };
        tokio::select! {
            biased;
            readable = poll_fn(|context| self.io.poll_read_ready(context)) => readable,
            () = drained => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn seen(&self) -> Seen<'_> {
        Seen { client: self.client(), port: self.port, accepted: self.accepted, sni: self.sni.as_deref() }
    }

    fn client(&self) -> IpAddr {
        canonical(self.source.ip())
    }

    fn local(&self) -> Option<SocketAddr> {
        self.local.or_else(|| self.io.local_addr().ok())
    }

    fn fail<T>(&self, reason: &'static str) -> Option<T> {
        self.turn_down(EventKind::BadRequest, reason)
    }

    fn turn_down<T>(&self, kind: EventKind, reason: &'static str) -> Option<T> {
        self.report(kind, reason, None);
        None
    }

    fn report(&self, kind: EventKind, reason: &'static str, route: Option<RouteId>) {
        self.shared.report.event(Event { kind, reason, route, source: Some(self.client()) });
    }
}

/// Waits for a connection to a backend and tells it who is coming, where it wants to know: in which version, for whom and
/// where to.
async fn reach(
    dialling: impl Future<Output = Result<TcpStream, DialError>>,
    addresses: Option<(ProxyVersion, SocketAddr, Option<SocketAddr>)>,
) -> Result<TcpStream, &'static str> {
    let mut stream = dialling.await.map_err(|error| error.label())?;
    if let Some((version, source, local)) = addresses {
        let header: Bytes = proxy_header(version, source, local.ok_or(PROXY_HEADER_FAILED)?);
        // A new socket has room for it, so this does not wait.
        stream.write_all(&header).await.map_err(|_| PROXY_HEADER_FAILED)?;
    }
    Ok(stream)
}

/// How long a client may be silent once a drain has begun: long enough for the first bytes of those who came with it.
const FIRST_BYTE: Duration = Duration::from_secs(1);
/// How much a TLS client may say before its backend is reached: early data, kept to be passed on.
const MOST_EARLY: usize = 16 * 1024;
/// How a connection ends whose route has no backend.
const NO_BACKEND: &str = "no_backend";
/// How a connection ends whose backends are all down, as far as health checks say.
const NONE_HEALTHY: &str = "no_healthy_backend";
/// How a connection ends whose backends have as many as they may have.
const TARGET_LIMIT: &str = "target_limit";
const PROXY_HEADER_FAILED: &str = "proxy_header_failed";

#[cfg(test)]
mod tests {
    use super::*;

    fn size<F, A, B>(_: impl FnOnce(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn tasks_are_small() {
        // Every connection has one for as long as it lives: a tunnel of its own, HTTP beside what serves it.
        // With no more than that the runtime needs 128 bytes for it, and otherwise 256.
        assert!(size(Connection::run) <= 24, "{}", size(Connection::run));
        assert!(size(Connection::forward) <= 24, "{}", size(Connection::forward));
    }
}
