//! Idle, parked, drained, too old, too slow.

use super::client::{exchange, get, get2, text};
use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n";

/// Reads one response of 17 bytes of body.
async fn read_response(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let head = soon(backend::read_head(stream)).await;
    let mut body = vec![0; 16];
    soon(stream.read_exact(&mut body)).await.unwrap();
    assert_eq!(String::from_utf8(body).unwrap(), "you asked for /x");
    head
}

#[tokio::test]
async fn a_parked_connection_goes_on() {
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend), over_tls(forward("tls", &backend))]).await;
    let parked = || world.server.worker.parked.load(Ordering::SeqCst);
    let mut streams: Vec<Box<dyn Stream>> = vec![Box::new(world.raw().await), Box::new(world.tls(&["http/1.1"]).await)];
    // In plain, there is no conversation before the first byte.
    eventually("a silent connection is parked", || parked() == 1).await;
    for stream in &mut streams {
        stream.write_all(REQUEST).await.unwrap();
        read_response(stream).await;
        let before = parked();
        eventually("the connection is parked", || parked() > before).await;
        // Two and a half requests at once, then the rest.
        let pipelined = [REQUEST, REQUEST, &REQUEST[..9]].concat();
        stream.write_all(&pipelined).await.unwrap();
        read_response(stream).await;
        read_response(stream).await;
        // A client that takes its time: who would park half a request has had it.
        tokio::time::sleep(Duration::from_millis(1000)).await;
        stream.write_all(&REQUEST[9..]).await.unwrap();
        read_response(stream).await;
    }
    assert_eq!(world.limits.held(), 2);
    drop(streams);
    world.settled().await;
    assert!(world.log.events().is_empty(), "{:?}", world.log.events());
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Stream for T {}

#[tokio::test]
async fn pitfall_27_idle_connections_end() {
    let backend = Backend::start().await;
    let world = World::with(vec![forward("all", &backend)], |settings| {
        settings.keep_alive.http_idle = Some(Duration::from_millis(300));
    })
    .await;
    let answer = exchange(world.raw().await, REQUEST).await;
    assert!(answer.starts_with("HTTP/1.1 200"));
    let mut client = world.http2().await;
    text(soon(client.send_request(get2("a", "/x"))).await.unwrap()).await;
    world.settled().await;
    assert_eq!(world.log.events(), [("swept", "idle_timeout"); 2]);
}

#[tokio::test]
async fn a_client_that_says_nothing_or_too_little_ends() {
    let backend = Backend::start().await;
    let world = World::with(vec![forward("all", &backend), over_tls(forward("tls", &backend))], |settings| {
        settings.timeouts.initial_data = Some(Duration::from_millis(400));
        settings.timeouts.request_header = Some(Duration::from_millis(300));
    })
    .await;
    assert_eq!(exchange(world.raw().await, b"").await, "");
    assert_eq!(exchange(world.raw().await, b"PRI * HT").await, "");
    assert_eq!(world.log.events(), [("terminated", "initial_data_timeout"); 2]);
    let answer = exchange(world.raw().await, b"GET / HTTP/1.1\r\nhost: a\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(world.log.events().last(), Some(&("terminated", "request_header_timeout")));
    // A second request is bound as the first is.
    let answer = exchange(world.raw().await, &[REQUEST, b"GET /"].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("HTTP/1.1 408"), "{answer}");
    exchange(connect(world.tls_address).await, b"").await;
    eventually("the handshake is given up", || world.log.events().last() == Some(&("tls_failed", "handshake_timeout")))
        .await;
    exchange(connect(world.tls_address).await, b"GET / HTTP/1.1\r\n\r\n").await;
    eventually("the handshake fails", || world.log.events().last() == Some(&("tls_failed", "handshake_failed"))).await;
    drop(connect(world.tls_address).await);
    eventually("the client leaves", || world.log.events().last() == Some(&("tls_failed", "handshake_aborted"))).await;
    let idle = world.tls(&["http/1.1"]).await;
    let silent = world.tls(&["h2"]).await;
    world.settled().await;
    drop((idle, silent));
}

#[tokio::test]
async fn nothing_a_client_does_keeps_it_pending_for_longer() {
    let backend = Backend::start().await;
    let mut route = over_tls(forward("tls", &backend));
    route.matching.domains = vec!["shop.test".parse().unwrap()];
    let world = World::with(vec![forward("all", &backend), route], |settings| {
        settings.timeouts.initial_data = Some(Duration::from_millis(1600));
    })
    .await;
    // A head that never ends, begun late or within TLS; far from the time-out of a head.
    let plain = async {
        let stream = world.raw().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        exchange(stream, b"GET / HTTP/1.1\r\nhost: a\r\n").await
    };
    let tls = async {
        let mut stream = world.tls(&["http/1.1"]).await;
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let mut all = Vec::new();
        _ = soon(stream.read_to_end(&mut all)).await;
        String::from_utf8_lossy(&all).into_owned()
    };
    // Requests that no route takes.
    let lost = async {
        let mut client = world.https2().await;
        while let Ok(response) = soon(client.send_request(get2("other.test", "/"))).await {
            assert_eq!(response.status(), http::StatusCode::NOT_FOUND);
            // Its pace.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (plain, tls, ()) = tokio::join!(plain, tls, lost);
    for answer in [plain, tls] {
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    world.settled().await;
    let pending = world.log.events().iter().filter(|event| **event == ("terminated", "initial_data_timeout")).count();
    assert_eq!(pending, 3, "{:?}", world.log.events());
}

#[tokio::test]
async fn a_client_that_waits_for_ever_ends_with_its_silent_backend() {
    let backend = Backend::that_begins("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab").await;
    let world = World::with(vec![forward("all", &backend)], |settings| {
        settings.keep_alive.tunnel_idle = Some(Duration::from_millis(600));
        settings.timeouts.response = Some(Duration::from_millis(600));
    })
    .await;
    let mut stream = world.raw().await;
    stream.write_all(&[REQUEST, REQUEST].concat()).await.unwrap();
    soon(backend::read_head(&mut stream)).await;
    world.settled().await;
    drop(stream);
    assert_eq!(world.log.events().first(), Some(&("swept", "idle_timeout")));
}

#[tokio::test]
async fn a_drain_finishes_what_is_under_way() {
    // The rest waits for a word from the test.
    let rest = Arc::new(Semaphore::new(0));
    let told = Arc::clone(&rest);
    let backend = Backend::raw(move |mut stream| {
        let told = Arc::clone(&told);
        async move {
            backend::read_head(&mut stream).await;
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab").await;
            told.acquire().await.unwrap().forget();
            _ = stream.write_all(b"cd").await;
        }
    })
    .await;
    let world = World::new(vec![forward("all", &backend), over_tls(forward("tls", &backend))]).await;
    let idle = world.raw().await;
    let (mut http1, mut http2) = (world.http1().await, world.https2().await);
    let one = soon(http1.send_request(get("a", "/"))).await.unwrap();
    let two = soon(http2.send_request(get2("a", "/"))).await.unwrap();
    world.drain.start();
    assert_eq!(exchange(idle, b"").await, "", "an idle connection is closed at once");
    rest.add_permits(2);
    assert_eq!(text(one).await, "abcd");
    assert_eq!(text(two).await, "abcd");
    world.settled().await;
    assert!(soon(http1.ready()).await.is_err());
    assert!(world.log.events().is_empty(), "{:?}", world.log.events());
}

#[tokio::test]
async fn a_drain_does_not_wait_for_ever() {
    let backend = Backend::start().await;
    let world = World::with(vec![forward("all", &backend)], |settings| {
        settings.timeouts.graceful_shutdown = Some(Duration::from_millis(200));
    })
    .await;
    let (mut http1, mut http2) = (world.http1().await, world.http2().await);
    let waiting = tokio::spawn(async move {
        _ = tokio::join!(http1.send_request(get("a", "/never")), http2.send_request(get2("a", "/never")));
    });
    eventually("both are under way", || world.limits.requests.load(Ordering::SeqCst) == 2).await;
    world.drain.start();
    soon(waiting).await.unwrap();
    world.settled().await;
    assert_eq!(world.log.events(), [("terminated", "drain"); 2]);
}

#[tokio::test]
async fn the_lifetime_ends_a_connection() {
    let backend = Backend::start().await;
    let world = World::with(vec![forward("all", &backend)], |settings| {
        settings.timeouts.lifetime = Some(Duration::from_millis(300));
    })
    .await;
    let mut http2 = world.http2().await;
    text(soon(http2.send_request(get2("a", "/x"))).await.unwrap()).await;
    let answer = exchange(world.raw().await, REQUEST).await;
    assert!(answer.starts_with("HTTP/1.1 200"));
    world.settled().await;
    assert_eq!(world.log.events(), [("terminated", "lifetime"); 2]);
}

#[tokio::test]
async fn the_task_of_a_connection_is_small() {
    let world = World::new(vec![]).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = connect(listener.local_addr().unwrap()).await;
    let (io, peer) = listener.accept().await.unwrap();
    let tracker: Arc<dyn ConnectionTracker> = world.limits.clone();
    let connection = connection(io, peer, &tracker, PORT, Instant::now());
    let task = crate::connection::serve(Arc::clone(&world.server.worker), connection);
    let size = size_of_val(&*task);
    assert!(size <= 1024, "an idle connection would keep {size} bytes in its task");
}
