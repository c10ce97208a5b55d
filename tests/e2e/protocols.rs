//! What passes through HTTP: WebSocket, bidirectional streams, trailers, events, and the small print of HTTP/1.1.

use crate::support::backend::Backend;
use crate::support::client::{self, in_time, tcp, tls};
use crate::support::leftovers::Baseline;
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{certs, on_eight_threads};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Frame;
use hyper::header::HeaderMap;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use sha2::Digest;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// A proxy with one terminating route to one backend.
struct Site {
    proxy: Proxy,
    address: SocketAddr,
}

impl Site {
    fn to(backend: &Backend, action: &str) -> Self {
        let port = free_port();
        let proxy = Proxy::start(&format!(
            "bind: [\"127.0.0.1\"]
routes:
  - name: end
    match: {{ ports: {port} }}
    action:
      type: forward
      targets: [{{ host: 127.0.0.1, port: {} }}]
      {action}
      tls: {{ mode: terminate, certificate: {} }}
",
            backend.port(),
            certs::inline()
        ));
        Self { proxy, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    async fn connect(&self, alpn: &str) -> TlsStream<TcpStream> {
        tls(tcp(self.address).await.expect("accepted"), "end.test", &[alpn]).await.expect("TLS ends here")
    }

    /// Sends text over HTTP/1.1 and reads until `enough`.
    async fn exchange(&self, stream: &mut TlsStream<TcpStream>, text: &str, enough: impl Fn(&str) -> bool) -> String {
        stream.write_all(text.as_bytes()).await.expect("the way is open");
        let mut answer = Vec::new();
        in_time("the answer", async {
            while !enough(&String::from_utf8_lossy(&answer)) {
                let count = stream.read_buf(&mut answer).await.expect("the way is open");
                assert_ne!(count, 0, "closed after {}", String::from_utf8_lossy(&answer));
            }
        })
        .await;
        String::from_utf8(answer).expect("text")
    }
}

async fn echo_messages<S>(mut socket: WebSocketStream<S>, count: usize)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    for number in 0..count {
        let message = Message::text(format!("message {number} {}", "x".repeat(number % 300)));
        socket.send(message.clone()).await.expect("the tunnel is open");
        let echo = in_time("an echo", socket.next()).await.expect("the tunnel is open").expect("a message");
        assert_eq!(echo, message);
    }
    socket.close(None).await.expect("a clean close");
    while let Some(Ok(_)) = in_time("the close", socket.next()).await {}
}

#[test]
fn ten_thousand_websocket_messages_come_back() {
    on_eight_threads(async {
        let backend = Backend::websocket().await;
        let site = Site::to(&backend, "websocket: { enabled: true }");
        let baseline = Baseline::of(&site.proxy).await;
        let stream = site.connect("http/1.1").await;
        let (socket, answer) = tokio_tungstenite::client_async("ws://end.test/chat", stream).await.expect("an upgrade");
        assert_eq!(answer.status(), 101);
        echo_messages(socket, 10_000).await;
        drop(backend);
        baseline.assert_restored(&site.proxy).await;
    });
}

#[test]
fn a_websocket_inside_http2_reaches_a_backend_that_speaks_http1() {
    on_eight_threads(async {
        let backend = Backend::websocket().await;
        let site = Site::to(&backend, "websocket: { enabled: true }");
        let baseline = Baseline::of(&site.proxy).await;
        let mut sender = client::http2(site.connect("h2").await).await;
        // Extended CONNECT may be used once the server's settings are here: after any answer.
        let plain = sender.send_request(request(Method::GET, "/", &[])).await;
        drop(plain);
        let mut connect = request(Method::CONNECT, "/chat", &[("sec-websocket-version", "13")]);
        connect.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
        let mut answer = in_time("the tunnel", sender.send_request(connect)).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let tunnel = hyper::upgrade::on(&mut answer).await.expect("a tunnel");
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(tunnel), Role::Client, None).await;
        echo_messages(socket, 1_000).await;
        drop((sender, answer, backend));
        baseline.assert_restored(&site.proxy).await;
    });
}

fn request(method: Method, path: &str, headers: &[(&str, &str)]) -> Request<client::Body> {
    let body = BodyExt::boxed(Empty::<Bytes>::new().map_err(|never| match never {}));
    let mut request = Request::builder().method(method).uri(format!("https://end.test{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).expect("a request")
}

#[test]
fn a_bidirectional_http2_stream_keeps_its_turns_and_its_trailers() {
    on_eight_threads(async {
        let backend = Backend::http2().await;
        let site = Site::to(&backend, "backendProtocol: http2");
        let baseline = Baseline::of(&site.proxy).await;
        let mut sender = client::http2(site.connect("h2").await).await;
        let (frames, body) = futures_channel();
        let body = BodyExt::boxed(StreamBody::new(body));
        let request = Request::post("https://end.test/echo").header("te", "trailers").body(body).expect("a request");
        let answer = in_time("the head", sender.send_request(request)).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let mut echo = answer.into_body();
        for turn in 0..200 {
            let sent = Bytes::from(format!("turn {turn}"));
            frames.send(Ok(Frame::data(sent.clone()))).expect("the stream is open");
            // The next turn is only sent when this one is back, so neither side may wait for the other's end.
            let mut back = Vec::new();
            while back.len() < sent.len() {
                let frame = in_time("a frame", echo.frame()).await.expect("the stream is open").expect("a frame");
                back.extend_from_slice(frame.data_ref().expect("data"));
            }
            assert_eq!(back, sent);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "42".parse().expect("a value"));
        frames.send(Ok(Frame::trailers(trailers.clone()))).expect("the stream is open");
        drop(frames);
        let rest = in_time("the end", echo.collect()).await.expect("a clean end");
        assert_eq!(rest.trailers(), Some(&trailers));
        drop((sender, backend));
        baseline.assert_restored(&site.proxy).await;
    });
}

type Frames = tokio::sync::mpsc::UnboundedSender<std::io::Result<Frame<Bytes>>>;

fn futures_channel() -> (Frames, impl futures_util::Stream<Item = std::io::Result<Frame<Bytes>>> + Send + Sync) {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    (sender, futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)))
}

#[test]
fn events_arrive_at_once() {
    on_eight_threads(async {
        let backend = Backend::http().await;
        let site = Site::to(&backend, "");
        let baseline = Baseline::of(&site.proxy).await;
        let mut stream = site.connect("http/1.1").await;
        let text = "GET /events HTTP/1.1\r\nHost: end.test\r\n\r\n";
        // The backend sends no second event and never ends: the first one must not wait for either.
        let answer = site.exchange(&mut stream, text, |answer| answer.contains("data: one\n\n")).await;
        assert!(answer.contains("text/event-stream"), "{answer}");
        drop((stream, backend));
        baseline.assert_restored(&site.proxy).await;
    });
}

#[test]
fn the_small_print_of_http1_holds() {
    on_eight_threads(async {
        let backend = Backend::http().await;
        let site = Site::to(&backend, "");
        let baseline = Baseline::of(&site.proxy).await;
        let mut stream = site.connect("http/1.1").await;

        let text = "HEAD / HTTP/1.1\r\nHost: end.test\r\n\r\n";
        let answer = site.exchange(&mut stream, text, |answer| answer.ends_with("\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.to_lowercase().contains("content-length: 5\r\n"), "what a GET would have had: {answer}");

        for code in ["204", "304"] {
            let text = format!("GET /status/{code} HTTP/1.1\r\nHost: end.test\r\n\r\n");
            let answer = site.exchange(&mut stream, &text, |answer| answer.ends_with("\r\n\r\n")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{answer}");
            assert!(!answer.to_lowercase().contains("transfer-encoding"), "{answer}");
        }

        let hello = format!("5 {:x}", sha2::Sha256::digest("hello"));
        let text = "POST /sink HTTP/1.1\r\nHost: end.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        let answer = site.exchange(&mut stream, text, |answer| answer.ends_with("\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 100 "), "{answer}");
        let answer = site.exchange(&mut stream, "hello", |answer| answer.ends_with(&hello)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

        let text = "POST /sink HTTP/1.1\r\nHost: end.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
        let answer = site.exchange(&mut stream, text, |answer| answer.ends_with(&hello)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

        // Two requests in one segment are two answers, in order.
        let text = "GET /head/1 HTTP/1.1\r\nHost: end.test\r\n\r\nGET /head/2 HTTP/1.1\r\nHost: end.test\r\n\r\n";
        let answer = site.exchange(&mut stream, text, |answer| answer.contains("GET /head/2")).await;
        assert!(answer.find("GET /head/1") < answer.find("GET /head/2"), "{answer}");
        assert!(answer.contains("x-forwarded-for: 127.0.0.1\n"), "{answer}");
        assert!(answer.contains("x-forwarded-proto: https\n"), "{answer}");
        drop((stream, backend));
        baseline.assert_restored(&site.proxy).await;
    });
}

#[test]
fn a_backend_in_tls_is_verified() {
    on_eight_threads(async {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, &certs::identity().chain_pem).expect("it can be written");
        for (alpn, version) in [(&["h2", "http/1.1"][..], "HTTP/2.0"), (&["http/1.1"][..], "HTTP/1.1")] {
            for (tls, status) in [
                (format!("backendTls: {{ ca: {:?}, serverName: other.test }}", ca.to_str().expect("text")), 200),
                ("backendTls: { serverName: other.test }".to_owned(), 502),
                (format!("backendTls: {{ ca: {:?}, serverName: stranger.test }}", ca.to_str().expect("text")), 502),
                ("backendTls: { insecureSkipVerify: true }".to_owned(), 200),
            ] {
                let (backend, port) = (Backend::https(alpn).await, free_port());
                let proxy = Proxy::start(&format!(
                    "bind: [\"127.0.0.1\"]
routes:
  - name: again
    match: {{ ports: {port} }}
    action:
      type: forward
      targets: [{{ host: 127.0.0.1, port: {} }}]
      {tls}
      tls: {{ mode: terminate-and-reencrypt, certificate: {} }}
",
                    backend.port(),
                    certs::inline()
                ));
                let baseline = Baseline::of(&proxy).await;
                let address = SocketAddr::from(([127, 0, 0, 1], port));
                let stream = client::tls(tcp(address).await.expect("accepted"), "end.test", &["h2"]).await;
                let mut sender = client::http2(stream.expect("TLS ends here")).await;
                let answer = in_time("an answer", sender.send_request(request(Method::GET, "/head", &[]))).await;
                let answer = answer.expect("an answer");
                assert_eq!(answer.status(), status, "{tls}");
                let body = answer.into_body().collect().await.expect("a body").to_bytes();
                let body = String::from_utf8_lossy(&body);
                assert!(status != 200 || body.contains(version), "{tls}: {body}");
                drop((sender, backend));
                baseline.assert_restored(&proxy).await;
            }
        }
    });
}
