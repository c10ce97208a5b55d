//! What becomes of a connection that turns out to be HTTP.

use crate::{ClientHello, ClientSocket};
use bytes::BytesMut;
use conn_tracker::Permit;
use std::fmt::Debug;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Instant;

/// A connection that speaks HTTP, or TLS that ends here: admitted, identified, not bound to a route yet.
#[derive(Debug)]
pub struct HttpConnection {
    /// The socket.
    pub io: ClientSocket,
    /// Bytes that were read from it already, in order, to be taken before any other. A PROXY header is gone from them.
    pub received: BytesMut,
    /// Who connected.
    pub peer: SocketAddr,
    /// Who it is for, in canonical form: the peer, or whom its PROXY header named.
    pub client: IpAddr,
    /// Where it connected to, or where its PROXY header says it did.
    pub local: SocketAddr,
    /// Its slots. They are held until this drops, so it must live as long as the connection or its tunnel.
    pub permit: Permit,
    /// The listener's port, which selects the routes.
    pub port: u16,
    /// Its TLS hello, if it began with one. The bytes of the hello are in `received`.
    pub hello: Option<ClientHello>,
    /// When it was accepted.
    pub accepted: Instant,
}

/// Serves HTTP connections of one worker.
///
/// **Contract.** Serves the connection until it is over, and drops its permit no earlier. Never panics for what a peer
/// does. Binds the permit to the route of each request before any backend is dialled. **Cost.** One allocation per call.
/// **Called.** On the worker's own runtime, once per connection.
pub trait ServeHttp: Debug + Send + Sync + 'static {
    /// Serves one connection.
    fn serve(&self, connection: HttpConnection) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// Closes what turns out to be HTTP: for programs that pass everything on.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHttp;

impl ServeHttp for NoHttp {
    fn serve(&self, connection: HttpConnection) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        drop(connection);
        Box::pin(std::future::ready(()))
    }
}
