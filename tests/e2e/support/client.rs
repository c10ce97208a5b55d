//! Clients.

use super::certs;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) type Body = BoxBody<Bytes, io::Error>;

/// What became of an attempt to connect.
pub(crate) enum Attempt<T> {
    /// Served; open until dropped.
    Held(T),
    /// Closed or reset by the proxy.
    Refused,
}

impl<T> Attempt<T> {
    pub(crate) fn held(self) -> Option<T> {
        match self {
            Self::Held(held) => Some(held),
            Self::Refused => None,
        }
    }

    /// A close or reset is a refusal, any other error fails the test.
    pub(crate) fn from(outcome: io::Result<T>) -> Self {
        match outcome {
            Ok(held) => Self::Held(held),
            Err(error) if is_close(&error) => Self::Refused,
            Err(error) => panic!("neither served nor refused: {error:?}"),
        }
    }
}

/// Whether the other side closed or reset the connection.
pub(crate) fn is_close(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
}

/// The bytes of a TLS hello for `name`.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let mut connection = rustls::ClientConnection::new(certs::client(&[]), certs::name(name)).expect("a client");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("a vector takes everything");
    bytes
}

/// No step of a test may take longer.
pub(crate) async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(60), work).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took more than a minute"),
    }
}

/// Connects from one of the loopback addresses.
pub(crate) async fn tcp_from(source: impl Into<IpAddr>, address: SocketAddr) -> io::Result<TcpStream> {
    let source = source.into();
    let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // The default address is left to the kernel, which then shares its ports between destinations.
    if source != IpAddr::from([127, 0, 0, 1]) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Connects from 127.0.0.1.
pub(crate) async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    tcp_from([127, 0, 0, 1], address).await
}

/// Speaks TLS over a stream.
pub(crate) async fn tls(stream: TcpStream, name: &str, alpn: &[&str]) -> io::Result<TlsStream<TcpStream>> {
    TlsConnector::from(certs::client(alpn)).connect(certs::name(name), stream).await
}

/// Sends four bytes and wants them back.
pub(crate) async fn ping<S>(mut stream: S) -> io::Result<S>
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    stream.write_all(b"ping").await?;
    stream.flush().await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"ping");
    Ok(stream)
}

/// Connects in TLS to an echo behind the proxy, from `source`, and proves that the whole way works.
pub(crate) async fn hold_tls_echo(source: IpAddr, address: SocketAddr, name: &str) -> io::Result<TlsStream<TcpStream>> {
    ping(tls(tcp_from(source, address).await?, name, &[]).await?).await
}

/// Sends a request whose answer never ends, over HTTP/1.1 in TLS, and waits for the first bytes of its body.
///
/// # Errors
/// A close; an answer other than 200 is `ErrorKind::Other` with the status line.
pub(crate) async fn hold_https(source: IpAddr, address: SocketAddr, name: &str) -> io::Result<TlsStream<TcpStream>> {
    let stream = tls(tcp_from(source, address).await?, name, &["http/1.1"]).await?;
    hold_http(stream, name).await
}

/// The same over a stream that is connected.
pub(crate) async fn hold_http<S>(mut stream: S, host: &str) -> io::Result<S>
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    stream.write_all(format!("GET /hold HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    while !answer.windows(4).any(|four| four == b"held") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(if answer.is_empty() { io::ErrorKind::UnexpectedEof.into() } else { status_line(&answer) });
        }
    }
    Ok(stream)
}

fn status_line(answer: &[u8]) -> io::Error {
    io::Error::other(String::from_utf8_lossy(answer).lines().next().unwrap_or_default().to_owned())
}

/// An HTTP/1.1 client on a connected stream.
pub(crate) async fn http1<S>(stream: S) -> http1::SendRequest<Body>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("it begins without a byte");
    tokio::spawn(connection.with_upgrades());
    sender
}

/// An HTTP/2 client on a connected stream.
pub(crate) async fn http2<S>(stream: S) -> http2::SendRequest<Body>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(1 << 20).initial_connection_window_size(1 << 20);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.expect("the preface is sent");
    tokio::spawn(connection);
    sender
}
