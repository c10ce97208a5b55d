//! TLS termination, HTTP/1.1, HTTP/2, WebSocket and upstream pools of smartproxy.
#![forbid(unsafe_code)]

mod body;
mod connection;
mod generation;
mod headers;
mod io;
mod request;
mod server;
mod tls;
mod tunnel;
mod upstream;

pub use generation::HttpGeneration;
pub use server::HttpServer;
pub use tls::{TlsBackends, TlsError, TlsPorts, TlsShared};

#[cfg(test)]
mod tests;
