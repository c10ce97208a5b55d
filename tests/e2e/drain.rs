//! How the proxy ends: nobody who was let in is cut off.

use crate::support::backend::Backend;
use crate::support::client::{hello, hold_http, http2, in_time, is_close, tcp, tls};
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
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// Whether it was served; a connection that was never accepted is not. That may be one which the kernel made between the
/// last accept and the end of the listener: it is reset before a byte of an answer.
async fn served(address: SocketAddr, length: usize) -> io::Result<bool> {
    let mut answer = Vec::new();
    match request(address, length, &mut answer).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset && answer.is_empty() => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe && answer.is_empty() => Ok(false),
        Err(error) => Err(error),
        Ok(()) => Ok(true),
    }
}

async fn request(address: SocketAddr, length: usize, answer: &mut Vec<u8>) -> io::Result<()> {
    let mut stream = tcp(address).await?;
    stream.write_all(format!("GET /source/{length} HTTP/1.1\r\nHost: a.test\r\n\r\n").as_bytes()).await?;
    let end = loop {
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    while answer.len() < end + length {
        if stream.read_buf(answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    Ok(())
}

#[test]
fn connects_that_race_the_signal_are_served_or_never_accepted() {
    on_eight_threads(async {
        let backend = Backend::http().await;
        let (proxy, address) = start(free_port(), &backend, "30s");
        let times = Arc::new(AtomicUsize::new(0));
        let come_again = |_| {
            let times = Arc::clone(&times);
            tokio::spawn(async move {
                while served(address, 20_000).await.expect("served in full or refused") {
                    times.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let clients: Vec<_> = (0..16).map(come_again).collect();
        eventually("many are served", Duration::from_secs(20), || match times.load(Ordering::SeqCst) {
            200.. => Ok(()),
            times => Err(times.to_string()),
        })
        .await;
        assert!(clients.iter().all(|client| !client.is_finished()), "one was refused before the signal");
        proxy.signal(Signal::TERM);
        for client in clients {
            in_time("a refusal", client).await.expect("no panic");
        }
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
            // A tunnel in use, at an easy pace.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(began.elapsed() >= Duration::from_millis(1400), "ended after {:?}", began.elapsed());
        assert!(rounds > 0, "it worked for a while");
        let (code, proxy) = ended(proxy).await;
        assert_eq!(code, Some(0), "{}", proxy.log());
    });
}

#[test]
fn who_asks_for_the_drain_is_answered_before_the_end() {
    on_eight_threads(async {
        let backend = Backend::http().await;
        // There is nothing to drain, so the process ends as soon as it may.
        for _ in 0..5 {
            let (mut proxy, _) = start(free_port(), &backend, "30s");
            assert_eq!(admin::post(proxy.admin, "/api/v1/drain").0, 202);
            assert_eq!(proxy.wait(), Some(0), "{}", proxy.log());
        }
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
        proxy.signal(Signal::TERM);
        let (code, proxy) = ended(proxy).await;
        assert_eq!(code, Some(1), "0 is for those whose drain is over: {}", proxy.log());
        match held.read(&mut [0; 16]).await {
            Ok(0) => {}
            Ok(more) => panic!("{more} bytes of an answer without an end"),
            Err(error) => assert!(is_close(&error), "{error}"),
        }
    });
}

/// One frame of HTTP/2: its type, flags, stream and payload; `None` at the end.
async fn frame(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, id @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await.expect("whole frames");
    Some((kind, flags, u32::from_be_bytes(id), payload))
}

fn framed(kind: u8, flags: u8, id: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short one");
    [&[0, 0, length, kind, flags, 0, 0, 0, id], payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

#[test]
fn http2_clients_get_a_goaway_and_their_answers() {
    on_eight_threads(async {
        let backend = Backend::http().await;
        let (proxy, address) = start(free_port(), &backend, "30s");
        let mut clients = Vec::new();
        for busy in [true, false] {
            let mut client = tls(tcp(address).await.expect("accepted"), "end.test", &["h2"]).await.expect("TLS");
            // POST https://end.test/echo, with or without a body to come.
            let head = [&[0x83, 0x87, 0x04, 5][..], b"/echo", &[0x41, 8], b"end.test"].concat();
            let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), framed(SETTINGS, 0, 0, &[])];
            let request = framed(HEADERS, if busy { 0x4 } else { 0x5 }, 1, &head);
            client.write_all(&[hello.concat(), request].concat()).await.expect("sent");
            // The head of the answer; the idle one has it whole.
            loop {
                let (kind, flags, ..) = in_time("the head", frame(&mut client)).await.expect("it is open");
                if kind == HEADERS && (busy || flags & 1 == 1) || kind == DATA && flags & 1 == 1 {
                    break;
                }
            }
            clients.push((busy, client));
        }
        proxy.signal(Signal::TERM);
        for (busy, mut client) in clients {
            let (mut told, mut echoed) = (None, Vec::new());
            while let Some((kind, flags, id, payload)) = in_time("a frame", frame(&mut client)).await {
                match kind {
                    // An idle client that takes too long for this is not waited for.
                    PING if flags & 1 == 0 => _ = client.write_all(&framed(PING, 1, 0, &payload)).await,
                    GOAWAY => {
                        assert_eq!(payload[4..8], [0; 4], "no error");
                        // Only now the rest of the request, which was read before the signal.
                        if told.replace(payload[..4].to_vec()).is_none() && busy {
                            client.write_all(&framed(DATA, 1, 1, b"late")).await.expect("it is open");
                        }
                    }
                    DATA if id == 1 => echoed.extend(payload),
                    _ => {}
                }
            }
            assert!(told.is_some(), "no GOAWAY, busy: {busy}");
            assert_eq!(echoed, if busy { &b"late"[..] } else { b"" });
        }
        let (code, proxy) = ended(proxy).await;
        assert_eq!(code, Some(0), "{}", proxy.log());
        assert!(proxy.log().contains("drained"), "{}", proxy.log());
    });
}

#[test]
fn who_has_asked_for_nothing_does_not_hold_the_drain() {
    on_eight_threads(async {
        let backend = Backend::http().await;
        let (plain, raw, end) = (free_port(), free_port(), free_port());
        let proxy = Proxy::start(&format!(
            "bind: [\"127.0.0.1\"]
initialDataTimeout: 0
gracefulShutdownTimeout: 0
routes:
  - name: plain
    match: {{ ports: {plain}, protocol: http }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {target} }}] }}
  - name: through
    match: {{ ports: {raw}, domains: [a.test] }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {target} }}], tls: {{ mode: passthrough }} }}
  - name: end
    match: {{ ports: {end}, domains: [end.test] }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {target} }}], tls: {{ mode: terminate, certificate: {} }} }}
",
            certs::inline(),
            target = backend.port(),
        ));
        let hello = hello("end.test");
        let half = &hello[..hello.len() / 2];
        let mut clients = Vec::new();
        for (port, said) in [(plain, &[][..]), (raw, &[]), (raw, half), (end, &[]), (end, half), (end, &hello)] {
            let mut stream = tcp(SocketAddr::from(([127, 0, 0, 1], port))).await.expect("accepted");
            stream.write_all(said).await.expect("sent");
            clients.push(stream);
        }
        let shaking = clients.last_mut().expect("there are some");
        in_time("the proxy's part of the handshake", shaking.read_exact(&mut [0; 5])).await.expect("it begins");
        eventually("all are pending", Duration::from_secs(10), || {
            let (_, limits) = admin::get(proxy.admin, "/metrics");
            let pending = "smartproxy_connections_active{scope=\"pending\",route=\"\"} 6";
            if limits.contains(pending) { Ok(()) } else { Err(limits) }
        })
        .await;
        proxy.signal(Signal::TERM);
        for mut stream in clients {
            in_time("the end", stream.read_to_end(&mut Vec::new())).await.expect("no reset");
        }
        let (code, proxy) = ended(proxy).await;
        assert_eq!(code, Some(0), "{}", proxy.log());
        // A handshake ends by itself, too, when it has taken too long.
        assert!(!proxy.log().contains("timeout"), "{}", proxy.log());
    });
}
