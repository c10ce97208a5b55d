//! Backends.

use super::*;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(super) type Body = BoxBody<Bytes, std::io::Error>;

/// A backend on loopback.
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    pub(super) accepted: Arc<AtomicUsize>,
    /// What the last request's head was, as text.
    pub(super) seen: Arc<Mutex<String>>,
}

impl Backend {
    /// One that speaks HTTP/1.1 and does what the path says.
    pub(super) async fn start() -> Self {
        Self::serve(false).await
    }

    /// The same in HTTP/2, with prior knowledge.
    pub(super) async fn start_h2() -> Self {
        Self::serve(true).await
    }

    async fn serve(h2: bool) -> Self {
        let seen = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&seen);
        let backend = Self::raw(move |stream| {
            let seen = Arc::clone(&kept);
            async move {
                let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
                let io = TokioIo::new(stream);
                _ = match h2 {
                    true => {
                        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .serve_connection(io, service)
                            .await
                    }
                    false => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
                };
            }
        })
        .await;
        Self { seen, ..backend }
    }

    /// One that does with each connection what `serve` says.
    pub(super) async fn raw<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, accepted, seen: Arc::default() }
    }

    /// One that says this to a request, and no more until it is alone.
    pub(super) async fn that_begins(answer: &'static str) -> Self {
        Self::raw(move |mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            _ = stream.read(&mut [0]).await;
        })
        .await
    }

    /// One that agrees to every upgrade and sends back what it gets.
    pub(super) async fn echoing_tunnel() -> Self {
        Self::raw(|mut stream| async move {
            let head = read_head(&mut stream).await;
            let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap_or("none");
            let accept = websocket_accept(key);
            let response = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-accept: {accept}\r\n\r\n"
            );
            stream.write_all(response.as_bytes()).await.unwrap();
            let (mut from, mut to) = stream.split();
            _ = tokio::io::copy(&mut from, &mut to).await;
            _ = to.shutdown().await;
        })
        .await
    }
}

pub(super) fn websocket_accept(key: &str) -> String {
    use base64::Engine;
    use sha1::Digest;
    let hash = sha1::Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    base64::engine::general_purpose::STANDARD.encode(hash)
}

/// Reads up to the empty line.
pub(super) async fn read_head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { break };
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

async fn answer(request: Request<Incoming>, seen: Arc<Mutex<String>>) -> Result<Response<Body>, std::io::Error> {
    let mut head = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        head.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
    }
    *seen.lock() = head;
    Ok(match request.uri().path() {
        "/echo" => Response::new(request.into_body().map_err(std::io::Error::other).boxed()),
        "/count" => {
            let mut body = request.into_body();
            let mut count = 0;
            while let Some(frame) = body.frame().await {
                count += frame.map_err(std::io::Error::other)?.into_data().map_or(0, |data| data.len());
            }
            Response::new(full(count.to_string()))
        }
        "/large" => {
            let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
            let chunks = (0..1024).map(move |_| Ok(Frame::data(chunk.clone())));
            Response::new(StreamBody::new(futures_util::stream::iter(chunks)).boxed())
        }
        "/events" => {
            let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
            tokio::spawn(async move {
                _ = sender.send(Ok(Frame::data("data: one\n\n".into()))).await;
                // The stream goes on until the reader leaves.
                sender.closed().await;
            });
            let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
                receiver.recv().await.map(|frame| (frame, receiver))
            });
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(StreamBody::new(stream).boxed())
                .unwrap()
        }
        "/trailers" => {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let frames = [Ok(Frame::data("body".into())), Ok(Frame::trailers(trailers))];
            let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
            Response::builder().header("trailer", "grpc-status").body(body).unwrap()
        }
        "/never" => std::future::pending().await,
        "/204" => Response::builder().status(StatusCode::NO_CONTENT).body(full("")).unwrap(),
        "/304" => Response::builder().status(304).header("etag", "\"a\"").body(full("")).unwrap(),
        "/hops" => Response::builder()
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("keep-alive", "timeout=5")
            .header("x-stays", "1")
            .body(full("hops"))
            .unwrap(),
        path => Response::new(full(format!("you asked for {path}"))),
    })
}
