//! An HTTP service that limits requests of a route: 2 of a client in flight, 100 in all, 600 a minute of a client.
//!
//! `cargo run -p limits-core --example http_service` serves on a free port of loopback, tries its own limits and ends.
//! Everything up to `main` is what a service of yours would have.
#![allow(clippy::unwrap_used, reason = "an example shows the good path")]

use conn_tracker::{Arrival, ConnectionTracker, Permit, Rejection, RequestPermit, RouteId};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use limits_core::{Limits, RequestRate, RouteLimits, Table, TableConfig};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

type Answer = Result<Response<Full<Bytes>>, Infallible>;

/// One connection: admitted at accept, bound to its route, then as many requests as it likes.
async fn connection(stream: TcpStream, client: IpAddr, tracker: Arc<dyn ConnectionTracker>, route: RouteId) {
    let Ok(mut permit) = Permit::open(&tracker, Instant::now(), Arrival::client(client)) else { return };
    if permit.bind(Instant::now(), route).is_err() {
        return;
    }
    let service = service_fn(|request| limited(request, client, permit.tracker(), route));
    let ended = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    ended.unwrap_or_else(|error| println!("{client}: {error}"));
}

/// One request: its permit is held until the answer is made. (A service that streams keeps it in the body.)
async fn limited(
    request: Request<Incoming>,
    client: IpAddr,
    tracker: &Arc<dyn ConnectionTracker>,
    route: RouteId,
) -> Answer {
    match RequestPermit::begin(tracker, Instant::now(), Some(client), route) {
        Ok(_permit) => answer(&request).await,
        Err(rejection) => Ok(refusal(rejection)),
    }
}

/// 429 for what the client itself does, 503 for a service that is full, and when to come back.
fn refusal(rejection: Rejection) -> Response<Full<Bytes>> {
    let own = rejection.reason.is_clients_own();
    let status = if own { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::SERVICE_UNAVAILABLE };
    let seconds = rejection.retry_after().unwrap_or_default().as_secs() + 1;
    let builder = Response::builder().status(status).header("retry-after", seconds);
    builder.body(Full::from(rejection.to_string())).unwrap()
}

async fn answer(request: &Request<Incoming>) -> Answer {
    if request.uri().path() == "/slow" {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(Response::new(Full::from("welcome")))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let route = RouteLimits {
        max_requests: 100,
        max_requests_per_client: 2,
        request_rate: Some(RequestRate { requests: 600, window: Duration::from_secs(60) }),
        ..RouteLimits::new("api")
    };
    let limits = Limits { per_client: 10, routes: vec![route], ..Limits::default() };
    let table = Table::new(TableConfig::default(), limits, Instant::now()).unwrap();
    let (tracker, route) = (table.for_worker(), table.route_id("api").unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            tokio::spawn(connection(stream, peer.ip(), Arc::clone(&tracker), route));
        }
    });

    let get = |path: &'static str| async move {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut sender, driver) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(driver);
        let request = Request::get(path).header("host", "localhost").body(Full::<Bytes>::default()).unwrap();
        sender.send_request(request).await.unwrap().status()
    };
    let (one, two, three) = tokio::join!(get("/slow"), get("/slow"), get("/slow"));
    let refused = [one, two, three].iter().filter(|status| **status == StatusCode::TOO_MANY_REQUESTS).count();
    assert_eq!(refused, 1, "two at once, the third is told to wait");
    assert_eq!(get("/").await, StatusCode::OK, "and then there is room again");
    println!("two slow requests were served, one was answered 429");
}

#[test]
fn the_whole_example_runs() {
    main();
}
