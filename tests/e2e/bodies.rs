//! Bodies of any size: what goes in comes out, in constant memory.

use crate::support::backend::{Backend, pattern, pattern_hash};
use crate::support::client::{self, in_time, tcp, tls};
use crate::support::leftovers::Baseline;
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{alone, certs, on_eight_threads};
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Request, Response};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// Watches the resident memory of a process ten times a second, from the first 16 MiB of a transfer on.
struct MemoryWatch {
    moved: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(u64, u64)>,
}

impl MemoryWatch {
    fn of(pid: u32) -> Self {
        let (moved, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (bytes, stop) = (Arc::clone(&moved), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            while bytes.load(Ordering::Relaxed) < 16 * MIB && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let first = resident(pid);
            let mut most = first;
            while !stop.load(Ordering::Relaxed) {
                most = most.max(resident(pid));
                std::thread::sleep(Duration::from_millis(100));
            }
            (first, most.max(resident(pid)))
        });
        Self { moved, done, thread }
    }

    /// To be told of every byte that the client has sent or received.
    fn moved(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.moved)
    }

    fn assert_constant(self, what: &str) {
        self.done.store(true, Ordering::Relaxed);
        let (first, most) = self.thread.join().expect("the watch does not fail");
        assert!(most <= first + 8 * MIB, "{what}: {} KiB grew to {} KiB", first / 1024, most / 1024);
    }
}

fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("the process lives");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * 4096
}

fn upload(version: &str, moved: Arc<AtomicU64>) -> Request<client::Body> {
    let frames = futures_util::stream::iter(pattern(GIB)).map(move |chunk| {
        moved.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        Ok(Frame::data(chunk))
    });
    let uri = if version == "h2" { "https://end.test/sink" } else { "/sink" };
    let body = BodyExt::boxed(StreamBody::new(frames));
    Request::post(uri).header("host", "end.test").header("content-length", GIB).body(body).expect("a request")
}

fn download(version: &str) -> Request<client::Body> {
    let uri = format!("{}/source/{GIB}", if version == "h2" { "https://end.test" } else { "" });
    let body = BodyExt::boxed(Empty::<Bytes>::new().map_err(|never| match never {}));
    Request::get(uri).header("host", "end.test").body(body).expect("a request")
}

/// Hash and length of a body.
async fn digest(answer: Response<Incoming>, moved: &AtomicU64) -> (String, u64) {
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.expect("the body is whole").into_data() else { continue };
        hash.update(&data);
        length += data.len() as u64;
        moved.fetch_add(data.len() as u64, Ordering::Relaxed);
    }
    (format!("{:x}", hash.finalize()), length)
}

/// A client of either version.
enum Sender {
    Http1(hyper::client::conn::http1::SendRequest<client::Body>),
    Http2(hyper::client::conn::http2::SendRequest<client::Body>),
}

impl Sender {
    async fn on(stream: TlsStream<TcpStream>, h2: bool) -> Self {
        if h2 { Self::Http2(client::http2(stream).await) } else { Self::Http1(client::http1(stream).await) }
    }

    async fn send(&mut self, request: Request<client::Body>) -> Response<Incoming> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
        .expect("an answer")
    }
}

#[test]
fn a_gibibyte_each_way_through_terminated_http_arrives_whole_in_constant_memory() {
    on_eight_threads(async {
        let _alone = alone().await;
        let (backend, port) = (Backend::http().await, free_port());
        let proxy = Proxy::start(&format!(
            "bind: [\"127.0.0.1\"]
routes:
  - name: end
    match: {{ ports: {port} }}
    action:
      type: forward
      targets: [{{ host: 127.0.0.1, port: {} }}]
      tls: {{ mode: terminate, certificate: {} }}
",
            backend.port(),
            certs::inline()
        ));
        let baseline = Baseline::of(&proxy).await;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let expected = pattern_hash(GIB);
        for version in ["http/1.1", "h2"] {
            let stream = tls(tcp(address).await.expect("accepted"), "end.test", &[version]).await.expect("TLS");
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            assert_eq!(h2, version == "h2");
            let mut sender = Sender::on(stream, h2).await;

            let watch = MemoryWatch::of(proxy.pid());
            let answer = sender.send(upload(version, watch.moved())).await;
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            assert_eq!(body, format!("{GIB} {expected}"), "{version}: upload");
            watch.assert_constant(&format!("{version}: upload"));

            let watch = MemoryWatch::of(proxy.pid());
            let answer = sender.send(download(version)).await;
            assert_eq!(digest(answer, &watch.moved()).await, (expected.clone(), GIB), "{version}: download");
            watch.assert_constant(&format!("{version}: download"));
        }
        drop(backend);
        baseline.assert_restored(&proxy).await;
    });
}

#[test]
fn a_gibibyte_each_way_through_passthrough_arrives_whole_in_constant_memory() {
    on_eight_threads(async {
        let _alone = alone().await;
        let (backend, port) = (Backend::tls_echo().await, free_port());
        let proxy = Proxy::start(&format!(
            "bind: [\"127.0.0.1\"]
routes:
  - name: pass
    match: {{ ports: {port}, domains: pass.test }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}], tls: {{ mode: passthrough }} }}
",
            backend.port()
        ));
        let baseline = Baseline::of(&proxy).await;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = tls(tcp(address).await.expect("accepted"), "pass.test", &[]).await.expect("TLS");
        let (mut reader, mut writer) = tokio::io::split(stream);
        let watch = MemoryWatch::of(proxy.pid());
        let writing = tokio::spawn(async move {
            for chunk in pattern(GIB) {
                writer.write_all(&chunk).await.expect("the way is open");
            }
            writer.shutdown().await.expect("the way is open");
        });
        let (mut hash, mut length) = (Sha256::new(), 0);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = in_time("a read", reader.read(&mut buffer)).await.expect("the way is open");
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            length += count as u64;
            watch.moved.fetch_add(count as u64, Ordering::Relaxed);
        }
        writing.await.expect("everything is written");
        assert_eq!((format!("{:x}", hash.finalize()), length), (pattern_hash(GIB), GIB));
        watch.assert_constant("both ways passed through");
        drop((reader, backend));
        baseline.assert_restored(&proxy).await;
    });
}
