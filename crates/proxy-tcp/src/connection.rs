//! One admitted connection: who is it, where does it go, and taking it there.

use crate::access::{Seen, Taken};
use crate::admit::{Next, bind, bind_by_address, would_refuse};
use crate::dialling::Reached;
use crate::hello::TLS_HANDSHAKE;
use crate::lifespan::Lifespan;
use crate::tunnel::Tunnel;
use crate::upstream::Dialled;
use crate::worker::Shared;
use crate::{
    ClientHello, ClientSocket, DrainWatch, Generation, HelloProgress, HelloReader, HttpConnection, InFlight, TimedOut,
    proxy_header,
};
use bytes::{Buf, BytesMut};
use conn_tracker::{Event, EventKind, Permit, RouteId, canonical};
use proxy_route::{Action, FirstStep, HelloDecision, HelloFacts, OnReject, RoutedRoute};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// One admitted connection. Its slots are given back after its socket is closed.
pub(crate) struct Connection {
    pub(crate) io: ClientSocket,
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
    /// Whether bytes were read that are on their way to the backend.
    pub(crate) spoken: bool,
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
    _held: (InFlight, Permit),
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

/// The same, with what has a drain wait for it.
pub(crate) struct Going {
    rest: Rest,
    _drain: DrainWatch,
}

/// The task of a connection. It lives as long as the connection, and the runtime moves it about, so it is written out: two
/// pointers, of which the first is gone, with all that only finding the way needs, once there is the second.
pub(crate) enum Run {
    Finding(Pin<Box<dyn Future<Output = Option<Going>> + Send>>),
    Going(Going),
}

impl Future for Run {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut *self {
                Self::Finding(finding) => match ready!(finding.as_mut().poll(context)) {
                    Some(going) => *self = Self::Going(going),
                    None => return Poll::Ready(()),
                },
                Self::Going(going) => return going.rest.as_mut().poll(context),
            }
        }
    }
}

impl Connection {
    /// Takes it wherever its first bytes say.
    pub(crate) fn run(mut self, next: Next) -> Run {
        Run::Finding(Box::pin(async move {
            self.io.read_at_once(&mut self.received, FIRST_READ);
            match self.find(next).await? {
                Destination::Http(hello) => self.hand_over(hello),
                // Boxed, so that HTTP needs less room.
                Destination::Tunnel(route) => {
                    let reached = Box::pin(self.dial(&route)).await?;
                    self.linked(&route, reached)
                }
            }
        }))
    }

    /// Takes it to a backend of `route`, to which it is bound.
    pub(crate) fn forward(mut self, route: Arc<RoutedRoute>) -> Run {
        Run::Finding(Box::pin(async move {
            self.io.read_at_once(&mut self.received, FIRST_READ);
            let reached = self.dial(&route).await?;
            self.linked(&route, reached)
        }))
    }

    /// Finds out where it goes, unless that takes too long.
    async fn find(&mut self, next: Next) -> Option<Destination> {
        let deadline = self.generation.settings.timeouts.initial_data.and_then(|time| self.accepted.checked_add(time));
        let timers = self.shared.timers.clone();
        let destination = match timers.until(deadline.map(Into::into), self.destination(next)).await {
            Ok(destination) => destination,
            Err(TimedOut) => self.turn_down(EventKind::Terminated, "initial_data_timeout"),
        };
        if destination.is_none() && self.generation.settings.on_reject == OnReject::Reset {
            self.io.set_zero_linger().unwrap_or_default();
        }
        destination
    }

    /// Links it to the backend that was reached.
    fn linked(mut self, route: &RoutedRoute, reached: Reached) -> Option<Going> {
        self.watch().ok()?;
        let settings = &self.generation.settings;
        let lifespan = Lifespan {
            idle: settings.keep_alive.tunnel_idle_in_force(),
            end: settings.timeouts.lifetime.and_then(|time| self.accepted.checked_add(time)),
            ..Lifespan::default()
        };
        let source = self.client();
        let Self { io, shared, permit, drain, port, accepted, sni, .. } = self;
        let Reached { backend: Dialled { stream, said, owed }, in_flight, unsent } = reached;
        let half_close = !matches!(&route.action, Action::Forward(forward) if !forward.half_close);
        let client = io.into_watched().ok()?;
        let tunnel = Tunnel { client, backend: stream, early: unsent, said, owed, half_close, lifespan };
        let entry = shared.report.wants_access().then(|| Box::new(Entry { port, accepted, route: route.into(), sni }));
        let mut link = Link { tunnel, route: route.id, source, entry, shared, _held: (in_flight, permit) };
        Some(Going { rest: Box::pin(async move { link.carry().await }), _drain: drain })
    }

    fn hand_over(self, hello: Option<ClientHello>) -> Option<Going> {
        // A socket that cannot say where it is has been reset.
        let local = self.local()?;
        let client = self.client();
        let Self { io, received, peer, permit, port, accepted, shared, drain, .. } = self;
        let connection = HttpConnection { io, received, peer, client, local, permit, port, hello, accepted };
        Some(Going { rest: shared.http.serve(connection), _drain: drain })
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

    /// Reads what there is, after waiting for it without a buffer; `false` at the end of the stream.
    pub(crate) async fn read(&mut self) -> io::Result<bool> {
        loop {
            self.readable().await?;
            if self.received.len() == self.received.capacity() {
                self.received.reserve(FIRST_READ);
            }
            match self.io.watched()?.try_read_buf(&mut self.received) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome.map(|count| count > 0),
            }
        }
    }

    /// Waits until there is something to read. Who has not said where to when a drain begins has a moment to say it, and is
    /// then as if it had left.
    async fn readable(&mut self) -> io::Result<()> {
        self.watch()?;
        if self.spoken {
            return poll_fn(|context| self.io.poll_read_ready(context)).await;
        }
        let drained = async {
            self.drain.draining().await;
            self.shared.timers.after(Some(FIRST_BYTES)).await;
        };
        tokio::select! {
            biased;
            readable = poll_fn(|context| self.io.poll_read_ready(context)) => readable,
            () = drained => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Has the runtime watch the socket, of which there may be too many.
    fn watch(&mut self) -> io::Result<()> {
        let watched = self.io.watched().map(drop);
        watched.inspect_err(|_| self.report(EventKind::AcceptFailed, "accept", None))
    }

    pub(crate) fn seen(&self) -> Seen<'_> {
        Seen { client: self.client(), port: self.port, accepted: self.accepted, sni: self.sni.as_deref() }
    }

    pub(crate) fn client(&self) -> IpAddr {
        canonical(self.source.ip())
    }

    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.local.or_else(|| self.io.local_addr().ok())
    }

    fn fail<T>(&self, reason: &'static str) -> Option<T> {
        self.turn_down(EventKind::BadRequest, reason)
    }

    fn turn_down<T>(&self, kind: EventKind, reason: &'static str) -> Option<T> {
        self.report(kind, reason, None);
        None
    }

    pub(crate) fn report(&self, kind: EventKind, reason: &'static str, route: Option<RouteId>) {
        self.shared.report.event(Event { kind, reason, route, source: Some(self.client()) });
    }
}

/// How long a client may take to say where it goes once a drain has begun: long enough for those who came with it.
const FIRST_BYTES: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_small() {
        // Every connection has one for as long as it lives: a tunnel of its own, HTTP beside what serves it.
        // With no more than that the runtime needs 128 bytes for it, and otherwise 256.
        assert!(size_of::<Run>() <= 24, "{}", size_of::<Run>());
    }
}
