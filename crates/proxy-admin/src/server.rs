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
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Connections at one time; those beyond wait in the listener's queue.
const MAX_CONNECTIONS: usize = 64;
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
/// For the whole head of a request, from the moment that the connection waits for it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For a connection, whatever it does: ends those that do not read their answers.
const LIFETIME: Duration = Duration::from_secs(120);
/// How long connections may take to finish when the endpoint ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// Pause after a failed accept, so that a lack of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin endpoint.
pub struct Admin {
    listener: TcpListener,
    access: Access,
    status: Arc<dyn Status>,
}

impl Admin {
    /// An endpoint on `listener` that asks `status`. With a `token`, everything but `/healthz` needs it.
    ///
    /// # Errors
    /// Without a token, if the listener is not on a loopback address: anybody could read, reload and drain. An empty token.
    pub fn new(listener: TcpListener, token: Option<String>, status: Arc<dyn Status>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        if token.is_none() && !address.ip().to_canonical().is_loopback() {
            let advice =
                format!("the admin endpoint on {address} needs a token: set `admin.token`, or listen on 127.0.0.1");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, advice));
        }
        if token.as_ref().is_some_and(String::is_empty) {
            let advice = "`admin.token` is empty: give it a secret, or leave it out";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, advice));
        }
        listener.set_nonblocking(true)?;
        Ok(Self { listener, access: Access::new(token), status })
    }

    /// Serves until `shutdown`, then closes within a second. To be called on a tokio runtime with time and I/O, better
    /// not on one that carries traffic.
    ///
    /// # Errors
    /// If the runtime cannot take the listener.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let router = api::router(self.status, self.access);
        let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut shutdown = pin!(shutdown);
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
                Ok((stream, _)) => {
                    let router = router.clone();
                    tokio::spawn(async move {
                        connection(stream, router).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "the admin endpoint could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
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

async fn connection(stream: TcpStream, router: axum::Router) {
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(LIFETIME, serving).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the admin endpoint broke off"),
        Err(_) => tracing::debug!("a connection to the admin endpoint lasted too long"),
    }
}
