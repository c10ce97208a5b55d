//! What is measured.

/// One kind of work.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What it means, in one sentence of the report.
    pub(crate) sentence: &'static str,
    /// What is counted: the CPU time is per one of these.
    pub(crate) unit: &'static str,
    pub(crate) listener: Listener,
    /// Concurrent connections that one client may have. In force in every scenario, reached in `refuse` only.
    pub(crate) client_limit: usize,
}

/// What a proxy listens for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    /// Plain HTTP/1.1, forwarded as HTTP/1.1 over kept connections.
    Http,
    /// HTTP/1.1 inside TLS that the proxy terminates; the backend is plain.
    Tls,
    /// Bytes, forwarded as they are.
    Tcp,
}

/// All scenarios, in the order of the report.
pub(crate) const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "http1",
        sentence: "HTTP/1.1 over 64 kept connections, a 1 KiB response each",
        unit: "requests",
        listener: Listener::Http,
        client_limit: 1000,
    },
    Scenario {
        name: "tls1",
        sentence: "the same inside TLS 1.3 terminated by the proxy, handshakes not counted",
        unit: "requests",
        listener: Listener::Tls,
        client_limit: 1000,
    },
    Scenario {
        name: "refuse",
        sentence: "a client at its limit of 8 connections connects to a plain listener and is closed",
        unit: "refusals",
        listener: Listener::Tcp,
        client_limit: 8,
    },
];

/// Concurrent connections of the whole proxy, in force in every scenario.
pub(crate) const GLOBAL_LIMIT: usize = 4000;
/// Kept connections of the load in the HTTP scenarios.
pub(crate) const CONNECTIONS: usize = 64;
