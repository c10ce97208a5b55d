//! How the proxy ends: nobody who was let in is cut off.

use crate::support::backend::Backend;
use crate::support::client::{hold_http, http2, in_time, is_close, tcp, tls};
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{admin, certs, eventually, on_eight_threads};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use hyper::Request;
use rustix::process::Signal;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

fn start(port: u16, backend: &Backend, grace: &str) -> (Proxy, SocketAddr) {
    let proxy = Proxy::start(&format!(
        "bind: [\"127.0.0.1\"]
gracefulShutdownTimeout: {grace}
maxConnectionsPerIP: 0
connectionRateLimitPerMinute: 0
routes:
  - name: plain
    match: {{ ports: {port}, path: \"/*\" }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {target} }}] }}
  - name: end
    match: {{ ports: {port}, domains: [end.test] }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {target} }}], tls: {{ mode: terminate, certificate: {} }} }}
",
        certs::inline(),
        target = backend.port(),
    ));
    (proxy, SocketAddr::from(([127, 0, 0, 1], port)))
}

async fn ended(mut proxy: Proxy) -> (Option<i32>, Proxy) {
    in_time("the end", async { tokio::task::block_in_place(|| (proxy.wait(), proxy)) }).await
}

/// Whether it was served; a connection that was never accepted is not.
async fn served(address: SocketAddr, length: usize) -> io::Result<bool> {
    let mut stream = match tcp(address).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(false),
        other => other?,
    };
    stream.write_all(format!("GET /source/{length} HTTP/1.1\r\nHost: a.test\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    let end = loop {
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    while answer.len() < end + length {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    Ok(true)
}

#[test]
fn connects_that_race_the_signal_are_served_or_never_accepted() {
    on_eight_threads(async {
        let backend = Backend::http().await;
        let (proxy, address) = start(free_port(), &backend, "30s");
        let began = Instant::now();
        let clients: Vec<_> = (0..200)
            .map(|number| {
                tokio::spawn(async move {
                    // A fifth of a second of arrivals, with the signal in the middle.
                    tokio::time::sleep_until((began + Duration::from_millis(number)).into()).await;
                    served(address, 20_000).await
                })
            })
            .collect();
        tokio::time::sleep_until((began + Duration::from_millis(100)).into()).await;
        proxy.signal(Signal::TERM);
        let mut all = Vec::new();
        for client in clients {
            all.push(in_time("an answer", client).await.expect("no panic").expect("served in full or refused"));
        }
        let count = all.iter().filter(|served| **served).count();
        assert!((1..200).contains(&count), "{count} served: the signal was not in the middle");
        let (code, proxy) = ended(proxy).await;
        assert_eq!(code, Some(0), "{}", proxy.log());
    });
}

#[test]
fn what_is_under_way_is_finished() {
    on_eight_threads(async {
        let backend = Backend::http().await;
        let (proxy, address) = start(free_port(), &backend, "30s");
        let mut slow = tcp(address).await.expect("accepted");
        let head = b"POST /sink HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nfirst";
        slow.write_all(head).await.expect("sent");
        let mut sender =
            http2(tls(tcp(address).await.expect("accepted"), "end.test", &["h2"]).await.expect("TLS")).await;
        let (body, stream) = piecewise();
        let request = Request::post("https://end.test/echo").body(stream).expect("a request");
        let answer = sender.send_request(request).await.expect("a head");
        eventually("both are with the backend", Duration::from_secs(10), || match backend.connected() {
            2 => Ok(()),
            other => Err(other.to_string()),
        })
        .await;
        assert_eq!(admin::post(proxy.admin, "/api/v1/drain").0, 202);
        assert_eq!(admin::get(proxy.admin, "/readyz").0, 503);
        eventually("the listeners are closed", Duration::from_secs(10), || {
            match std::net::TcpStream::connect(address) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        assert_eq!(admin::post(proxy.admin, "/api/v1/reload").0, 422, "too late for a new configuration");
        slow.write_all(b"later").await.expect("it is open");
        let mut text = String::new();
        in_time("the answer", slow.read_to_string(&mut text)).await.expect("no reset");
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("\r\n\r\n10 "), "{text}");
        assert!(text.to_ascii_lowercase().contains("connection: close"), "{text}");
        body.send(Bytes::from_static(b"stream")).await.expect("it is open");
        drop(body);
        let collected = in_time("the stream", answer.into_body().collect()).await.expect("no reset").to_bytes();
        assert_eq!(collected, "stream");
        let (code, proxy) = ended(proxy).await;
        assert_eq!(code, Some(0), "{}", proxy.log());
    });
}

/// A request body that is sent piece by piece.
fn piecewise() -> (tokio::sync::mpsc::Sender<Bytes>, crate::support::client::Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let stream = futures_util::stream::unfold(receiver, |mut receiver: tokio::sync::mpsc::Receiver<Bytes>| async {
        let piece = receiver.recv().await?;
        Some((Ok(hyper::body::Frame::data(piece)), receiver))
    });
    (sender, BodyExt::boxed(http_body_util::StreamBody::new(Box::pin(stream))))
}

#[test]
fn a_tunnel_ends_when_the_time_is_over() {
    on_eight_threads(async {
        let backend = Backend::websocket().await;
        let (proxy, address) = start(free_port(), &backend, "1500ms");
        let (mut socket, _) = tokio_tungstenite::client_async("ws://a.test/", tcp(address).await.expect("accepted"))
            .await
            .expect("upgraded");
        let began = Instant::now();
        proxy.signal(Signal::TERM);
        let mut rounds = 0;
        // It works until it ends.
        while socket.send(Message::text("x")).await.is_ok() {
            match in_time("an echo", socket.next()).await {
                Some(Ok(Message::Text(_))) => rounds += 1,
                _ => break,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(began.elapsed() >= Duration::from_millis(1400), "ended after {:?}", began.elapsed());
        assert!(rounds > 5, "{rounds}");
        let (code, proxy) = ended(proxy).await;
        assert_eq!(code, Some(0), "{}", proxy.log());
    });
}

#[test]
fn a_second_signal_ends_at_once() {
    on_eight_threads(async {
        let backend = Backend::http().await;
        let (proxy, address) = start(free_port(), &backend, "30s");
        let mut held = hold_http(tcp(address).await.expect("accepted"), "a.test").await.expect("an endless answer");
        proxy.signal(Signal::TERM);
        eventually("it drains", Duration::from_secs(10), || {
            if proxy.log().contains("draining") { Ok(()) } else { Err(proxy.log()) }
        })
        .await;
        let began = Instant::now();
        proxy.signal(Signal::TERM);
        let (code, proxy) = ended(proxy).await;
        assert_eq!(code, Some(1), "{}", proxy.log());
        assert!(began.elapsed() < Duration::from_secs(5));
        match held.read(&mut [0; 16]).await {
            Ok(0) => {}
            Ok(more) => panic!("{more} bytes of an answer without an end"),
            Err(error) => assert!(is_close(&error), "{error}"),
        }
    });
}
