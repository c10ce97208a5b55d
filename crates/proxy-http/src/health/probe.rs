//! One check of one backend.

use crate::TlsBackends;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proxy_route::{Action, BackendProtocol, HealthCheck, Host, Protocol, RoutedRoute, TargetPort};
use proxy_tcp::{Backend, Timers, local_proxy_header};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

/// Asks `backend` of `route` once. There is no time-out here.
///
/// # Errors
/// Why it is not well, for the log.
pub(super) async fn probe(
    backend: &Backend,
    route: &RoutedRoute,
    tls: &TlsBackends,
    check: &HealthCheck,
) -> Result<(), String> {
    // A backend on the port of the client is asked on the first one of the route.
    let listener = route.matching.ports.first().map_or(0, |range| range.from);
    let mut stream = backend.dial(&Timers::new(), listener, Some(check.timeout)).await.map_err(text)?;
    if let Some(version) = backend.send_proxy {
        stream.write_all(local_proxy_header(version)).await.map_err(text)?;
    }
    let (Protocol::Http, Some(path)) = (route.protocol, &check.path) else { return Ok(()) };
    let protocol = match &route.action {
        Action::Forward(forward) => forward.backend_protocol,
        Action::Block | Action::Redirect(_) | Action::Respond(_) => return Ok(()),
    };
    let is_http2 = protocol == BackendProtocol::Http2;
    let asking = Asking { path, host: authority(backend, check, listener), tls: tls.route(route).is_some() };
    let status = match tls.route(route) {
        None => asking.ask(stream, is_http2).await?,
        Some(tls) => {
            let name = tls.name(&backend.host).ok_or("the host is no name for a certificate")?;
            let config = Arc::clone(tls.config(!is_http2));
            let stream = TlsConnector::from(config).connect(name, stream).await.map_err(text)?;
            asking.ask(stream, is_http2).await?
        }
    };
    if status.is_success() || status.is_redirection() { Ok(()) } else { Err(format!("it answered {status}")) }
}

/// What is asked for.
struct Asking<'a> {
    path: &'a str,
    host: String,
    tls: bool,
}

impl Asking<'_> {
    async fn ask<I>(&self, io: I, is_http2: bool) -> Result<StatusCode, String>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let io = TokioIo::new(io);
        let scheme = if self.tls { "https" } else { "http" };
        let mut request = Request::new(Empty::<Bytes>::new());
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("smartproxy-health-check"));
        // The connection ends with the check: what drives it is dropped with the answer.
        if is_http2 {
            let uri = format!("{scheme}://{}{}", self.host, self.path);
            *request.uri_mut() = Uri::try_from(uri).map_err(text)?;
            let builder = http2::Builder::new(TokioExecutor::new());
            let (mut sender, connection) = builder.handshake(io).await.map_err(text)?;
            return driven(sender.send_request(request), connection).await;
        }
        *request.uri_mut() = Uri::try_from(self.path).map_err(text)?;
        let host = HeaderValue::try_from(&self.host).map_err(text)?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let (mut sender, connection) = http1::handshake(io).await.map_err(text)?;
        driven(sender.send_request(request), connection).await
    }
}

/// The status of an answer that comes while `connection` is driven.
async fn driven<B>(
    answer: impl Future<Output = hyper::Result<http::Response<B>>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> Result<StatusCode, String> {
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = answer.as_mut() => return answer.map(|answer| answer.status()).map_err(text),
        ended = connection.as_mut() => if let Err(error) = ended { return Err(text(error)) },
    }
    // The connection has ended in order, with the answer perhaps.
    answer.await.map(|answer| answer.status()).map_err(text)
}

fn authority(backend: &Backend, check: &HealthCheck, listener: u16) -> String {
    if let Some(host) = &check.host {
        return host.clone();
    }
    match (&backend.host, backend.port) {
        (Host::Unix(_), _) => "localhost".to_owned(),
        (Host::Name(name), TargetPort::Preserve) => format!("{name}:{listener}"),
        (Host::Address(address), TargetPort::Preserve) => std::net::SocketAddr::new(*address, listener).to_string(),
        (_, TargetPort::Fixed(_)) => backend.to_string(),
    }
}

/// The innermost reason, which says more than those around it.
fn text(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> String {
    let error = error.into();
    let mut reason: &dyn std::error::Error = &*error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string()
}
