//! Pools against real backends on loopback.

mod backend;
mod failures;
mod http1;
mod reuse;
mod speech;

use super::{Exchange, Letter, PoolLimits, Pools, Unanswered, UpstreamError, UpstreamResponse};
use crate::body::{BodyError, ClientBody, Pace, RequestBody, Wish, channel};
use crate::io::Activity;
use crate::{TlsBackends, TlsShared};
use bytes::{Bytes, BytesMut};
use conn_tracker::{Event, EventKind, Ignore, Report, RouteId};
use http::{Method, Request};
use http_body::Frame;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use proxy_route::{Action, Forward, Route, RouteTable, Settings, Target, TargetPort, TlsMode};
use proxy_tcp::{Generation, Timers};
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// A route to backends, and the pools of one worker.
struct World {
    generation: Arc<Generation>,
    tls: TlsBackends,
    pools: Pools,
    events: Arc<Events>,
    upgrade: bool,
    /// How long ago requests have begun when they are sent.
    age: Duration,
    timers: Timers,
}

/// The reasons of all failures of backends.
#[derive(Debug, Default)]
struct Events(Mutex<Vec<&'static str>>);

impl Report for Events {
    fn event(&self, event: Event) {
        let limited = event.reason == UpstreamError::Full.label();
        assert_eq!(event.kind, if limited { EventKind::Refused } else { EventKind::BackendFailed });
        assert_eq!((event.route, event.source), (RouteId::new(7), Some(CLIENT)));
        self.0.lock().push(event.reason);
    }
}

impl World {
    fn new(ports: &[u16]) -> Self {
        Self::with(ports, |_| {}, |_| {}, None)
    }

    fn with(
        ports: &[u16],
        change: impl FnOnce(&mut Forward),
        configure: impl FnOnce(&mut Settings),
        tls: Option<TlsMode>,
    ) -> Self {
        let target = |&port: &u16| Target::new("127.0.0.1", TargetPort::Fixed(port));
        let mut forward = Forward::new(ports.iter().map(target).collect());
        change(&mut forward);
        let mut route = Route::new("shop", Action::Forward(Box::new(forward)));
        route.tls = tls;
        let table = RouteTable::new([(RouteId::new(7).unwrap(), route)]).unwrap();
        let backends = TlsBackends::new(&table, &TlsShared::new().unwrap()).unwrap();
        let mut settings = Settings::default();
        configure(&mut settings);
        let events = Arc::new(Events::default());
        let pools = Pools::new(PoolLimits::default(), Arc::clone(&events) as Arc<dyn Report>);
        Self {
            generation: Arc::new(Generation::new(settings, table)),
            tls: backends,
            pools,
            events,
            upgrade: false,
            age: Duration::ZERO,
            timers: Timers::new(),
        }
    }

    async fn send(&self, request: Request<RequestBody>) -> Result<UpstreamResponse, UpstreamError> {
        let exchange = Exchange {
            began: std::time::Instant::now() - self.age,
            timers: &self.timers,
            generation: &self.generation,
            tls: &self.tls,
            route: &self.generation.table.routes()[0],
            client: CLIENT,
            source: SocketAddr::new(CLIENT, 4711),
            local: SocketAddr::from(([198, 51, 100, 1], 443)),
            listener_port: 443,
            slots: None,
            upgrade: self.upgrade,
            looks: false,
        };
        let (head, body) = request.into_parts();
        let mut letter = Letter::new(Box::new(head.into()), None, body);
        let answer = async {
            let search = match self.pools.begin(&exchange, &mut letter) {
                Err(search) => search,
                Ok(mut underway) => {
                    let heard = poll_fn(|context| underway.poll(&self.timers, context)).await;
                    match underway.answered(heard, &self.pools, &exchange, &letter) {
                        Ok(response) => return Ok(response),
                        Err(Unanswered::Failed(error)) => return Err(error),
                        Err(Unanswered::Again(search)) => search,
                    }
                }
            };
            self.pools.send(&exchange, &mut letter, search).await
        };
        tokio::time::timeout(PATIENCE, answer).await.expect("an answer in time")
    }

    async fn get(&self, path: &str) -> Result<UpstreamResponse, UpstreamError> {
        self.send(request(Method::GET, path, RequestBody::Empty)).await
    }

    /// A GET read to its end.
    async fn text(&self, path: &str) -> String {
        text(self.get(path).await.unwrap()).await.unwrap()
    }

    fn events(&self) -> Vec<&'static str> {
        self.events.0.lock().clone()
    }

    fn in_flight(&self) -> u32 {
        self.generation.clusters[0].as_ref().unwrap().backends().iter().map(|backend| backend.in_flight()).sum()
    }
}

fn request(method: Method, path: &str, body: RequestBody) -> Request<RequestBody> {
    Request::builder().method(method).uri(path).header("host", "shop.test").body(body).unwrap()
}

async fn text(response: UpstreamResponse) -> Result<String, BodyError> {
    let bytes: Bytes = response.body.collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

/// The body of a request that a client is sending: `declared` bytes, as it is written to the stream.
async fn streaming(declared: usize) -> (RequestBody, DuplexStream) {
    let (client, mut server) = tokio::io::duplex(64 * 1024);
    let (sender, receiver) = channel(Some(declared as u64));
    tokio::spawn(async move {
        let mut left = declared;
        while left > 0 && poll_fn(|context| sender.poll_wish(context)).await == Wish::More {
            let mut piece = BytesMut::new();
            let Ok(count @ 1..) = server.read_buf(&mut piece).await else { return };
            left -= count;
            poll_fn(|context| {
                sender.give(Frame::data(piece.split().freeze()), context);
                Poll::Ready(())
            })
            .await;
        }
        poll_fn(|context| {
            sender.end(Ok(()), context);
            Poll::Ready(())
        })
        .await;
    });
    let busy = Arc::new(Activity::default()).busy();
    let event = Event { kind: EventKind::Terminated, reason: "request_body_timeout", route: None, source: None };
    let pace = Pace::new(Arc::new(Ignore), event);
    let body =
        ClientBody::new(crate::body::Incoming::Http1(receiver), None, 0, Arc::new(pace), None, busy, &Timers::new());
    (RequestBody::Streaming(Box::new(body)), client)
}

/// Waits until `condition` holds.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));
const PATIENCE: Duration = Duration::from_secs(10);
