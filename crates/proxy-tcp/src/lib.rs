//! Listeners, client identity, SNI, passthrough and dialling of smartproxy.
#![forbid(unsafe_code)]

mod admit;
mod connection;
mod drain;
mod generation;
mod hello;
mod listen;
mod pipe;
mod proxy_header;
mod serve;
mod tunnel;
mod upstream;
mod worker;

pub use drain::{Drain, DrainWatch};
pub use generation::{Generation, Live};
pub use hello::{ClientHello, HelloProgress, HelloReader};
pub use listen::{BACKLOG, ListenError, Listeners, WorkerListener};
pub use proxy_header::proxy_header;
pub use serve::{HttpConnection, ServeHttp};
pub use upstream::{Backend, Cluster, DialError, InFlight};
pub use worker::Worker;
