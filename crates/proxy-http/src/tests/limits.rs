//! Slots: taken before a backend is dialled, given back when all is over.

use super::client::{exchange, get, get2, text};
use super::*;
use http::StatusCode;

fn two_routes(backend: &Backend) -> Vec<Route> {
    let mut first = forward("first", backend);
    first.matching.path = Some("/a".into());
    let mut second = forward("second", backend);
    second.matching.path = Some("/b".into());
    vec![first, second]
}

#[tokio::test]
async fn pitfall_03_a_refused_first_request_frees_the_slots_and_is_answered() {
    let backend = Backend::start().await;
    let world = World::new(two_routes(&backend)).await;
    for (reason, status) in [(Reason::RouteLimit, "503"), (Reason::RouteClientLimit, "429")] {
        world.limits.refuse(0, Some(reason));
        let mut stream = world.raw().await;
        // The body is not read: the answer arrives all the same, and the slots are free while the client lingers.
        let request = format!("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n{}", "x".repeat(50_000));
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        let head = soon(backend::read_head(&mut stream)).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        assert!(head.contains("connection: close"), "{head}");
        let after = head.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap().parse::<u32>().unwrap();
        assert!((1..=3).contains(&after));
        eventually("the slots are free", || world.limits.held() == 0).await;
        let rest = exchange(stream, b"").await;
        assert!(rest.contains(status), "{rest:?}");
        assert_eq!(world.log.events.lock().pop(), Some(("refused", reason.label())));
    }
    assert_eq!(backend.accepted.load(Ordering::SeqCst), 0, "no backend was dialled");
    world.settled().await;
}

#[tokio::test]
async fn a_refused_later_route_leaves_the_connection_what_it_has() {
    let backend = Backend::start().await;
    let world = World::new(two_routes(&backend)).await;
    let mut client = world.http1().await;
    assert_eq!(text(soon(client.send_request(get("a", "/a"))).await.unwrap()).await, "you asked for /a");
    world.limits.refuse(1, Some(Reason::RouteClientLimit));
    let refused = soon(client.send_request(get("a", "/b"))).await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(!refused.headers().contains_key("connection"));
    text(refused).await;
    assert_eq!((world.limits.held(), world.limits.bound()), (1, 1));
    world.limits.refuse(1, None);
    assert_eq!(text(soon(client.send_request(get("a", "/b"))).await.unwrap()).await, "you asked for /b");
    assert_eq!(world.limits.bound(), 2);
    drop(client);
    world.settled().await;
    assert_eq!(world.log.outcomes(), [200, 429, 200]);
}

#[tokio::test]
async fn a_panic_ends_the_stream_that_it_is_in_and_no_other_one() {
    let (backend, gone) = (Backend::start().await, Backend::raw(|_| async {}).await);
    let cut = Backend::raw(|mut stream| async move {
        backend::read_head(&mut stream).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
    })
    .await;
    let mut routes = vec![forward("all", &backend), forward("gone", &gone), forward("cut", &cut)];
    for (route, host) in routes.iter_mut().zip(["a", "gone", "cut"]) {
        route.matching.domains = vec![host.parse().unwrap()];
    }
    let world = World::new(routes).await;
    let (client, connection) = soon(h2::client::handshake(world.raw().await)).await.unwrap();
    tokio::spawn(connection);
    let mut client: h2::client::SendRequest<bytes::Bytes> = soon(client.ready()).await.unwrap();
    let mut ask = |host: &str, path: &str| {
        let request = http::Request::builder().uri(format!("http://{host}{path}")).body(()).unwrap();
        client.send_request(request, true).unwrap().0
    };
    let mut events = soon(ask("a", "/events")).await.unwrap().into_body();
    soon(events.data()).await.unwrap().unwrap();
    // While a request is looked at, while it waits for its backend, and in the body of its answer.
    for (host, reason) in [("nobody", "no_route"), ("gone", "connection_lost"), ("cut", "connection_lost")] {
        *world.log.deadly.lock() = vec![reason];
        let error = match soon(ask(host, "/")).await {
            Err(error) => error,
            Ok(response) => {
                let mut body = response.into_body();
                loop {
                    if let Err(error) = soon(body.data()).await.expect("it does not look whole") {
                        break error;
                    }
                }
            }
        };
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{host}");
        assert!(error.is_reset() && error.is_remote(), "{host}: {error}");
    }
    assert_eq!(soon(ask("a", "/x")).await.unwrap().status(), StatusCode::OK);
    eventually("theirs are over", || world.limits.requests.load(Ordering::SeqCst) == 1).await;
    assert_eq!(world.limits.held(), 1);
    drop((events, client));
    world.settled().await;
}

#[tokio::test]
async fn pitfall_34_a_refused_stream_leaves_its_connection() {
    let backend = Backend::start().await;
    let world = World::new(two_routes(&backend)).await;
    world.limits.refuse(0, Some(Reason::RouteLimit));
    let mut client = world.http2().await;
    let refused = soon(client.send_request(get2("a", "/a"))).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    assert!(text(refused).await.starts_with("503 Service Unavailable (request id "));
    assert_eq!(text(soon(client.send_request(get2("a", "/b"))).await.unwrap()).await, "you asked for /b");
    world.limits.refuse(0, None);
    assert_eq!(text(soon(client.send_request(get2("a", "/a"))).await.unwrap()).await, "you asked for /a");
    assert_eq!((world.limits.held(), world.limits.bound()), (1, 2));
    drop(client);
    world.settled().await;
}

#[tokio::test]
async fn a_request_given_up_gives_everything_back() {
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend), over_tls(forward("tls", &backend))]).await;
    for round in 0..3 {
        let mut client = world.http1().await;
        let mut streams = world.https2().await;
        let waiting = tokio::spawn(async move {
            let (_one, _other) =
                tokio::join!(client.send_request(get("a", "/never")), streams.send_request(get2("a", "/never")));
        });
        eventually("both requests are under way", || world.limits.requests.load(Ordering::SeqCst) == 2).await;
        waiting.abort();
        world.settled().await;
        assert_eq!(world.log.outcomes().len(), 2 * (round + 1));
    }
    assert!(world.log.outcomes().iter().all(|&status| status == 499), "{:?}", world.log.outcomes());
}

#[tokio::test]
async fn a_request_given_up_keeps_its_slots_until_the_backend_is_rid_of_it() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let backend = Backend { address, accepted: Arc::default(), seen: Arc::default() };
        let world = World::new(vec![forward("all", &backend)]).await;
        let mut client = world.http2().await;
        let asking = tokio::spawn(async move {
            let response = client.send_request(get2("a", "/")).await;
            // The stream is reset when this is aborted, before or in the middle of the answer.
            std::future::pending::<()>().await;
            drop((client, response));
        });
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        soon(backend::read_head(&mut stream)).await;
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
        assert_eq!(world.limits.requests.load(Ordering::SeqCst), 1);
        *world.limits.watched.lock() = Some((stream.into_std().unwrap(), Vec::new()));
        asking.abort();
        world.settled().await;
        let ended = world.limits.watched.lock().take().unwrap().1;
        assert_eq!(ended, [true], "the slots were free before the connection to the backend was closed");
    }
}

#[tokio::test]
async fn a_backend_that_cannot_be_reached_is_a_502() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let backend = Backend { address: nobody.local_addr().unwrap(), accepted: Arc::default(), seen: Arc::default() };
    drop(nobody);
    let world = World::new(vec![forward("all", &backend)]).await;
    let mut client = world.http1().await;
    let response = soon(client.send_request(get("a", "/"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert!(text(response).await.starts_with("502 Bad Gateway (request id "));
    drop(client);
    world.settled().await;
    assert_eq!(world.log.events(), [("backend_failed", "dial_refused")]);
}

#[tokio::test]
async fn pitfall_29_a_second_attempt_at_a_backend_takes_no_second_slot() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = nobody.local_addr().unwrap().port();
    drop(nobody);
    let backend = Backend::start().await;
    let route = forward_with("all", &backend, |forward| {
        let mut first = forward.targets[0].clone();
        first.port = TargetPort::Fixed(gone);
        forward.targets.insert(0, first);
    });
    let world = World::new(vec![route]).await;
    let mut clients = (world.http1().await, world.http2().await);
    for round in 1..=3 {
        let one = soon(clients.0.send_request(get("a", "/events"))).await.unwrap();
        let two = soon(clients.1.send_request(get2("a", "/events"))).await.unwrap();
        assert_eq!((one.status(), two.status()), (StatusCode::OK, StatusCode::OK));
        assert_eq!((world.limits.held(), world.limits.bound()), (2, 2), "round {round}");
        assert_eq!(world.limits.requests.load(Ordering::SeqCst), 2, "round {round}");
        drop((one, two));
        clients = (world.http1().await, world.http2().await);
        eventually("those are over", || world.limits.requests.load(Ordering::SeqCst) == 0).await;
    }
    assert!(world.log.events().contains(&("backend_failed", "dial_refused")), "the first backend was tried");
    drop(clients);
    world.settled().await;
}

#[tokio::test]
async fn only_so_many_refused_connections_linger() {
    let backend = Backend::start().await;
    let world = World::new(two_routes(&backend)).await;
    let lingering: Vec<_> = (0..512).map(|_| world.server.worker.linger().expect("there is room")).collect();
    world.limits.refuse(0, Some(Reason::RouteLimit));
    let mut stream = world.raw().await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let read = soon(tokio::io::AsyncReadExt::read_u8(&mut stream)).await;
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    drop(lingering);
    let answer = exchange(world.raw().await, b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    world.settled().await;
}
