//! The server, what is behind it, and who counts.

use super::{Order, Orders};
use bytes::BytesMut;
use conn_tracker::{Arrival, ConnectionTracker, Ignore, Inspect, Permit};
use limits_core::{Limits, RouteLimits, Table, TableConfig};
use proxy_http::{HttpGeneration, HttpServer, TlsShared};
use proxy_route::{Action, Forward, PortRange, Respond, Route, RouteTable, Settings, Target, TargetPort};
use proxy_tcp::{Drain, Generation, HttpConnection, ServeHttp, Timers};
use std::cell::Cell;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::yield_now;

/// A server of one worker with a backend, all on the calling thread.
pub(super) struct World {
    runtime: Runtime,
    listener: TcpListener,
    server: HttpServer,
    table: Arc<Table>,
    tracker: Arc<dyn ConnectionTracker>,
    _drain: Drain,
}

const PORT: u16 = 8080;
/// By then a server has come to an end, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many turns the others have while the client waits.
const TURNS: usize = 8;

thread_local! {
    /// How often something has panicked: a stream that does is reset, and nothing else tells of it.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

impl World {
    pub(super) fn new() -> Self {
        count_panics();
        // Sockets are looked at with each turn, so that a turn is worth waiting for.
        let runtime = Builder::new_current_thread().enable_all().event_interval(1).build().expect("a runtime");
        let entered = runtime.enter();
        let bind = || runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let (listener, behind) = (bind(), bind());
        let target = Target::new("127.0.0.1", TargetPort::Fixed(behind.local_addr().expect("bound").port()));
        runtime.spawn(backend(behind));
        let forward = || Action::Forward(Box::new(Forward::new(vec![target.clone()])));
        let here = Action::Respond(Respond { status: 200, headers: vec![], body: "here".into() });
        let routes = [
            route("all", None, forward()),
            route("here", Some("/here"), here),
            route("full", Some("/full"), forward()),
        ];
        let one = RouteLimits { max_requests: 1, ..RouteLimits::new("full") };
        let limits =
            Limits { routes: vec![RouteLimits::new("all"), RouteLimits::new("here"), one], ..Limits::default() };
        let table = Table::new(TableConfig::default(), limits, Instant::now()).expect("limits");
        let routes = RouteTable::new(table.route_ids().into_iter().zip(routes)).expect("routes");
        let generation = Arc::new(Generation::new(Settings::default(), routes));
        let newest = HttpGeneration::new(generation, &TlsShared::new().expect("TLS")).expect("a configuration");
        let (_, newest) = watch::channel(Arc::new(newest));
        let (drain, watch) = Drain::new();
        let server = HttpServer::new(newest, Arc::new(Ignore), watch, Timers::new());
        drop(entered);
        let tracker: Arc<dyn ConnectionTracker> = table.for_worker();
        Self { runtime, listener, server, table, tracker, _drain: drain }
    }

    /// Has a client do what it is told.
    pub(super) fn meet(&self, orders: Orders<'_>) {
        let before = PANICS.get();
        self.runtime.block_on(async {
            if tokio::time::timeout(PATIENCE, self.play(orders)).await.is_err() {
                let snapshot = self.table.snapshot();
                panic!("the server goes on without its client: {:?}", snapshot.scopes);
            }
        });
        assert_eq!(PANICS.get(), before, "a stream has panicked");
        assert_eq!(self.table.snapshot().anomalies, 0, "a slot was given back twice");
    }

    async fn play(&self, orders: Orders<'_>) {
        let client = TcpStream::connect(self.listener.local_addr().expect("bound")).await.expect("it listens");
        let (io, peer) = self.listener.accept().await.expect("somebody knocks");
        let now = Instant::now();
        let serving = self.server.serve(HttpConnection {
            local: io.local_addr().expect("connected"),
            io: io.into(),
            received: BytesMut::new(),
            peer,
            client: peer.ip(),
            permit: Permit::open(&self.tracker, now, Arrival::client(peer.ip())).expect("nobody else is there"),
            port: PORT,
            hello: None,
            accepted: now,
        });
        let serving = tokio::spawn(serving);
        let (from, mut to) = client.into_split();
        let taking = tokio::spawn(take(from));
        for order in orders {
            match order {
                // The server may have closed already.
                Order::Send(bytes) => _ = to.write_all(&bytes).await,
                Order::Wait => {
                    for _ in 0..TURNS {
                        yield_now().await;
                    }
                }
                Order::End => _ = to.shutdown().await,
                Order::Leave => taking.abort(),
            }
        }
        // An error, if it has left.
        _ = taking.await;
        drop(to);
        serving.await.expect("the connection does not panic");
        // What is under way to a backend may hold a request for a moment more.
        while self.table.snapshot().scopes.iter().any(|scope| scope.active > 0) {
            yield_now().await;
        }
    }
}

fn route(name: &str, path: Option<&str>, action: Action) -> Route {
    let mut route = Route::new(name, action);
    route.matching.ports = vec![PortRange::single(PORT)];
    route.matching.path = path.map(Into::into);
    route
}

/// Takes what comes until the end.
async fn take(mut from: OwnedReadHalf) {
    let mut space = vec![0; 16 * 1024];
    while matches!(from.read(&mut space).await, Ok(1..)) {}
}

/// Has panics counted, once for all threads.
fn count_panics() {
    static COUNTED: Once = Once::new();
    COUNTED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            before(panic);
        }));
    });
}

/// Answers by the path of a request.
async fn backend(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
                return;
            }
        };
        let rest = head.split_off(end);
        let text = String::from_utf8_lossy(&head).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default();
        let answer = match path {
            "/never" | "/full" => {
                // Until whoever asks is gone.
                while matches!(stream.read(&mut [0; 1024]).await, Ok(1..)) {}
                return;
            }
            "/none" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            "/cut" => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nnot all".to_vec(),
            "/large" => [&b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n"[..], &vec![b'x'; 300_000]].concat(),
            _ => b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_vec(),
        };
        let has_body = ["content-length: ", "transfer-encoding: "].iter().any(|name| text.contains(name));
        if stream.write_all(&answer).await.is_err() || path == "/cut" || has_body {
            // It does not wait for the body of a request.
            return;
        }
        head = rest;
    }
}
