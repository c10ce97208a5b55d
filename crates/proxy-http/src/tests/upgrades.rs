//! Tunnels: over HTTP/1.1 and over a stream of HTTP/2.

use super::client::{exchange, get2, text};
use super::*;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const UPGRADE: &[u8] = b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

#[tokio::test]
async fn pitfall_26_an_upgraded_connection_is_a_tunnel() {
    let backend = Backend::echoing_tunnel().await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let mut stream = world.raw().await;
    // What follows the head at once belongs to the tunnel.
    stream.write_all(&[UPGRADE, b"early"].concat()).await.unwrap();
    let head = soon(backend::read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.contains("upgrade: websocket") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    let mut echoed = [0; 5];
    soon(stream.read_exact(&mut echoed)).await.unwrap();
    assert_eq!(&echoed, b"early");
    assert_eq!((world.limits.held(), world.limits.bound()), (1, 1));
    let large = vec![7; 1024 * 1024];
    let (mut from, mut to) = stream.split();
    let mut back = vec![0; large.len()];
    let (wrote, read) = tokio::join!(to.write_all(&large), soon(from.read_exact(&mut back)));
    wrote.unwrap();
    read.unwrap();
    assert_eq!(back, large);
    assert!(world.log.outcomes().is_empty(), "the request goes on");
    to.shutdown().await.unwrap();
    assert_eq!(soon(from.read(&mut echoed)).await.unwrap(), 0, "the end of one side is passed on");
    world.settled().await;
    assert_eq!(world.log.outcomes(), [101]);
    assert!(world.log.events().is_empty(), "{:?}", world.log.events());
}

#[tokio::test]
async fn a_stream_is_a_tunnel() {
    let backend = Backend::echoing_tunnel().await;
    let world = World::new(vec![over_tls(forward("tls", &backend))]).await;
    let io = TokioIo::new(world.tls(&["h2"]).await);
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut request =
        Request::builder().method(Method::CONNECT).uri("https://shop.test/chat").body(String::new()).unwrap();
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    // The client may ask so only once it has the server's settings.
    let first = Request::builder().uri("https://shop.test/").body(String::new()).unwrap();
    text(soon(client.send_request(first)).await.unwrap()).await;
    let mut response = soon(client.send_request(request)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    let mut tunnel = TokioIo::new(soon(hyper::upgrade::on(&mut response)).await.unwrap());
    drop(client);
    tunnel.write_all(b"hello").await.unwrap();
    let mut echoed = [0; 5];
    soon(tunnel.read_exact(&mut echoed)).await.unwrap();
    assert_eq!(&echoed, b"hello");
    assert_eq!((world.limits.held(), world.limits.bound()), (1, 1));
    tunnel.shutdown().await.unwrap();
    assert_eq!(soon(tunnel.read(&mut echoed)).await.unwrap(), 0);
    drop(tunnel);
    world.settled().await;
    assert_eq!(world.log.outcomes(), [502, 200]);
}

/// A client that may ask for tunnels on streams of HTTP/2.
async fn tunneling(world: &World) -> h2::client::SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(world.raw().await).await.unwrap();
    tokio::spawn(connection);
    let client = soon(client.ready()).await.unwrap();
    eventually("the server's settings are there", || client.is_extended_connect_protocol_enabled()).await;
    client
}

fn extended_connect() -> Request<()> {
    let mut request = Request::builder().method(Method::CONNECT).uri("http://shop.test/chat").body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    request
}

/// A tunnel on a stream of HTTP/2, to a backend that takes nothing and stays; and the client's way to make more.
async fn stream_to_nowhere(client: &mut h2::client::SendRequest<Bytes>) -> h2::SendStream<Bytes> {
    let (response, stream) = client.send_request(extended_connect(), false).unwrap();
    assert_eq!(soon(response).await.unwrap().status(), StatusCode::OK);
    stream
}

/// What a backend does that agrees to speak WebSocket.
async fn agree(stream: &mut TcpStream) {
    let head = backend::read_head(stream).await;
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
    let accept = backend::websocket_accept(key);
    let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
    stream.write_all(format!("{head}sec-websocket-accept: {accept}\r\n\r\n").as_bytes()).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_is_reset_frees_its_slot_though_its_backend_neither_takes_nor_says_anything() {
    let backend = Backend::raw(|mut stream| async move {
        agree(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let mut client = tunneling(&world).await;
    for stuck in [false, true] {
        let mut stream = stream_to_nowhere(&mut client).await;
        if stuck {
            // Until neither the backend nor anybody in between takes more.
            stream.reserve_capacity(64 * 1024);
            let patience = Duration::from_secs(1);
            while let Ok(Some(Ok(room))) =
                tokio::time::timeout(patience, std::future::poll_fn(|context| stream.poll_capacity(context))).await
            {
                stream.send_data(Bytes::from(vec![0; room]), false).unwrap();
                stream.reserve_capacity(64 * 1024);
            }
        }
        assert_eq!(world.limits.requests.load(Ordering::SeqCst), 1);
        stream.send_reset(h2::Reason::CANCEL);
        eventually("the request is over", || world.limits.requests.load(Ordering::SeqCst) == 0).await;
        assert_eq!(world.limits.held(), 1, "the connection goes on");
    }
    drop(client);
    world.settled().await;
}

#[tokio::test]
async fn a_backend_that_breaks_a_tunnel_off_resets_its_stream() {
    let backend = Backend::raw(|mut stream| async move {
        agree(&mut stream).await;
        stream.read_u8().await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let mut client = tunneling(&world).await;
    let (response, mut stream) = client.send_request(extended_connect(), false).unwrap();
    let mut body = soon(response).await.unwrap().into_body();
    stream.send_data("x".into(), false).unwrap();
    let broken = soon(body.data()).await.expect("it is no end").unwrap_err();
    assert_eq!((broken.reason(), broken.is_remote()), (Some(h2::Reason::CANCEL), true));
    eventually("the request is over", || world.limits.requests.load(Ordering::SeqCst) == 0).await;
    assert_eq!(world.limits.held(), 1, "the connection goes on");
    drop((stream, body, client));
    world.settled().await;
}

#[tokio::test]
async fn an_answer_in_place_of_a_tunnel_does_not_look_like_one() {
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let mut client = tunneling(&world).await;
    let response = soon(client.send_request(extended_connect(), false).unwrap().0).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    drop((response, client));
    world.settled().await;
    assert_eq!(world.log.events(), [("backend_failed", "response_malformed")]);
}

#[tokio::test]
async fn upgrades_are_refused_where_they_are_off_or_not_agreed_to() {
    let (backend, wrong) = (Backend::start().await, Backend::echoing_tunnel().await);
    let mut off = forward_with("off", &backend, |forward| forward.websocket = false);
    off.matching.domains = vec!["a".parse().unwrap()];
    let world = World::new(vec![off, forward("wrong", &wrong)]).await;
    let after = b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let refused = exchange(world.raw().await, &[UPGRADE, after].concat()).await;
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("connection: close\r\n"), "{refused}");
    assert!(!refused.contains("/x"), "what came for a tunnel is not taken for a request: {refused}");
    // A backend that changes protocols without being asked.
    let response = soon(world.http2().await.send_request(get2("b.test", "/"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    text(response).await;
    world.settled().await;
}

#[tokio::test]
async fn idle_tunnels_end() {
    let backend = Backend::echoing_tunnel().await;
    let world = World::with(vec![forward("all", &backend)], |settings| {
        settings.keep_alive.tunnel_idle = Some(Duration::from_millis(150));
    })
    .await;
    let answer = exchange(world.raw().await, UPGRADE).await;
    assert!(answer.starts_with("HTTP/1.1 101"));
    world.settled().await;
    assert_eq!(world.log.events(), [("swept", "idle_timeout")]);
}
