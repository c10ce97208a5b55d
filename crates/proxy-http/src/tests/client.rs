//! Clients.

use super::*;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(super) type Http1 = http1::SendRequest<Full<Bytes>>;
pub(super) type Http2 = http2::SendRequest<Full<Bytes>>;

impl World {
    pub(super) async fn tls(&self, alpn: &[&str]) -> TlsStream<TcpStream> {
        let mut config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(Arc::clone(&self.roots))
                .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("shop.test").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, connect(self.tls_address).await).await.unwrap()
    }

    pub(super) async fn http1(&self) -> Http1 {
        http1(connect(self.address).await).await
    }

    pub(super) async fn https1(&self) -> Http1 {
        http1(self.tls(&["http/1.1"]).await).await
    }

    pub(super) async fn http2(&self) -> Http2 {
        http2(connect(self.address).await).await
    }

    pub(super) async fn https2(&self) -> Http2 {
        http2(self.tls(&["h2", "http/1.1"]).await).await
    }

    /// A connection to write to by hand.
    pub(super) async fn raw(&self) -> TcpStream {
        connect(self.address).await
    }
}

async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Http1 {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Http2 {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A GET of HTTP/1.1.
pub(super) fn get(host: &str, path: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(path).header("host", host).body(Full::default()).unwrap()
}

/// A GET of HTTP/2.
pub(super) fn get2(host: &str, path: &str) -> Request<Full<Bytes>> {
    Request::builder().uri(format!("http://{host}{path}")).body(Full::default()).unwrap()
}

pub(super) async fn text(response: Response<Incoming>) -> String {
    let bytes = soon(response.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Writes bytes and reads all that comes until the end.
pub(super) async fn exchange(mut stream: TcpStream, bytes: &[u8]) -> String {
    stream.write_all(bytes).await.unwrap();
    let mut all = Vec::new();
    _ = soon(stream.read_to_end(&mut all)).await;
    String::from_utf8_lossy(&all).into_owned()
}
