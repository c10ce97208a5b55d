//! End-to-end tests: the real binary, real sockets, real clients.

mod bad_input;
mod bodies;
mod cli;
mod deaths;
mod limits_exact;
mod limits_scopes;
mod protocols;
mod support;
