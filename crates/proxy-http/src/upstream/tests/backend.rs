//! Backends to test against.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// A backend that plays a script on each connection.
pub(super) struct Backend {
    pub(super) port: u16,
    accepted: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

impl Backend {
    /// `script` gets the number of the connection, from 0.
    pub(super) async fn new<F, R>(script: F) -> Self
    where
        F: Fn(usize, TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (accepted, closed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&accepted), Arc::clone(&closed));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let playing = script(counts.0.fetch_add(1, Ordering::SeqCst), stream);
                let closed = Arc::clone(&counts.1);
                tokio::spawn(async move {
                    playing.await;
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, accepted, closed }
    }

    /// Answers every request with `ok` and keeps the connection.
    pub(super) async fn patient() -> Self {
        Self::new(|_, mut stream| async move {
            while read_head(&mut stream).await.is_some() {
                answer(&mut stream, "ok").await;
            }
        })
        .await
    }

    /// Answers in HTTP/2 with what `reply` says.
    pub(super) async fn http2(reply: fn(&Request<Incoming>) -> String) -> Self {
        Self::new(move |_, stream| serve_http2(stream, reply)).await
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(super) fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }
}

pub(super) async fn serve_http2<S>(stream: S, reply: fn(&Request<Incoming>) -> String)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let text = reply(&request);
        async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text)))) }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.max_concurrent_streams(4);
    drop(builder.serve_connection(TokioIo::new(stream), service).await);
}

/// The head of a request, or `None` at the end of the connection.
pub(super) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// A whole answer.
pub(super) async fn answer(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    write(stream, &format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())).await;
}

pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    // A peer that has gone is noticed when reading.
    drop(tokio::io::AsyncWriteExt::write_all(stream, text.as_bytes()).await);
}

/// A port on which nobody listens.
pub(super) async fn nobody() -> u16 {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap().local_addr().unwrap().port()
}
