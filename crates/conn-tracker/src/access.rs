//! What an access log is told of one request or one connection that was passed on.

use crate::RouteId;
use std::net::IpAddr;
use std::time::Duration;

/// One request, or one connection that was passed on untouched, at its end.
///
/// Texts are as the peer sent them, and trusted by nobody: whoever writes them down escapes them.
#[derive(Clone, Copy, Debug)]
pub struct AccessRecord<'a> {
    /// The route that it took, or that refused it.
    pub route: Option<RouteId>,
    /// Who it was for.
    pub client: IpAddr,
    /// The listener's port.
    pub port: u16,
    /// `HTTP/1.1` and the like; `tcp` or `tls` for a connection.
    pub protocol: &'static str,
    /// The status sent, if one was.
    pub status: Option<u16>,
    /// How it ended: `complete`, `closed`, or the short name of what ended it.
    pub end: &'static str,
    /// A request from its head, a connection from its accept, to the last byte.
    pub elapsed: Duration,
    /// Bytes from the client: bodies without their framing, all bytes of a tunnel or connection.
    pub received: u64,
    /// Bytes to the client, likewise.
    pub sent: u64,
    /// What was asked for; `None` for a connection.
    pub request: Option<RequestLine<'a>>,
    /// The name in the TLS hello of a connection.
    pub sni: Option<&'a str>,
}

/// What a request asked for.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// The id of the request.
    pub id: &'a str,
    /// The method.
    pub method: &'a str,
    /// The host, empty if none was named.
    pub host: &'a str,
    /// The path without its query, which may hold secrets.
    pub path: &'a str,
}
