//! The backends of the demo: a small site, and a line of plain TCP.

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

/// The ports of the backends on loopback.
pub(super) struct Backends {
    pub(super) http: u16,
    pub(super) tcp: u16,
}

/// Starts both on the current runtime.
pub(super) fn start() -> io::Result<Backends> {
    Ok(Backends { http: listen(site)?, tcp: listen(line)? })
}

/// Serves every connection of a free port; the port.
fn listen<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> io::Result<u16>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let listener = TcpListener::from_std(listener)?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(serve(stream))),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    Ok(port)
}

async fn site(stream: TcpStream) {
    // A visitor who leaves early is no concern of the demo.
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(page)).await);
}

async fn page(request: Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/slow" {
        tokio::time::sleep(SLOW).await;
    }
    let seen = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    let (client, scheme) = (seen("x-forwarded-for"), seen("x-forwarded-proto"));
    let text = format!("hello from the backend: {} {} for {client} over {scheme}\n", request.method(), request.uri());
    Ok(Response::new(Full::new(Bytes::from(text))))
}

async fn line(mut stream: TcpStream) {
    if stream.write_all(b"hello from the backend: I echo what you type\n").await.is_ok() {
        let (mut reader, mut writer) = stream.split();
        drop(tokio::io::copy(&mut reader, &mut writer).await);
    }
}

/// How long `/slow` takes.
const SLOW: Duration = Duration::from_secs(10);
