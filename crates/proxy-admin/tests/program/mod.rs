//! A program to administer, and its endpoint on a port of its own.

use conn_tracker::{ClientKey, Explanation, Inspect, Reason, RouteId, Scope, ScopeState, Snapshot, TopBy, TopClient};
use log_dedup::{Dedup, Kind};
use proxy_admin::{
    Admin, BackendOverview, EventCounters, HandshakeOverview, Overview, Readiness, RouteOverview, Status,
};
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::oneshot;

pub(crate) const SHOP: RouteId = RouteId::new(1).expect("a small number");
const NAME: &str = "a \"b\"\\\n";

#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) counters: EventCounters,
    pub(crate) log: Dedup,
    /// Whether it can reload and drain.
    pub(crate) able: bool,
    pub(crate) readiness: Mutex<Readiness>,
    pub(crate) broken: AtomicBool,
}

impl Default for Program {
    fn default() -> Self {
        Self {
            counters: EventCounters::default(),
            log: Dedup::builder().kind(Kind::new("refused").reads("refused", "connection", "connections")).build(),
            able: true,
            readiness: Mutex::new(Readiness::Ready),
            broken: AtomicBool::new(false),
        }
    }
}

impl Program {
    pub(crate) fn readiness(&self) -> Readiness {
        *self.readiness.lock().expect("no holder panics")
    }

    pub(crate) fn set_readiness(&self, readiness: Readiness) {
        *self.readiness.lock().expect("no holder panics") = readiness;
    }

    pub(crate) fn break_configuration(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }
}

impl Inspect for Program {
    fn snapshot(&self) -> Snapshot {
        let global = ScopeState {
            scope: Scope::Global,
            route: None,
            active: 7,
            limit: Some(10),
            admitted: 20,
            refused: vec![(Reason::GlobalLimit, 5)],
            would_refuse: vec![],
        };
        let route = ScopeState {
            scope: Scope::Route,
            route: Some(SHOP),
            active: 4,
            limit: None,
            admitted: 9,
            refused: vec![],
            would_refuse: vec![(Reason::RouteLimit, 2)],
        };
        let scopes = vec![global, route];
        Snapshot { scopes, tracked_clients: 3, table_capacity: 100, table_bytes: 4096, anomalies: 0 }
    }

    /// As many as exist, whatever was asked for.
    fn top(&self, by: TopBy, _most: usize) -> Vec<TopClient> {
        let client = |index: u16| match by {
            TopBy::Active => TopClient {
                client: ClientKey::V4(0x0a00_0000 + u32::from(index)),
                active: u32::from(1000 - index),
                refused: 0,
                refused_error: 0,
            },
            TopBy::Refused => TopClient {
                client: ClientKey::V4(0x0a01_0000 + u32::from(index)),
                active: 0,
                refused: u64::from(1000 - index),
                refused_error: 1,
            },
        };
        (0..1000).map(client).collect()
    }

    fn explain(&self, _client: IpAddr) -> Explanation {
        unreachable!("the endpoint does not ask")
    }
}

impl Status for Program {
    fn inspect(&self) -> &dyn Inspect {
        self
    }

    fn counters(&self) -> &EventCounters {
        &self.counters
    }

    fn log(&self) -> Option<&Dedup> {
        Some(&self.log)
    }

    fn readiness(&self) -> Readiness {
        Self::readiness(self)
    }

    fn route_name(&self, route: RouteId) -> Option<String> {
        (route == SHOP).then(|| NAME.to_owned())
    }

    fn overview(&self) -> Overview {
        Overview {
            version: "1.2.3".to_owned(),
            started: UNIX_EPOCH + Duration::from_secs(1000),
            uptime: Duration::from_secs(60),
            workers: 2,
            listeners: vec!["127.0.0.1:443".to_owned()],
            enforce: true,
            reloads: 3,
            handshakes: HandshakeOverview { active: 5, waiting: 7, limit: Some(9) },
        }
    }

    fn routes(&self) -> Vec<RouteOverview> {
        vec![RouteOverview {
            id: SHOP,
            name: NAME.to_owned(),
            ports: vec!["443".to_owned()],
            domains: vec!["shop.test".to_owned()],
            path: None,
            action: "forward".to_owned(),
            enforce: true,
            backends: vec![BackendOverview {
                address: "app.test:8080".to_owned(),
                resolved: vec!["10.1.0.11".to_owned()],
                in_flight: 2,
                limit: Some(9),
                healthy: Some(false),
                failure: Some("refused".to_owned()),
                ejected: true,
            }],
        }]
    }

    fn shed_clients(&self) -> Option<u64> {
        Some(1)
    }

    fn reload(&self) -> Option<Result<String, String>> {
        let answer = match self.broken.load(Ordering::SeqCst) {
            false => Ok("`workers` needs a restart".to_owned()),
            true => Err("line 3: there is no such key".to_owned()),
        };
        self.able.then_some(answer)
    }

    fn drain(&self) -> bool {
        if self.able {
            self.set_readiness(Readiness::Draining);
        }
        self.able
    }
}

/// A running endpoint; dropping it ends it.
pub(crate) struct Endpoint {
    pub(crate) program: Arc<Program>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) fn start(program: Program) -> Endpoint {
    serve(program, None)
}

pub(crate) fn start_with_token(program: Program, token: &str) -> Endpoint {
    serve(program, Some(token.to_owned()))
}

fn serve(program: Program, token: Option<String>) -> Endpoint {
    let program = Arc::new(program);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let status: Arc<dyn Status> = program.clone();
    let admin = Admin::new(listener, token, status).expect("it is on loopback");
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let shutdown = async { drop(stopped.await) };
        runtime.block_on(admin.serve(shutdown)).expect("it serves");
    });
    Endpoint { program, address, stop: Some(stop), thread: Some(thread) }
}

impl Endpoint {
    /// Status and body of the answer to a GET.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, &[])
    }

    /// Status and body of the answer to a request with these header lines.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[&str]) -> (u16, String) {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for header in headers {
            write!(request, "{header}\r\n").expect("a string takes everything");
        }
        let answer = self.raw(&(request + "\r\n"));
        let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    /// Everything that is answered to these bytes, until the endpoint closes.
    pub(crate) fn raw(&self, request: &str) -> String {
        let mut stream = self.connect();
        // The endpoint may have hung up already; what it said before is what counts.
        drop(stream.write_all(request.as_bytes()));
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        String::from_utf8(answer).expect("answers are UTF-8")
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the endpoint listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out above 0");
        stream
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the endpoint panicked");
        }
    }
}
