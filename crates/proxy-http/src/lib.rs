//! TLS termination, HTTP/1.1, HTTP/2, WebSocket and upstream pools of smartproxy.
#![forbid(unsafe_code)]

mod body;
mod tls;
mod upstream;

pub use tls::{TlsBackends, TlsError, TlsPorts, TlsShared};
