//! What passes through the proxy, whatever either side speaks.

use crate::body::Incoming;
use crate::fields::Fields;
use crate::io::StreamIo;
use h2::ext::Protocol;
use http::{Method, StatusCode, Uri, Version};
use tokio::sync::oneshot;

/// The head of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) fields: Fields,
}

/// A request, as its connection gives it.
#[derive(Debug)]
pub(crate) struct Request {
    /// Boxed, as it is moved from one stage to the next.
    pub(crate) head: Box<Head>,
    pub(crate) body: Incoming,
    /// What it asks a stream of HTTP/2 to become.
    pub(crate) tunnel: Option<Box<StreamTunnel>>,
}

/// What a stream of HTTP/2 is to become (RFC 8441), and the way to it.
#[derive(Debug)]
pub(crate) struct StreamTunnel {
    pub(crate) protocol: Protocol,
    /// Gives the stream once the answer has granted it.
    pub(crate) granted: oneshot::Receiver<StreamIo>,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Response<B> {
    pub(crate) status: StatusCode,
    pub(crate) fields: Fields,
    pub(crate) body: B,
}

impl<B> Response<B> {
    /// The same with another body.
    pub(crate) fn map<T>(self, change: impl FnOnce(B) -> T) -> Response<T> {
        let Self { status, fields, body } = self;
        Response { status, fields, body: change(body) }
    }
}

impl From<http::request::Parts> for Head {
    fn from(parts: http::request::Parts) -> Self {
        Self { method: parts.method, uri: parts.uri, version: parts.version, fields: parts.headers.into() }
    }
}

impl Head {
    /// As a library of HTTP/2 takes it.
    pub(crate) fn with_body<B>(self, body: B) -> http::Request<B> {
        let mut request = http::Request::new(body);
        (*request.method_mut(), *request.uri_mut(), *request.version_mut()) = (self.method, self.uri, self.version);
        *request.headers_mut() = self.fields.into();
        request
    }
}

impl<B> From<http::Response<B>> for Response<B> {
    fn from(response: http::Response<B>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status, fields: parts.headers.into(), body }
    }
}
