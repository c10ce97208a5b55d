//! Requests on their way to backends: which one, over which connection, and what becomes of it.
//!
//! One [`Pools`] per worker. [`Pools::begin`] gives a request to a kept connection at once. Where there is none, or it is dead,
//! [`Pools::send`] takes it to the first backend that can be reached. Either answers with the response, whose
//! [`UpstreamBody`] gives the connection back after its last byte.
//!
//! What the caller has done before: the URI is origin form (path and query), `Host` is present, hop-by-hop headers are
//! gone except `te: trailers` and, for an upgrade, `connection` and `upgrade`. What happens here: version, `Host` against
//! `:authority`, `content-length` against `transfer-encoding`.

mod body;
mod connect;
mod error;
mod exchange;
mod head;
mod http1;
mod letter;
mod outgoing;
mod patience;
mod pool;
mod pools;
mod search;
mod transmit;
mod tunnel;
mod underway;
mod witness;

pub(crate) use body::UpstreamBody;
pub(crate) use error::UpstreamError;
pub(crate) use exchange::Exchange;
pub(crate) use letter::Letter;
pub(crate) use pools::{PoolLimits, Pools};
pub(crate) use search::Search;
pub(crate) use tunnel::UpstreamTunnel;
pub(crate) use underway::{Unanswered, Underway};

/// The head of a backend's answer, and its body. That of a 101 leads to the tunnel.
pub(crate) type UpstreamResponse = crate::message::Response<UpstreamBody>;

#[cfg(test)]
mod tests;
