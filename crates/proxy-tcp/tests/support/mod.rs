//! A worker on a free port, a tracker that does as it is told, and backends.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses what it needs, and a test may fail")]

pub mod hello;

use conn_tracker::{
    Arrival, Binding, ConnectionTracker, Event, EventKind, Hold, Origin, Prefixes, Reason, Rejection, Report,
    RequestHold, RouteId, Slots,
};
use proxy_route::{Action, Forward, Match, PortRange, Protocol, Route, RouteTable, Settings, Target, TargetPort};
use proxy_tcp::{Drain, Generation, HttpConnection, Listeners, Live, ServeHttp, Shed, Timers, Worker, WorkerListener};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// What a tracker was asked, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Open(Origin, bool),
    Identify(IpAddr),
    Bind(RouteId),
    Close,
}

/// Refuses what it is told to, and remembers everything.
#[derive(Debug, Default)]
pub struct Scripted {
    pub calls: Mutex<Vec<Call>>,
    pub refuse_open: Mutex<Option<Reason>>,
    pub refuse_identify: Mutex<Option<Reason>>,
    pub refuse_bind: Mutex<Option<Reason>>,
    pub panic_on_bind: Mutex<bool>,
}

impl Scripted {
    fn hear(&self, call: Call) {
        self.calls.lock().unwrap().push(call);
    }

    pub fn count(&self, counts: impl Fn(&Call) -> bool) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| counts(call)).count()
    }

    pub fn opened(&self) -> usize {
        self.count(|call| matches!(call, Call::Open(..)))
    }

    pub fn closed(&self) -> usize {
        self.count(|call| *call == Call::Close)
    }

    pub fn bound(&self) -> usize {
        self.count(|call| matches!(call, Call::Bind(_)))
    }
}

fn verdict(script: &Mutex<Option<Reason>>) -> Result<(), Rejection> {
    script.lock().unwrap().map_or(Ok(()), |reason| Err(Rejection::full(reason, 1)))
}

impl ConnectionTracker for Scripted {
    fn open(&self, _now: Instant, arrival: Arrival, hold: &mut Hold) -> Result<(), Rejection> {
        verdict(&self.refuse_open)?;
        self.hear(Call::Open(arrival.origin, arrival.pending));
        let client = match arrival.origin {
            Origin::Client(address) => Some(Prefixes::default().key(address)),
            Origin::Proxy | Origin::Balancer => None,
        };
        hold.fill(client, Slots::GLOBAL);
        Ok(())
    }

    fn identify(&self, _now: Instant, hold: &mut Hold, client: IpAddr) -> Result<(), Rejection> {
        self.hear(Call::Identify(client));
        verdict(&self.refuse_identify)?;
        hold.set_client(Some(Prefixes::default().key(client)));
        Ok(())
    }

    fn bind(&self, _now: Instant, hold: &mut Hold, route: RouteId) -> Result<(), Rejection> {
        self.hear(Call::Bind(route));
        assert!(!*self.panic_on_bind.lock().unwrap(), "told to panic");
        verdict(&self.refuse_bind)?;
        hold.push(Binding::new(route, true, true));
        Ok(())
    }

    fn unbind(&self, hold: &mut Hold, route: RouteId) {
        hold.take(route);
    }

    fn close(&self, hold: &mut Hold) {
        hold.settle();
        self.hear(Call::Close);
    }

    fn begin(
        &self,
        _now: Instant,
        _client: Option<IpAddr>,
        route: RouteId,
        hold: &mut RequestHold,
    ) -> Result<(), Rejection> {
        hold.fill(None, route, Slots::NONE);
        Ok(())
    }

    fn finish(&self, hold: &mut RequestHold) {
        hold.settle();
    }
}

/// Remembers every event.
#[derive(Debug, Default)]
pub struct Heard(Mutex<Vec<Event>>);

impl Heard {
    pub fn reasons(&self) -> Vec<(EventKind, &'static str)> {
        self.0.lock().unwrap().iter().map(|event| (event.kind, event.reason)).collect()
    }

    pub fn last(&self) -> Option<Event> {
        self.0.lock().unwrap().last().copied()
    }
}

impl Report for Heard {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

/// Keeps what it is given to serve.
#[derive(Debug, Default)]
pub struct Kept(pub Mutex<Vec<HttpConnection>>);

impl ServeHttp for Kept {
    fn serve(&self, connection: HttpConnection) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.lock().unwrap().push(connection);
        Box::pin(async {})
    }
}

/// A worker that runs until it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    pub tracker: Arc<Scripted>,
    pub heard: Arc<Heard>,
    pub http: Arc<Kept>,
    pub drain: Drain,
    pub live: watch::Sender<Arc<Generation>>,
    pub added: mpsc::UnboundedSender<WorkerListener>,
    pub worker: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

/// Starts a worker with these routes, all of which are on port 0, and these settings.
pub fn start(settings: Settings, routes: Vec<Route>) -> Proxy {
    let routes = routes.into_iter().enumerate().map(|(index, route)| (RouteId::new(index as u32).unwrap(), route));
    let table = RouteTable::new(routes).unwrap();
    let ports = table.ports().map(|(port, _)| port).collect::<Vec<_>>();
    let listeners = Listeners::bind(&[Ipv4Addr::LOCALHOST.into()], ports, NonZeroUsize::MIN).unwrap();
    let address = listeners.addresses()[0];
    let (live, newest) = watch::channel(Arc::new(Generation::new(settings, table)));
    let (drain, watch) = Drain::new();
    let (tracker, heard, http) = (Arc::new(Scripted::default()), Arc::new(Heard::default()), Arc::new(Kept::default()));
    let worker = Worker {
        tracker: tracker.clone(),
        report: heard.clone(),
        live: Live::new(newest),
        drain: watch,
        http: http.clone(),
        timers: Timers::new(),
        shed: Shed::new(),
    };
    let (added, more) = mpsc::unbounded_channel();
    let worker = tokio::spawn(worker.run_with(listeners.into_workers().pop().unwrap(), more));
    Proxy { address, tracker, heard, http, drain, live, added, worker }
}

/// A plain TCP route on port 0 to these backends.
pub fn tcp(targets: &[SocketAddr]) -> Route {
    let targets = targets.iter().map(|address| Target::new(address.ip(), TargetPort::Fixed(address.port())));
    let mut route = Route::new("tcp", Action::Forward(Box::new(Forward::new(targets.collect()))));
    route.protocol = Protocol::Tcp;
    route.matching = Match { ports: vec![PortRange::single(0)], ..Match::default() };
    route
}

pub async fn backend() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Both ends of one connection through the proxy.
pub async fn pair(proxy: &Proxy, backend: &TcpListener) -> (TcpStream, TcpStream) {
    let (client, server) = tokio::join!(TcpStream::connect(proxy.address), accepted(backend));
    (client.unwrap(), server)
}

/// The next connection that a backend gets, which has to come in time.
pub async fn accepted(backend: &TcpListener) -> TcpStream {
    tokio::time::timeout(Duration::from_secs(10), backend.accept()).await.expect("the backend is dialled").unwrap().0
}

/// Waits until it holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// An address where nobody listens.
pub async fn refused() -> SocketAddr {
    backend().await.1
}

/// A backend whose queue is full, so that connecting to it neither succeeds nor fails.
pub struct FullBackend {
    pub address: SocketAddr,
    _listener: socket2::Socket,
    _queued: Vec<socket2::Socket>,
}

pub async fn full_backend() -> FullBackend {
    let new = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let listener = new();
    listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    loop {
        let socket = new();
        let connected = socket.connect_timeout(&address, Duration::from_millis(100));
        queued.push(socket);
        if connected.is_err() {
            break;
        }
    }
    FullBackend { address: address.as_socket().unwrap(), _listener: listener, _queued: queued }
}

/// Checks that no connection is waiting. A marker connection comes after all others, so there is no need to wait.
pub async fn nobody_came(listener: &TcpListener) {
    let address = listener.local_addr().unwrap();
    let (marker, first) = tokio::join!(TcpStream::connect(address), listener.accept());
    assert_eq!(marker.unwrap().local_addr().unwrap(), first.unwrap().1, "somebody was there before the marker");
}
