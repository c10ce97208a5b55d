//! TLS: what clients are offered per port, and how backends are spoken to per route.
//!
//! [`TlsShared`] is made once and outlives every reload. [`TlsPorts`] and [`TlsBackends`] are made anew for each
//! configuration; a configuration in which one of them fails is not put in force.

mod backends;
mod certificate;
mod choice;
mod error;
mod handshakes;
mod ports;
mod shared;
mod unverified;

pub(crate) use backends::RouteTls;
pub use backends::TlsBackends;
pub use error::TlsError;
pub use handshakes::Handshakes;
pub use ports::TlsPorts;
pub use shared::TlsShared;

#[cfg(test)]
mod tests;
