//! Where a response ends: never earlier than it should, and never so that it is lost.

use super::backend::read_head;
use super::client::{get2, text};
use super::*;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What a backend in HTTP/2 says to the first request of a connection, frame by frame: kind, flags, payload.
async fn babbling_h2(frames: &'static [(u8, u8, &'static [u8])]) -> Backend {
    Backend::raw(move |mut stream| async move {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        loop {
            let mut head = [0; 9];
            let Ok(_) = stream.read_exact(&mut head).await else { return };
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
            if head[3] == 1 {
                let frame = |(kind, flags, payload): &(u8, u8, &[u8])| {
                    let stream = if *kind == GOAWAY { &[0; 4] } else { &head[5..] };
                    [&(payload.len() as u32).to_be_bytes()[1..], &[*kind, *flags], stream, payload].concat()
                };
                stream.write_all(&frames.iter().flat_map(frame).collect::<Vec<_>>()).await.unwrap();
            }
        }
    })
    .await
}

const HEADERS: u8 = 1;
const RESET: u8 = 3;
const GOAWAY: u8 = 7;
/// Status 200 and 204, and with a length of nine.
const OK: &[u8] = &[0x88];
const NOTHING: &[u8] = &[0x89];
const NINE: &[u8] = &[0x88, 0x0f, 0x0d, 1, b'9'];
const NO_ERROR: &[u8] = &[0; 4];
/// No stream was looked at, and there is no error.
const NOTHING_SEEN: &[u8] = &[0; 8];

#[tokio::test]
async fn a_reset_without_an_error_is_no_end_of_a_response() {
    type Case = (&'static str, &'static [(u8, u8, &'static [u8])], bool, Option<&'static str>);
    let cases: [Case; 7] = [
        ("whole", &[(HEADERS, 4, OK), (0, 1, b"hello")], false, Some("hello")),
        ("cut short", &[(HEADERS, 4, OK), (0, 0, b"hello"), (RESET, 0, NO_ERROR)], false, None),
        ("cut short early", &[(HEADERS, 4, OK), (0, 0, b"hello"), (RESET, 0, NO_ERROR)], true, None),
        ("cut short with all others", &[(HEADERS, 4, OK), (0, 0, b"hello"), (GOAWAY, 0, NOTHING_SEEN)], false, None),
        ("shorter than promised", &[(HEADERS, 4, NINE), (0, 0, b"hello"), (RESET, 0, NO_ERROR)], true, None),
        ("enough of the request", &[(HEADERS, 4, OK), (0, 1, b"hello"), (RESET, 0, NO_ERROR)], true, Some("hello")),
        ("a body where there is none", &[(HEADERS, 4, NOTHING), (0, 1, b"hello")], false, Some("")),
    ];
    for (name, frames, uploads, expected) in cases {
        let backend = babbling_h2(frames).await;
        let h2 = |forward: &mut Forward| forward.backend_protocol = proxy_route::BackendProtocol::Http2;
        let world = World::new(vec![forward_with("all", &backend, h2)]).await;
        let io = TokioIo::new(connect(world.address).await);
        let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
        let sender = uploads.then_some(sender);
        let body = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|frame| (frame, receiver))
        });
        let body = if uploads {
            StreamBody::new(body).boxed_unsync()
        } else {
            Empty::new().map_err(|never| match never {}).boxed_unsync()
        };
        let method = if uploads { Method::POST } else { Method::GET };
        let request = Request::builder().method(method).uri("http://a/").body(body).unwrap();
        let response = soon(client.send_request(request)).await.unwrap();
        let got = soon(response.into_body().collect()).await.map(|body| body.to_bytes());
        assert_eq!(got.as_deref().ok(), expected.map(str::as_bytes), "{name}");
        drop((sender, client));
        world.settled().await;
    }
}

#[tokio::test]
async fn nothing_has_no_length() {
    let backend = Backend::that_begins("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello").await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let response = soon(world.http2().await.send_request(get2("a", "/"))).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("content-length")), (204, None));
    assert_eq!(text(response).await, "");
    world.settled().await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_arrives_whatever_still_comes() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 413 Large\r\ncontent-length: 5\r\n\r\nlarge").await.unwrap();
    })
    .await;
    let mut blocked = Route::new("blocked", Action::Block);
    blocked.matching.ports = vec![PortRange::single(PORT)];
    blocked.matching.path = Some("/no".into());
    let world = World::new(vec![forward("all", &backend), blocked]).await;
    for (path, status) in [("/", "413"), ("/no", "403")] {
        let mut stream = world.raw().await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nsome");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = soon(read_head(&mut stream)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        for _ in 0..10 {
            stream.write_all(&[b'x'; 50_000]).await.expect("the rest is still taken");
        }
        // A reset would be an error here, and for many a client it hides the answer.
        let mut rest = Vec::new();
        soon(stream.read_to_end(&mut rest)).await.expect("an end, and no reset");
        assert!(!rest.is_empty());
    }
    world.settled().await;
}

/// How much of a body comes before the error that it ends with, and the error.
async fn cut_short(body: &mut h2::RecvStream) -> (usize, h2::Error) {
    let mut taken = 0;
    loop {
        match soon(body.data()).await {
            Some(Ok(data)) => taken += data.len(),
            Some(Err(error)) => return (taken, error),
            None => panic!("it ends as if it were whole, after {taken} bytes"),
        }
    }
}

#[tokio::test]
async fn a_stream_ends_whose_client_leaves_the_last_piece_though_the_backend_is_done() {
    let backend = Backend::start().await;
    let mut route = forward("all", &backend);
    route.matching.domains = vec!["a".parse().unwrap()];
    let world = World::with(vec![route], |settings| {
        settings.timeouts.response_body = Some(Duration::from_millis(200));
    })
    .await;
    // What a backend has answered, and what the proxy itself has.
    for (window, uri) in [(0, "http://a/short"), (1, "http://a/short"), (1, "http://nobody/")] {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        let (client, connection): (_, h2::client::Connection<_, Bytes>) =
            soon(builder.handshake(world.raw().await)).await.unwrap();
        tokio::spawn(connection);
        let mut client = soon(client.ready()).await.unwrap();
        let request = Request::builder().uri(uri).body(()).unwrap();
        let mut body = soon(client.send_request(request, true).unwrap().0).await.unwrap().into_body();
        let (taken, end) = cut_short(&mut body).await;
        assert_eq!((end.reason(), taken), (Some(h2::Reason::CANCEL), window as usize), "{uri}");
        assert_eq!(world.log.events.lock().pop(), Some(("terminated", "response_body_timeout")), "{uri}");
        drop((body, client));
        world.settled().await;
    }
}

#[tokio::test]
async fn a_stream_whose_client_takes_nothing_ends_and_no_other_one() {
    let backend = Backend::start().await;
    let world = World::with(vec![forward("all", &backend)], |settings| {
        settings.timeouts.response_body = Some(Duration::from_secs(1));
    })
    .await;
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(100_000).initial_connection_window_size(1 << 20);
    let handshake = builder.handshake(world.raw().await);
    let (client, connection): (_, h2::client::Connection<_, Bytes>) = soon(handshake).await.unwrap();
    tokio::spawn(connection);
    let mut client = soon(client.ready()).await.unwrap();
    let mut ask = |path: &str| {
        let request = Request::builder().uri(format!("http://a{path}")).body(()).unwrap();
        client.send_request(request, true).unwrap().0
    };
    // One that has more to say than there is room for, one that is waited for, and one whose body is waited for.
    let (untaken, unanswered, events) =
        (soon(ask("/large")).await.unwrap(), ask("/never"), soon(ask("/events")).await.unwrap());
    assert_eq!(world.limits.requests.load(Ordering::SeqCst), 3);
    eventually("it is over", || world.limits.requests.load(Ordering::SeqCst) == 2).await;
    assert_eq!(world.log.events(), [("terminated", "response_body_timeout")]);
    let mut body = untaken.into_body();
    let (_, end) = cut_short(&mut body).await;
    assert_eq!(end.reason(), Some(h2::Reason::CANCEL));
    // Who takes what there is may do so as slowly as it likes.
    let mut slow = soon(ask("/large")).await.unwrap().into_body();
    for _ in 0..40 {
        let data = soon(slow.data()).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        slow.flow_control().release_capacity(data.len()).unwrap();
    }
    assert_eq!((world.log.events().len(), world.limits.requests.load(Ordering::SeqCst)), (1, 3));
    drop((unanswered, events, slow, body, client));
    world.settled().await;
}
