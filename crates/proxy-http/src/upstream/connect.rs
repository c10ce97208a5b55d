//! A new connection to a backend: dialled, announced, encrypted, ready for requests.

use super::Exchange;
use super::http1::{BackendStream, Http1};
use super::pool::Multiplexed;
use crate::clock::Wheel;
use crate::io::Gathered;
use crate::tls::RouteTls;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proxy_route::{Action, BackendProtocol, Host};
use proxy_tcp::proxy_header;
use proxy_tcp::{Backend, DialError, TimedOut, Timers};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// What a route says about connections to its backends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speech<'a> {
    tls: Option<&'a RouteTls>,
    protocol: BackendProtocol,
}

/// A new connection, by what the backend speaks.
#[derive(Debug)]
pub(super) enum Connection {
    Http1(Box<Http1>),
    Http2(Arc<Multiplexed>),
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectError {
    pub(super) reason: &'static str,
    pub(super) timed_out: bool,
}

impl<'a> Speech<'a> {
    pub(super) fn new(exchange: &Exchange<'a>) -> Self {
        let protocol = match (&exchange.route.action, exchange.upgrade) {
            (Action::Forward(forward), false) => forward.backend_protocol,
            // Only HTTP/1.1 has upgrades.
            _ => BackendProtocol::Http1,
        };
        Self { tls: exchange.tls.route(exchange.route), protocol }
    }

    pub(super) fn is_encrypted(self) -> bool {
        self.tls.is_some()
    }

    /// Whether it can turn out to be HTTP/2.
    pub(super) fn may_be_http2(self) -> bool {
        match self.protocol {
            BackendProtocol::Http1 => false,
            BackendProtocol::Http2 => true,
            BackendProtocol::Auto => self.is_encrypted(),
        }
    }

    /// Whether it can be nothing but HTTP/2.
    pub(super) fn must_be_http2(self) -> bool {
        self.protocol == BackendProtocol::Http2
    }

    fn is_http2(self, alpn: Option<&[u8]>) -> bool {
        self.must_be_http2() || self.may_be_http2() && alpn == Some(b"h2")
    }
}

/// Connects until `deadline`.
pub(super) async fn connect(
    backend: &Backend,
    exchange: &Exchange<'_>,
    speech: Speech<'_>,
    deadline: Option<Instant>,
) -> Result<Connection, ConnectError> {
    let (timers, left) = (exchange.timers, deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())));
    let mut stream = backend.dial(timers, exchange.listener_port, left).await.map_err(|error| {
        tracing::debug!(route = exchange.route.name, %backend, %error, "dialling failed");
        ConnectError { reason: error.label(), timed_out: matches!(error, DialError::TimedOut) }
    })?;
    if let Some(version) = backend.send_proxy {
        let header = proxy_header(version, exchange.source, exchange.local);
        within(timers, deadline, "proxy_header_failed", stream.write_all(&header)).await?;
    }
    match speech.tls {
        None if speech.is_http2(None) => handshake(timers, stream, deadline).await,
        None => Ok(http1(BackendStream::Plain(stream))),
        Some(tls) => {
            let stream = within(timers, deadline, "tls_failed", encrypt(stream, tls, &backend.host, speech)).await?;
            match speech.is_http2(stream.get_ref().1.alpn_protocol()) {
                true => handshake(timers, stream, deadline).await,
                false => Ok(http1(BackendStream::Tls(Box::new(stream)))),
            }
        }
    }
}

async fn encrypt(
    stream: TcpStream,
    tls: &RouteTls,
    host: &Host,
    speech: Speech<'_>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let name = tls.name(host).ok_or_else(|| io::Error::other("the host is no name for a certificate"))?;
    let config = tls.config(speech.protocol == BackendProtocol::Http1);
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

fn http1(stream: BackendStream) -> Connection {
    Connection::Http1(Box::new(Http1::new(stream)))
}

async fn handshake<I>(timers: &Timers, io: I, deadline: Option<Instant>) -> Result<Connection, ConnectError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = TokioIo::new(Gathered(io));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(Wheel(timers.clone()))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    let (sender, connection) = within(timers, deadline, "connection_lost", builder.handshake(io)).await?;
    let multiplexed = Arc::new(Multiplexed::new(sender));
    let streams = multiplexed.stream_limit();
    tokio::spawn(async move {
        let mut connection = pin!(connection);
        let ended = poll_fn(|context| {
            let polled = connection.as_mut().poll(context);
            streams.set(connection.current_max_send_streams());
            polled
        });
        if let Err(error) = ended.await {
            tracing::trace!(%error, "connection to a backend ended");
        }
    });
    Ok(Connection::Http2(multiplexed))
}

async fn within<T, E: std::fmt::Display>(
    timers: &Timers,
    deadline: Option<Instant>,
    reason: &'static str,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, ConnectError> {
    let done = timers.until(deadline, step).await.map_err(|TimedOut| ConnectError { reason, timed_out: true })?;
    done.map_err(|error| {
        tracing::debug!(%error, reason, "a connection to a backend could not be set up");
        ConnectError { reason, timed_out: false }
    })
}

/// Bytes that a backend may send ahead on one stream.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes that a backend may send ahead on all streams of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of a request body waiting for the window of a backend.
const SEND_BUFFER: usize = 64 * 1024;
