//! Backends that count who is connected.

use super::certs;
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha2::{Digest, Sha256};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A backend on loopback. Dropping it closes its listener and every connection.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
    _listening: AbortOnDrop,
}

#[derive(Default)]
struct Counts {
    connected: AtomicUsize,
    accepted: AtomicUsize,
    holding: AtomicUsize,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Adds one until dropped.
struct Counted(Arc<Counts>, fn(&Counts) -> &AtomicUsize);

impl Counted {
    fn new(counts: &Arc<Counts>, which: fn(&Counts) -> &AtomicUsize) -> Self {
        which(counts).fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(counts), which)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::SeqCst);
    }
}

impl Backend {
    /// Serves every connection with `serve`.
    pub(crate) async fn start<F, S>(serve: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_counted(move |stream, _| serve(stream)).await
    }

    async fn start_counted<F, S>(serve: S) -> Self
    where
        S: Fn(TcpStream, Arc<Counts>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("loopback has free ports");
        let listener: TcpListener = socket.listen(4096).expect("it is bound");
        let address = listener.local_addr().expect("it is bound");
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let listening = tokio::spawn(async move {
            // Aborting this task drops the set, and with it every connection.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let counted = Counted::new(&shared, |counts| &counts.connected);
                let work = serve(stream, Arc::clone(&shared));
                connections.spawn(async move {
                    work.await;
                    drop(counted);
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, counts, _listening: AbortOnDrop(listening) }
    }

    /// Echoes bytes.
    pub(crate) async fn echo() -> Self {
        Self::start(echo).await
    }

    /// Ends TLS and echoes bytes.
    pub(crate) async fn tls_echo() -> Self {
        let acceptor = TlsAcceptor::from(certs::server(&[]));
        Self::start(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    echo(stream).await;
                }
            }
        })
        .await
    }

    /// Speaks HTTP/1.1; see [`answer`] for what it serves.
    pub(crate) async fn http() -> Self {
        Self::start_counted(|stream, counts| async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&counts)));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = connection.await;
        })
        .await
    }

    /// Speaks HTTP/2 in plain.
    pub(crate) async fn http2() -> Self {
        Self::start_counted(|stream, counts| async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&counts)));
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        })
        .await
    }

    /// Speaks HTTP/1.1 or HTTP/2 in TLS.
    pub(crate) async fn https(alpn: &'static [&'static str]) -> Self {
        let acceptor = TlsAcceptor::from(certs::server(alpn));
        Self::start_counted(move |stream, counts| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let service = service_fn(move |request| answer(request, Arc::clone(&counts)));
                let stream = TokioIo::new(stream);
                if h2 {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(stream, service).await;
                } else {
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
                }
            }
        })
        .await
    }

    /// A WebSocket server that echoes messages.
    pub(crate) async fn websocket() -> Self {
        Self::start(|stream| async move {
            let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
            let (sink, stream) = socket.split();
            let _ = stream.take_while(|message| std::future::ready(message.is_ok())).forward(sink).await;
        })
        .await
    }

    /// Connections open now.
    pub(crate) fn connected(&self) -> usize {
        self.counts.connected.load(Ordering::SeqCst)
    }

    /// Connections ever accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// Requests to `/hold` that are being answered now.
    pub(crate) fn holding(&self) -> usize {
        self.counts.holding.load(Ordering::SeqCst)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

pub(crate) type Answer = Response<BoxBody<Bytes, Infallible>>;

/// What the HTTP backends serve, by path.
async fn answer(request: Request<Incoming>, counts: Arc<Counts>) -> Result<Answer, hyper::Error> {
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let answer = match (parts.next().unwrap_or(""), parts.next().unwrap_or("")) {
        // One chunk, then nothing until the client goes away.
        ("hold", _) => {
            let holding = Counted::new(&counts, |counts| &counts.holding);
            let first = futures_util::stream::once(async { Ok(Frame::data(Bytes::from_static(b"held"))) });
            let rest = futures_util::stream::once(async move {
                let _holding = holding;
                std::future::pending().await
            });
            Response::new(BodyExt::boxed(StreamBody::new(first.chain(rest))))
        }
        // The body as it comes, with its trailers.
        ("echo", _) => {
            let body = request.into_body();
            let frames =
                http_body_util::BodyStream::new(body).filter_map(|frame| std::future::ready(frame.ok().map(Ok)));
            let mut answer = Response::new(BodyExt::boxed(StreamBody::new(frames)));
            answer.headers_mut().insert("trailer", "x-sum".parse().expect("a value"));
            answer
        }
        // Length and hash of the body.
        ("sink", _) => {
            let (mut hash, mut length) = (Sha256::new(), 0_u64);
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                if let Some(data) = frame?.data_ref() {
                    hash.update(data);
                    length += data.len() as u64;
                }
            }
            Response::new(text(format!("{length} {:x}", hash.finalize())))
        }
        // So many bytes of a known pattern.
        ("source", length) => {
            let length: u64 = length.parse().unwrap_or(0);
            let chunks = futures_util::stream::iter(pattern(length)).map(|chunk| Ok(Frame::data(chunk)));
            let mut answer = Response::new(BodyExt::boxed(StreamBody::new(chunks)));
            answer.headers_mut().insert("content-length", length.into());
            answer
        }
        // Two events, the second only when the client has answered the first elsewhere: never, in time.
        ("events", _) => {
            let first = futures_util::stream::once(async { Ok(Frame::data(Bytes::from_static(b"data: one\n\n"))) });
            let rest = futures_util::stream::once(std::future::pending());
            let mut answer = Response::new(BodyExt::boxed(StreamBody::new(first.chain(rest))));
            answer.headers_mut().insert("content-type", "text/event-stream".parse().expect("a value"));
            answer
        }
        ("status", code) => {
            let mut answer = Response::new(BodyExt::boxed(Empty::new()));
            *answer.status_mut() = code.parse().unwrap_or(StatusCode::BAD_REQUEST);
            answer
        }
        // The head as the backend saw it.
        ("head", _) => {
            let mut seen = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
            for (name, value) in request.headers() {
                seen += &format!("{name}: {}\n", value.to_str().unwrap_or("?"));
            }
            Response::new(text(seen))
        }
        _ if request.method() == Method::HEAD => {
            let mut answer = Response::new(BodyExt::boxed(Empty::new()));
            answer.headers_mut().insert("content-length", 5.into());
            answer
        }
        _ => Response::new(text("hello".to_owned())),
    };
    Ok(answer)
}

fn text(text: String) -> BoxBody<Bytes, Infallible> {
    BodyExt::boxed(Full::new(Bytes::from(text)))
}

/// `length` bytes in chunks of 64 KiB that are not all alike.
pub(crate) fn pattern(length: u64) -> impl Iterator<Item = Bytes> + Send + Sync + 'static {
    const CHUNK: u64 = 64 * 1024;
    let block: Bytes = (0..CHUNK + 251).map(|index| (index % 251) as u8).collect::<Vec<_>>().into();
    (0..length.div_ceil(CHUNK)).map(move |index| {
        let start = (index % 251) as usize;
        let size = CHUNK.min(length - index * CHUNK) as usize;
        block.slice(start..start + size)
    })
}

/// The hash of [`pattern`].
pub(crate) fn pattern_hash(length: u64) -> String {
    let mut hash = Sha256::new();
    pattern(length).for_each(|chunk| hash.update(&chunk));
    format!("{:x}", hash.finalize())
}
