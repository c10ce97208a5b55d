//! Backends: which one is next, whether it is well, and dialling it.
//!
//! A [`Backend`] is shared by all workers and outlives reloads that keep it, with what is in flight, its limit, what its
//! health checks found and how it did at work.

mod addresses;
mod backend;
mod cluster;
mod dial;
mod health;
mod resolve;
mod trust;

pub use backend::{Backend, InFlight};
pub use cluster::{Cluster, Order};
pub use dial::DialError;
pub(crate) use dial::{Dial, Dialled, Owed, acknowledge_at_once, write_at_once};
pub use health::{Change, Checked};
pub use resolve::{keep_resolved, system_lookup};
