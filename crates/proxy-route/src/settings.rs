//! What a configuration says of the process as a whole, as plain typed data. Every default is here.

use crate::{AccessList, ProxyVersion, Route, TlsVersion};
use conn_tracker::{EventKind, Prefixes};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// A whole configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Settings of the process.
    pub settings: Settings,
    /// The enabled routes, in file order.
    pub routes: Vec<Route>,
}

/// Settings of the process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses on which the routes' ports are opened. `::` beside an IPv4 address is IPv6 only.
    pub bind: Vec<IpAddr>,
    /// Paths of Unix sockets on which the routes' ports are opened, with `{port}` for the number of the port.
    pub bind_unix: Vec<PathBuf>,
    /// Data-plane threads; `None` is one per core.
    pub workers: Option<NonZeroUsize>,
    /// How many connections, and how fast.
    pub limits: ConnectionLimits,
    /// Addresses that no limit refuses.
    pub exempt: Vec<IpNet>,
    /// Who may connect at all.
    pub access: AccessList,
    /// Limits of clients in some networks.
    pub client_overrides: Vec<ClientOverride>,
    /// `false`: count, log and report what limits would refuse, refuse nothing.
    pub enforce: bool,
    /// How a refusal at accept looks.
    pub on_reject: OnReject,
    /// Whether clients that keep knocking are refused in the kernel.
    pub shed: Option<ShedSettings>,
    /// Whether a route that is full takes the slot of the HTTP connection of the worker that has been idle longest.
    pub idle_reclaim: bool,
    /// Where PROXY headers are expected, and from whom.
    pub accept_proxy: AcceptProxy,
    /// PROXY header sent to backends, unless a route or target says otherwise.
    pub send_proxy: Option<ProxyVersion>,
    /// HTTP peers whose forwarding headers are believed. Their connections are in no client scope.
    pub trusted_proxies: Vec<IpNet>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How long connections without traffic live.
    pub keep_alive: KeepAlive,
    /// How often the names of backends are looked up again; `None` is never.
    pub dns_refresh: Option<Duration>,
    /// Largest request head in bytes; 431 above.
    pub max_request_header_bytes: usize,
    /// Streams that one connection of HTTP/2 may have open at a time, at least 1.
    pub max_concurrent_streams: u32,
    /// Bytes per second that a request body comes with at least, on average over the time that its client is waited for;
    /// 0 is as slowly as it likes.
    pub min_request_body_rate: u32,
    /// TLS of terminating routes that have no certificate of their own.
    pub tls: TlsSettings,
    /// What is logged, and how.
    pub logging: LogSettings,
    /// The access log, if any.
    pub access_log: Option<AccessLogSettings>,
    /// The admin endpoint, if any.
    pub admin: Option<AdminSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bind: vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
            bind_unix: Vec::new(),
            workers: None,
            limits: ConnectionLimits::default(),
            exempt: Vec::new(),
            access: AccessList::default(),
            client_overrides: Vec::new(),
            enforce: true,
            on_reject: OnReject::Close,
            shed: None,
            idle_reclaim: false,
            accept_proxy: AcceptProxy::default(),
            send_proxy: None,
            trusted_proxies: Vec::new(),
            timeouts: Timeouts::default(),
            keep_alive: KeepAlive::default(),
            dns_refresh: Some(Duration::from_secs(30)),
            max_request_header_bytes: 64 * 1024,
            max_concurrent_streams: 128,
            min_request_body_rate: 16,
            tls: TlsSettings::default(),
            logging: LogSettings::default(),
            access_log: None,
            admin: None,
        }
    }
}

/// How many connections, and how fast. `0` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Concurrent connections of the process.
    pub max_connections: u32,
    /// Whether `max_connections` was asked for (then it must fit the descriptor limit) or is the default.
    pub max_connections_explicit: bool,
    /// Concurrent connections of one client.
    pub per_client: u32,
    /// New connections of one client per minute.
    pub rate_per_minute: u32,
    /// How many of them may come at once; `None` is the rate.
    pub rate_burst: Option<u32>,
    /// Accepted connections whose route is not known; `None` is half of `max_connections`.
    pub pending: Option<u32>,
    /// TLS handshakes at one time.
    pub handshakes: u32,
    /// How much of an address makes a client.
    pub prefixes: Prefixes,
    /// Bound of the address table, in clients. Never 0.
    pub tracked_clients: u32,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_explicit: false,
            per_client: 100,
            rate_per_minute: 300,
            rate_burst: None,
            pending: None,
            handshakes: 1000,
            prefixes: Prefixes::default(),
            tracked_clients: 4_000_000,
        }
    }
}

impl ConnectionLimits {
    /// The limit of connections whose route is not known: half of all, unless set. `0` is unlimited.
    #[must_use]
    pub fn pending_or_default(&self) -> u32 {
        self.pending.unwrap_or_else(|| self.max_connections.div_ceil(2))
    }
}

/// Limits of each client inside a network. The most specific network wins. `None` keeps the general limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientOverride {
    /// The network; never longer than the prefix that makes a client.
    pub network: IpNet,
    /// Concurrent connections of one client; `0` is unlimited.
    pub per_client: Option<u32>,
    /// New connections of one client per minute; `0` is unlimited.
    pub rate_per_minute: Option<u32>,
}

/// How a refusal at accept looks to the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnReject {
    /// An ordinary close.
    #[default]
    Close,
    /// A reset: no TIME_WAIT is left behind.
    Reset,
    /// An HTTP answer to what a limit refuses, on ports where everybody speaks plain HTTP; elsewhere an ordinary close.
    Respond,
}

/// When the kernel drops the connection attempts of a client, so that refusing it costs next to nothing.
///
/// A client is shed when it has been refused at accept too often, for a reason that holds on every port: it has as many
/// connections as it may, comes too fast, or the process is full. Its connections that are open go on. It is lifted within
/// 100 ms of a slot that it could have, or after a time; one that came too fast, only then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShedSettings {
    /// More refusals of one client than this, per second. Never 0.
    pub after_refusals_per_second: u32,
    /// How long one is shed at most, before it is seen whether it still knocks.
    pub hold_for: Duration,
    /// How many may be shed at once. Never 0. About 3,000 IPv4 or 700 IPv6 clients fit into a filter.
    pub max_clients: u32,
}

impl Default for ShedSettings {
    fn default() -> Self {
        Self { after_refusals_per_second: 50, hold_for: Duration::from_secs(10), max_clients: 1000 }
    }
}

/// Where PROXY headers are expected, and from whom.
#[derive(Clone, Debug, Default)]
pub struct AcceptProxy {
    /// The ports: `None` is nowhere, an empty list is every port.
    pub ports: Option<Vec<u16>>,
    /// The only peers they are taken from.
    pub peers: Vec<IpNet>,
}

impl AcceptProxy {
    /// Whether headers are expected on `port`.
    #[must_use]
    pub fn on_port(&self, port: u16) -> bool {
        self.ports.as_ref().is_some_and(|ports| ports.is_empty() || ports.contains(&port))
    }
}

/// How long things may take. `None` is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From accept until the route is known.
    pub initial_data: Option<Duration>,
    /// Dialling a backend.
    pub connect: Option<Duration>,
    /// Request sent until the head of the response.
    pub response: Option<Duration>,
    /// The whole head of a request.
    pub request_header: Option<Duration>,
    /// Between two reads of a request body.
    pub request_body: Option<Duration>,
    /// Between two writes of a response, while its client takes nothing.
    pub response_body: Option<Duration>,
    /// Hard end of every connection.
    pub lifetime: Option<Duration>,
    /// Drain after a signal to stop.
    pub graceful_shutdown: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            initial_data: Some(Duration::from_secs(15)),
            connect: Some(Duration::from_secs(5)),
            response: Some(Duration::from_secs(60)),
            request_header: Some(Duration::from_secs(10)),
            request_body: Some(Duration::from_secs(30)),
            response_body: Some(Duration::from_secs(60)),
            lifetime: None,
            graceful_shutdown: Some(Duration::from_secs(30)),
        }
    }
}

/// How long connections without traffic live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// No byte in either direction of a passthrough connection or tunnel. `None` is for ever.
    pub tunnel_idle: Option<Duration>,
    /// An HTTP connection between two requests. `None` is for ever.
    pub http_idle: Option<Duration>,
    /// How `tunnel_idle` is meant.
    pub treatment: KeepAliveTreatment,
    /// By what `extended` multiplies.
    pub multiplier: u32,
    /// Probes that find peers which vanished; `None` sends none.
    pub tcp: Option<TcpKeepAlive>,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self {
            tunnel_idle: Some(Duration::from_secs(4 * 3600)),
            http_idle: Some(Duration::from_secs(60)),
            treatment: KeepAliveTreatment::Standard,
            multiplier: 6,
            tcp: Some(TcpKeepAlive::default()),
        }
    }
}

impl KeepAlive {
    /// How long a passthrough connection or tunnel may be without a byte.
    #[must_use]
    pub fn tunnel_idle_in_force(&self) -> Option<Duration> {
        match self.treatment {
            KeepAliveTreatment::Standard => self.tunnel_idle,
            KeepAliveTreatment::Extended => self.tunnel_idle.map(|idle| idle.saturating_mul(self.multiplier)),
            KeepAliveTreatment::Immortal => None,
        }
    }
}

/// How the time-out of passthrough connections and tunnels is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepAliveTreatment {
    /// Multiplied.
    Extended,
    /// Never.
    Immortal,
    /// As it is.
    #[default]
    Standard,
}

/// TCP keep-alive probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpKeepAlive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Unanswered probes that end the connection.
    pub probes: u32,
}

impl Default for TcpKeepAlive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), interval: Duration::from_secs(15), probes: 4 }
    }
}

/// Where PEM text comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum PemSource {
    /// A file, read when listeners start.
    File(PathBuf),
    /// The text itself.
    Inline(String),
}

impl std::fmt::Debug for PemSource {
    /// Shows paths; never shows inline text, which may be a private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            Self::Inline(text) => write!(f, "<{} bytes of PEM>", text.len()),
        }
    }
}

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The names it is chosen for; empty: those that the certificate itself names.
    pub domains: Vec<String>,
    /// The chain, leaf first.
    pub chain: PemSource,
    /// The private key of the leaf.
    pub key: PemSource,
}

/// TLS of terminating routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Chosen by SNI; the first is for names that none covers and for clients without SNI.
    pub certificates: Vec<Certificate>,
    /// The oldest version accepted.
    pub min_version: TlsVersion,
    /// ALPN protocols offered, best first.
    pub alpn: Vec<String>,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            min_version: TlsVersion::V1_2,
            alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    #[default]
    Text,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How lines look.
    pub format: LogFormat,
    /// A filter in the syntax of `tracing`: `info`, `debug`, `warn,proxy_http=debug`.
    pub level: String,
    /// How events are folded, unless their kind has settings of its own.
    pub folding: LogFolding,
    /// How events of these kinds are folded, by the names of [`LogSettings::kinds`].
    pub kinds: BTreeMap<&'static str, LogFolding>,
    /// Combinations of kind, reason and route that are counted one by one.
    pub max_keys: usize,
}

/// How events of one kind become lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFolding {
    /// Between two summaries.
    pub flush_interval: Duration,
    /// Sources and routes named in a summary.
    pub top_sources: usize,
    /// Events written as they are before folding begins.
    pub burst: u32,
    /// A summary comes early when events come this many times as fast as before; 0 is never.
    pub rise_factor: u32,
}

impl LogSettings {
    /// The kind of what the libraries log that the proxy is made of.
    pub const LIBRARY: &'static str = "library";

    /// The names of all kinds of events.
    pub fn kinds() -> impl Iterator<Item = &'static str> {
        EventKind::ALL.into_iter().map(EventKind::label).chain([Self::LIBRARY])
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
            folding: LogFolding::default(),
            kinds: BTreeMap::new(),
            max_keys: 10_000,
        }
    }
}

impl Default for LogFolding {
    fn default() -> Self {
        Self { flush_interval: Duration::from_secs(5), top_sources: 10, burst: 1, rise_factor: 10 }
    }
}

/// Where the access log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogOutput {
    /// This file, which is appended to.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

/// The access log: one line per request and per connection that is passed on.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogSettings {
    /// Where it is written.
    pub output: AccessLogOutput,
    /// How lines look.
    pub format: LogFormat,
    /// The share of requests and connections that get a line, 0 to 1.
    pub sample: f64,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// At this address.
    Tcp(SocketAddr),
    /// Behind the Unix socket of this path.
    Unix(PathBuf),
}

impl std::str::FromStr for Endpoint {
    type Err = std::net::AddrParseError;

    /// `127.0.0.1:9901`, `[::1]:9901` or `unix:/path`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("unix:").map_or_else(|| text.parse().map(Self::Tcp), |path| Ok(Self::Unix(path.into())))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The admin endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where it listens. Anything but loopback and a Unix socket needs a token.
    pub listen: Endpoint,
    /// What a request must carry as `Authorization: Bearer …`.
    pub token: Option<String>,
}

impl std::fmt::Debug for AdminSettings {
    /// Never shows the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("AdminSettings").field("listen", &self.listen).field("token", &token).finish()
    }
}
