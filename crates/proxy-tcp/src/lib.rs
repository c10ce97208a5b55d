//! Listeners, client identity, SNI, passthrough and dialling of smartproxy.
#![forbid(unsafe_code)]

mod drain;
mod generation;
mod hello;
mod serve;
mod upstream;

pub use drain::{Drain, DrainWatch};
pub use generation::{Generation, Live};
pub use hello::ClientHello;
pub use serve::{HttpConnection, ServeHttp};
pub use upstream::{Backend, Cluster, DialError, InFlight};
