//! End-to-end tests: the real binary, real sockets, real clients.

mod bodies;
mod limits_exact;
mod limits_scopes;
mod protocols;
mod support;
