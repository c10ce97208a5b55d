//! Accepting and serving connections of operators: few, small and impatient.

use crate::Status;
use crate::access::Access;
use crate::api;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};

/// Connections at one time; those beyond wait in the listener's queue.
const MAX_CONNECTIONS: usize = 64;
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
/// For every connection.
const PATIENCE: Patience = Patience { head: Duration::from_secs(10), lifetime: Duration::from_secs(120) };
/// How long connections may take to finish when the endpoint ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// Pause after a failed accept, so that a lack of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where operators connect.
#[derive(Debug)]
pub enum AdminListener {
    /// An address.
    Tcp(TcpListener),
    /// A Unix socket; the permissions of its file are who may connect.
    Unix(UnixListener),
}

impl From<TcpListener> for AdminListener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for AdminListener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

/// The same, on a runtime.
enum Accepting {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

/// Somebody who connected.
enum Peer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Accepting {
    fn new(listener: AdminListener) -> io::Result<Self> {
        Ok(match listener {
            AdminListener::Tcp(listener) => Self::Tcp(tokio::net::TcpListener::from_std(listener)?),
            AdminListener::Unix(listener) => Self::Unix(tokio::net::UnixListener::from_std(listener)?),
        })
    }

    async fn accept(&self) -> io::Result<Peer> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Peer::Tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Peer::Unix(stream)),
        }
    }
}

/// The admin endpoint.
pub struct Admin {
    listener: AdminListener,
    access: Access,
    status: Arc<dyn Status>,
}

impl Admin {
    /// An endpoint on `listener` that asks `status`. With a `token`, everything but `/healthz` needs it.
    ///
    /// # Errors
    /// Without a token, if the listener is on an address that is not loopback: anybody could read, reload and drain. An
    /// empty token.
    pub fn new(listener: impl Into<AdminListener>, token: Option<String>, status: Arc<dyn Status>) -> io::Result<Self> {
        let listener = listener.into();
        if let (AdminListener::Tcp(listener), None) = (&listener, &token) {
            let address = listener.local_addr()?;
            if !address.ip().to_canonical().is_loopback() {
                let advice =
                    format!("the admin endpoint on {address} needs a token: set `admin.token`, or listen on 127.0.0.1");
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, advice));
            }
        }
        if token.as_ref().is_some_and(String::is_empty) {
            let advice = "`admin.token` is empty: give it a secret, or leave it out";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, advice));
        }
        match &listener {
            AdminListener::Tcp(listener) => listener.set_nonblocking(true)?,
            AdminListener::Unix(listener) => listener.set_nonblocking(true)?,
        }
        Ok(Self { listener, access: Access::new(token), status })
    }

    /// Serves until `shutdown`, then answers what is under way, closes what is idle, and ends within a second. To be called on a tokio runtime with time and I/O, better
    /// not on one that carries traffic.
    ///
    /// # Errors
    /// If the runtime cannot take the listener.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let listener = Accepting::new(self.listener)?;
        let router = api::router(self.status, self.access);
        let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut shutdown = pin!(shutdown);
        let (leave, leaving) = watch::channel(());
        loop {
            let accepted = async {
                let place = Arc::clone(&free).acquire_owned().await.expect("the semaphore is never closed");
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = &mut shutdown => break,
                next = accepted => next,
            };
            match accepted {
                Ok(peer) => {
                    let (router, leaving) = (router.clone(), leaving.clone());
                    tokio::spawn(async move {
                        match peer {
                            Peer::Tcp(stream) => connection(stream, router, PATIENCE, leaving).await,
                            Peer::Unix(stream) => connection(stream, router, PATIENCE, leaving).await,
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "the admin endpoint could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop((listener, leave));
        let everyone = u32::try_from(MAX_CONNECTIONS).expect("a small number");
        if tokio::time::timeout(FAREWELL, free.acquire_many(everyone)).await.is_err() {
            tracing::debug!("connections to the admin endpoint were cut off");
        }
        Ok(())
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// How long a slow peer is borne.
#[derive(Clone, Copy)]
struct Patience {
    /// For the whole head of a request, from the moment that the connection waits for it.
    head: Duration,
    /// For a connection, whatever it does: ends those that do not read their answers.
    lifetime: Duration,
}

/// Serves one peer until it is gone, its time is up, or, once nobody can tell `leaving` any more, it has its answer.
async fn connection<S>(stream: S, router: axum::Router, patience: Patience, mut leaving: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let serving = async {
        let mut serving = pin!(serving);
        tokio::select! {
            ended = &mut serving => return ended,
            _ = leaving.changed() => serving.as_mut().graceful_shutdown(),
        }
        serving.await
    };
    match tokio::time::timeout(patience.lifetime, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the admin endpoint broke off"),
        Err(_) => tracing::debug!("a connection to the admin endpoint lasted too long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(100);

    /// Whether the endpoint ends a connection on which this was sent, though the peer neither reads nor closes.
    async fn ends(request: &str, patience: Patience) -> bool {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let router =
            axum::Router::new().route("/small", get(async || "ok")).route("/large", get(async || vec![b'x'; 64 << 20]));
        let (_stay, leaving) = watch::channel(());
        let serving = tokio::spawn(connection(listener.accept().await.unwrap().0, router, patience, leaving));
        peer.write_all(request.as_bytes()).await.unwrap();
        tokio::time::timeout(LONG / 2, serving).await.is_ok_and(|ended| ended.is_ok())
    }

    #[tokio::test]
    async fn slow_and_idle_peers_are_sent_away() {
        let patience = Patience { head: SHORT, lifetime: LONG };
        for request in ["", "GET /small HTTP/1.1\r\nHost: a\r\n", "GET /small HTTP/1.1\r\nHost: a\r\n\r\n"] {
            assert!(ends(request, patience).await, "{request:?}");
        }
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_sent_away() {
        let patience = Patience { head: LONG, lifetime: SHORT };
        assert!(ends("GET /large HTTP/1.1\r\nHost: a\r\n\r\n", patience).await);
    }

    #[tokio::test]
    async fn a_peer_in_time_is_answered() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let router = axum::Router::new().route("/small", get(async || "ok"));
        let (_stay, leaving) = watch::channel(());
        tokio::spawn(connection(listener.accept().await.unwrap().0, router, PATIENCE, leaving));
        peer.write_all(b"GET /small HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        peer.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}
