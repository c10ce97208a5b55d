//! Bodies both ways: whole, in constant memory, at once, or visibly cut short.

use super::client::{exchange, get, get2, text};
use super::*;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LARGE: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn large_bodies_pass_both_ways() {
    let backend = Backend::start().await;
    let world = World::new(vec![over_tls(forward("tls", &backend)), forward("plain", &backend)]).await;
    let upload = || {
        let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
        let chunks = (0..1024).map(move |_| Ok::<_, std::io::Error>(Frame::data(chunk.clone())));
        StreamBody::new(futures_util::stream::iter(chunks))
    };
    let (mut http1, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(connect(world.address).await)).await.unwrap();
    tokio::spawn(connection);
    let post = Request::post("/count").header("host", "a").body(upload()).unwrap();
    assert_eq!(text(soon(http1.send_request(post)).await.unwrap()).await, LARGE.to_string());
    let io = TokioIo::new(world.tls(&["h2"]).await);
    let (mut http2, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let post = Request::post("http://a/count").body(upload()).unwrap();
    assert_eq!(text(soon(http2.send_request(post)).await.unwrap()).await, LARGE.to_string());
    for mut body in [
        soon(world.http1().await.send_request(get("a", "/large"))).await.unwrap().into_body(),
        soon(world.https2().await.send_request(get2("a", "/large"))).await.unwrap().into_body(),
    ] {
        let mut count = 0;
        while let Some(frame) = soon(body.frame()).await {
            count += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!(count, LARGE);
    }
    drop((http1, http2));
    world.settled().await;
}

#[tokio::test]
async fn events_arrive_at_once() {
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let first = async |response: hyper::Response<hyper::body::Incoming>| {
        let mut body = response.into_body();
        soon(body.frame()).await.unwrap().unwrap().into_data().unwrap()
    };
    let mut http1 = world.http1().await;
    assert_eq!(first(soon(http1.send_request(get("a", "/events"))).await.unwrap()).await, "data: one\n\n");
    let mut http2 = world.http2().await;
    assert_eq!(first(soon(http2.send_request(get2("a", "/events"))).await.unwrap()).await, "data: one\n\n");
    drop((http1, http2));
    world.settled().await;
}

#[tokio::test]
async fn trailers_pass() {
    let (plain, h2) = (Backend::start().await, Backend::start_h2().await);
    let mut grpc = forward_with("grpc", &h2, |forward| forward.backend_protocol = proxy_route::BackendProtocol::Http2);
    grpc.matching.domains = vec!["grpc.test".parse().unwrap()];
    let world = World::new(vec![forward("all", &plain), grpc]).await;
    let mut client = world.http2().await;
    for host in ["shop.test", "grpc.test"] {
        let mut request = get2(host, "/trailers");
        request.headers_mut().insert("te", "trailers".parse().unwrap());
        let response = soon(client.send_request(request)).await.unwrap();
        let collected = soon(response.into_body().collect()).await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "0", "{host}");
        assert_eq!(collected.to_bytes(), "body");
    }
    let raw = b"GET /trailers HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close, te\r\n\r\n";
    let answer = exchange(world.raw().await, raw).await;
    assert!(answer.ends_with("0\r\ngrpc-status: 0\r\n\r\n"), "{answer}");
    drop(client);
    world.settled().await;
}

#[tokio::test]
async fn responses_without_body_have_none() {
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let (mut http1, mut http2) = (world.http1().await, world.http2().await);
    for (method, path, status) in [("HEAD", "/x", 200), ("GET", "/204", 204), ("GET", "/304", 304), ("HEAD", "/x", 200)]
    {
        let method: Method = method.parse().unwrap();
        let mut request = get("a", path);
        *request.method_mut() = method.clone();
        let response = soon(http1.send_request(request)).await.unwrap();
        assert_eq!(response.status(), status);
        let length = response.headers().get("content-length").map(|length| length.to_str().unwrap().to_owned());
        assert_eq!(length.as_deref(), (method == Method::HEAD).then_some("16"), "{path}");
        assert_eq!(text(response).await, "");
        let mut request = get2("a", path);
        *request.method_mut() = method.clone();
        let response = soon(http2.send_request(request)).await.unwrap();
        assert_eq!((response.status().as_u16(), text(response).await), (status, String::new()));
    }
    assert_eq!(world.limits.held(), 2, "both connections stay");
    drop((http1, http2));
    world.settled().await;
}

#[tokio::test]
async fn an_expectation_on_a_stream_is_met_unless_the_request_is_refused() {
    let backend = Backend::start().await;
    let mut route = forward("all", &backend);
    route.matching.domains = vec!["a".parse().unwrap()];
    let world = World::new(vec![route]).await;
    let (client, connection) = soon(h2::client::handshake(world.raw().await)).await.unwrap();
    tokio::spawn(connection);
    let mut client: h2::client::SendRequest<Bytes> = soon(client.ready()).await.unwrap();
    for (host, informed, status) in [("a", true, 200), ("nobody", false, 404)] {
        let request = Request::post(format!("http://{host}/count")).header("expect", "100-Continue").body(()).unwrap();
        let (mut response, mut body) = client.send_request(request, false).unwrap();
        let informing = soon(std::future::poll_fn(|context| response.poll_informational(context))).await;
        let statuses: Vec<_> = informing.into_iter().map(|head| head.unwrap().status().as_u16()).collect();
        assert_eq!(statuses, [100].repeat(usize::from(informed)), "{host}");
        if informed {
            body.send_data("abc".into(), true).unwrap();
        }
        let response = soon(response).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        if informed {
            let mut counted = response.into_body();
            assert_eq!(soon(counted.data()).await.unwrap().unwrap(), "3");
            assert!(!backend.seen.lock().contains("expect"));
        }
    }
    drop(client);
    world.settled().await;
}

#[tokio::test]
async fn an_expectation_is_met_once_the_backend_wants_the_body() {
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let mut stream = world.raw().await;
    stream
        .write_all(b"POST /count HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(soon(backend::read_head(&mut stream)).await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    let head = soon(backend::read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(soon(stream.read_u8()).await.unwrap(), b'3');
    assert!(!backend.seen.lock().contains("expect"));
    drop(stream);
    world.settled().await;
}

#[tokio::test]
async fn a_response_cut_short_is_seen_to_be() {
    for head in ["transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", "content-length: 100\r\n\r\nhello"] {
        let backend = Backend::raw(move |mut stream| async move {
            backend::read_head(&mut stream).await;
            _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes()).await;
        })
        .await;
        let world = World::new(vec![forward("all", &backend)]).await;
        let answer = exchange(world.raw().await, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(answer.contains("hello") && !answer.ends_with("0\r\n\r\n"), "{answer}");
        let response = soon(world.http2().await.send_request(get2("a", "/"))).await.unwrap();
        assert!(soon(response.into_body().collect()).await.is_err());
        world.settled().await;
        assert_eq!(world.log.events(), [("backend_failed", "connection_lost"); 2]);
    }
}

#[tokio::test]
async fn a_body_that_trickles_is_given_up_unless_the_backend_answers() {
    let backend = Backend::start().await;
    let world = World::with(vec![forward("all", &backend)], |settings| {
        settings.timeouts.request_body = Some(Duration::from_millis(300));
        settings.min_request_body_rate = 1000;
    })
    .await;
    let trickle = async |path: &str, rounds: u32| {
        let (mut reading, mut writing) = world.raw().await.into_split();
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        writing.write_all(head.as_bytes()).await.unwrap();
        let writing = tokio::spawn(async move {
            for _ in 0..rounds {
                // The pause is what is tested: shorter than the time-out, too long for the rate.
                tokio::time::sleep(Duration::from_millis(20)).await;
                if writing.write_all(b"1\r\nx\r\n").await.is_err() {
                    return;
                }
            }
            _ = writing.write_all(b"0\r\n\r\n").await;
            std::future::pending::<()>().await;
        });
        let mut answer = Vec::new();
        while !answer.ends_with(b"0\r\n\r\n") && soon(reading.read_buf(&mut answer)).await.is_ok_and(|count| count > 0)
        {
        }
        writing.abort();
        String::from_utf8(answer).unwrap()
    };
    let answer = trickle("/count", u32::MAX).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    // An echo answers from the first byte on: such a stream may be as slow as both like.
    let answer = trickle("/echo", 40).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("0\r\n\r\n"), "{answer}");
    world.settled().await;
    assert_eq!(world.log.events(), [("terminated", "request_body_timeout")]);
}

#[tokio::test]
async fn a_response_that_nobody_takes_is_given_up() {
    let backend = Backend::start().await;
    let world = World::with(vec![forward("all", &backend)], |settings| {
        settings.timeouts.response_body = Some(Duration::from_millis(300));
    })
    .await;
    let mut one = world.raw().await;
    one.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    eventually("it is given up", || world.log.events().len() == 1).await;
    world.settled().await;
    let mut rest = Vec::new();
    _ = soon(one.read_to_end(&mut rest)).await;
    assert!(rest.len() < LARGE, "it is not whole");
    // Over HTTP/2 with windows that never close.
    let mut two = world.raw().await;
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    two.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    two.write_all(&frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff])).await.unwrap();
    two.write_all(&frame(8, 0, 0, &[0x7f, 0, 0, 0])).await.unwrap();
    let head = [&[0x82, 0x86, 0x04, 6][..], b"/large", &[0x41, 1, b'a']].concat();
    two.write_all(&frame(1, 5, 1, &head)).await.unwrap();
    eventually("it is given up", || world.log.events().len() == 2).await;
    world.settled().await;
    assert_eq!(world.log.events(), [("terminated", "response_body_timeout"); 2]);
}

#[tokio::test]
async fn a_body_that_stops_is_given_up() {
    let backend = Backend::start().await;
    let world = World::with(vec![forward("all", &backend)], |settings| {
        settings.timeouts.request_body = Some(Duration::from_millis(100));
    })
    .await;
    let answer = exchange(world.raw().await, b"POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    // The response has begun: it breaks off.
    let answer = exchange(
        world.raw().await,
        b"POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    )
    .await;
    assert!(answer.contains("abc") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    world.settled().await;
    eventually("both are told", || world.log.events() == [("terminated", "request_body_timeout"); 2]).await;
}
