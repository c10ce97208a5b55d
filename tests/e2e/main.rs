//! End-to-end tests: the real binary, real sockets, real clients.
#![allow(clippy::let_underscore_must_use, reason = "clients and backends here go away in the middle of everything")]

mod access_log;
mod backends;
mod bad_input;
mod bodies;
mod chaos;
mod cli;
mod deaths;
mod drain;
mod endings;
mod growth;
mod handshake_flood;
mod health;
mod idle_reclaim;
mod limits_exact;
mod limits_scopes;
mod log_flood;
mod log_kinds;
mod order;
mod policies;
mod protocols;
mod reload;
mod shed;
mod slow;
mod support;
mod syscalls;
mod systemd;
mod timeouts;
mod tls;
mod unix_sockets;
