//! The server against real clients and real backends on loopback.

mod backend;
mod bodies;
mod chance;
mod client;
mod ends;
mod frames;
mod lifecycle;
mod limits;
mod routing;
mod strict;
mod turns;
mod upgrades;
mod wire;

use crate::{HttpGeneration, HttpServer, TlsShared};
use backend::Backend;
use conn_tracker::{
    Arrival, Binding, ConnectionTracker, Event, Hold, Permit, Reason, Rejection, Report, RequestHold, RequestOutcome,
    RouteId, Slots,
};
use parking_lot::Mutex;
use proxy_route::{
    Action, Certificate, Forward, PemSource, PortRange, Route, RouteTable, Settings, Target, TargetPort, TlsMode,
};
use proxy_tcp::{ClientHello, Drain, Generation, HttpConnection, ServeHttp, Timers};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const PORT: u16 = 8080;
const TLS_PORT: u16 = 8443;
const PATIENCE: Duration = Duration::from_secs(10);

/// A server with a listener, and everything it reports to.
struct World {
    address: SocketAddr,
    tls_address: SocketAddr,
    limits: Arc<Limits>,
    log: Arc<Log>,
    drain: Drain,
    server: Arc<HttpServer>,
    roots: Arc<rustls::RootCertStore>,
}

impl World {
    async fn new(routes: Vec<Route>) -> Self {
        Self::with(routes, |_| {}).await
    }

    async fn with(routes: Vec<Route>, configure: impl FnOnce(&mut Settings)) -> Self {
        let key = rcgen::generate_simple_self_signed(["shop.test".to_owned()]).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(key.cert.der().clone()).unwrap();
        let mut settings = Settings::default();
        settings.tls.certificates.push(Certificate {
            domains: vec![],
            chain: PemSource::Inline(key.cert.pem()),
            key: PemSource::Inline(key.signing_key.serialize_pem()),
        });
        configure(&mut settings);
        let ids = (0..).map(|index| RouteId::new(index).unwrap());
        let table = RouteTable::new(ids.zip(routes)).unwrap();
        let generation = Arc::new(Generation::new(settings, table));
        let newest = HttpGeneration::new(generation, &TlsShared::new().unwrap()).unwrap();
        let (_, newest) = watch::channel(Arc::new(newest));
        let log = Arc::new(Log::default());
        let (drain, watch) = Drain::new();
        let limits = Arc::new(Limits::default());
        let server = Arc::new(HttpServer::new(newest, Arc::clone(&log) as Arc<dyn Report>, watch, Timers::new()));
        let address = listen(Arc::clone(&server), Arc::clone(&limits), PORT).await;
        let tls_address = listen(Arc::clone(&server), Arc::clone(&limits), TLS_PORT).await;
        Self { address, tls_address, limits, log, drain, server, roots: Arc::new(roots) }
    }

    /// Waits until every slot is free again.
    async fn settled(&self) {
        eventually("every slot is free", || self.limits.held() == 0 && self.limits.bound() == 0).await;
        assert_eq!(self.limits.requests.load(Ordering::SeqCst), 0, "every request is over");
    }
}

/// Accepts connections as the TCP side does.
async fn listen(server: Arc<HttpServer>, limits: Arc<Limits>, port: u16) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let tracker: Arc<dyn ConnectionTracker> = limits;
        while let Ok((io, peer)) = listener.accept().await {
            // As every socket is that the proxy accepts.
            io.set_nodelay(true).unwrap();
            let now = Instant::now();
            tokio::spawn(server.serve(connection(io, peer, &tracker, port, now)));
        }
    });
    address
}

/// A connection as the TCP side hands it over.
fn connection(
    io: TcpStream,
    peer: SocketAddr,
    tracker: &Arc<dyn ConnectionTracker>,
    port: u16,
    accepted: Instant,
) -> HttpConnection {
    HttpConnection {
        local: io.local_addr().unwrap(),
        io: io.into(),
        received: bytes::BytesMut::new(),
        peer,
        client: peer.ip(),
        permit: Permit::open(tracker, accepted, Arrival::client(peer.ip())).unwrap(),
        port,
        hello: (port == TLS_PORT).then(|| ClientHello { sni: Some("shop.test".into()), ..ClientHello::default() }),
        accepted,
    }
}

/// A route that forwards to `backend`, in plain and over TLS as two routes.
fn forward(name: &str, backend: &Backend) -> Route {
    forward_with(name, backend, |_| {})
}

fn forward_with(name: &str, backend: &Backend, change: impl FnOnce(&mut Forward)) -> Route {
    let target = Target::new("127.0.0.1", TargetPort::Fixed(backend.address.port()));
    let mut forward = Forward::new(vec![target]);
    change(&mut forward);
    let mut route = Route::new(name, Action::Forward(Box::new(forward)));
    route.matching.ports = vec![PortRange::single(PORT)];
    route
}

fn over_tls(mut route: Route) -> Route {
    route.matching.ports = vec![PortRange::single(TLS_PORT)];
    route.tls = Some(TlsMode::Terminate);
    route
}

/// Everything that was reported.
#[derive(Debug, Default)]
struct Log {
    events: Mutex<Vec<(&'static str, &'static str)>>,
    outcomes: Mutex<Vec<u16>>,
    handshakes: AtomicUsize,
    /// Reasons that it panics at.
    deadly: Mutex<Vec<&'static str>>,
}

impl Report for Log {
    fn event(&self, event: Event) {
        assert!(!self.deadly.lock().contains(&event.reason), "a panic, as it was asked for");
        self.events.lock().push((event.kind.label(), event.reason));
    }

    fn handshake(&self) {
        self.handshakes.fetch_add(1, Ordering::SeqCst);
    }

    fn request(&self, outcome: RequestOutcome) {
        self.outcomes.lock().push(outcome.status);
    }
}

impl Log {
    fn events(&self) -> Vec<(&'static str, &'static str)> {
        self.events.lock().clone()
    }

    fn outcomes(&self) -> Vec<u16> {
        self.outcomes.lock().clone()
    }
}

/// A tracker whose refusals are scripted, and that counts what is held.
#[derive(Debug, Default)]
struct Limits {
    connections: AtomicUsize,
    requests: AtomicUsize,
    routes: Mutex<HashMap<RouteId, usize>>,
    refuse: Mutex<HashMap<u32, Reason>>,
    /// A connection of the backend, and whether it had ended whenever a request gave its slots back.
    watched: Mutex<Option<(std::net::TcpStream, Vec<bool>)>>,
}

impl Limits {
    fn held(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn bound(&self) -> usize {
        self.routes.lock().values().sum()
    }

    /// Whether binding to the route of this index is refused, and why.
    fn refuse(&self, route: u32, reason: Option<Reason>) {
        match reason {
            Some(reason) => self.refuse.lock().insert(route, reason),
            None => self.refuse.lock().remove(&route),
        };
    }
}

impl ConnectionTracker for Limits {
    fn open(&self, _now: Instant, _arrival: Arrival, hold: &mut Hold) -> Result<(), Rejection> {
        self.connections.fetch_add(1, Ordering::SeqCst);
        hold.fill(None, Slots::GLOBAL);
        Ok(())
    }

    fn identify(&self, _now: Instant, _hold: &mut Hold, _client: IpAddr) -> Result<(), Rejection> {
        Ok(())
    }

    fn bind(&self, _now: Instant, hold: &mut Hold, route: RouteId) -> Result<(), Rejection> {
        if let Some(&reason) = self.refuse.lock().get(&route.index()) {
            return Err(Rejection::full(reason, 1));
        }
        if !hold.is_bound(route) {
            *self.routes.lock().entry(route).or_default() += 1;
            hold.push(Binding::new(route, true, true));
        }
        Ok(())
    }

    fn unbind(&self, hold: &mut Hold, route: RouteId) {
        if hold.take(route).is_some() {
            *self.routes.lock().get_mut(&route).unwrap() -= 1;
        }
    }

    fn close(&self, hold: &mut Hold) {
        for binding in hold.bindings() {
            *self.routes.lock().get_mut(&binding.route()).unwrap() -= 1;
        }
        self.connections.fetch_sub(1, Ordering::SeqCst);
        hold.settle();
    }

    fn begin(
        &self,
        _now: Instant,
        _client: Option<IpAddr>,
        route: RouteId,
        hold: &mut RequestHold,
    ) -> Result<(), Rejection> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        hold.fill(None, route, Slots::REQUEST);
        Ok(())
    }

    fn finish(&self, hold: &mut RequestHold) {
        self.requests.fetch_sub(1, Ordering::SeqCst);
        if let Some((stream, ended)) = &mut *self.watched.lock() {
            let peeked = stream.peek(&mut [0]);
            ended.push(!peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
        }
        hold.settle();
    }
}

/// Waits until `condition` holds.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits for an answer, but not for ever.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("an answer in time")
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}
