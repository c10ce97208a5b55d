//! One route: what it matches, what it does, what limits it.

use crate::{AccessList, BasicAuth, Certificate, Ejection, HealthCheck, Match, Target};
use std::path::PathBuf;
use std::time::Duration;

/// One route.
#[derive(Clone, Debug)]
pub struct Route {
    /// Unique; shown in logs, metrics and the API.
    pub name: String,
    /// Counts survive a reload under this, else under the name.
    pub id: Option<String>,
    /// Higher first.
    pub priority: i32,
    /// What it matches.
    pub matching: Match,
    /// Whether its clients speak HTTP or anything.
    pub protocol: Protocol,
    /// What it does.
    pub action: Action,
    /// TLS of the client side; `None` is plain.
    pub tls: Option<TlsMode>,
    /// Certificates of the route itself.
    pub certificate: Option<Certificate>,
    /// Certificates that its clients show, where TLS ends here.
    pub client_auth: Option<ClientAuth>,
    /// Headers changed on the way.
    pub headers: HeaderRules,
    /// Who may use it, and how much.
    pub security: Security,
    /// `false`: dry run of this route's own limits.
    pub enforce: bool,
}

impl Route {
    /// A route with defaults in every place: plain HTTP, no limits. It matches no port until one is added.
    #[must_use]
    pub fn new(name: impl Into<String>, action: Action) -> Self {
        Self {
            name: name.into(),
            id: None,
            priority: 0,
            matching: Match::default(),
            protocol: Protocol::Http,
            action,
            tls: None,
            certificate: None,
            client_auth: None,
            headers: HeaderRules::default(),
            security: Security::default(),
            enforce: true,
        }
    }

    /// Under what name the counts of the route are kept: its id, else its name.
    #[must_use]
    pub fn count_key(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.name)
    }
}

/// What the clients of a route speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/2: routed by request.
    Http,
    /// Bytes.
    Tcp,
}

/// What happens to the TLS of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Passed on untouched, routed by SNI.
    Passthrough,
    /// Ended here; the backend is spoken to in plain.
    Terminate,
    /// Ended here; the backend is spoken to in TLS again.
    TerminateAndReencrypt,
}

impl TlsMode {
    /// Whether the client's TLS ends here.
    #[must_use]
    pub const fn terminates(self) -> bool {
        !matches!(self, Self::Passthrough)
    }
}

/// Certificates that clients show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// File with the roots that certificates of clients come from.
    pub ca: PathBuf,
    /// Whether clients without one are served.
    pub mode: ClientAuthMode,
}

/// Whether clients without a certificate are served. One that does not come from the roots is always refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuthMode {
    /// They are.
    Optional,
    /// They are not.
    #[default]
    Require,
}

/// What a route does with what it matches.
#[derive(Clone, Debug)]
pub enum Action {
    /// Refuses: 403, or a close where the client does not speak HTTP.
    Block,
    /// Passes on to backends. Boxed: it is much larger than the others.
    Forward(Box<Forward>),
    /// Sends the client elsewhere.
    Redirect(Redirect),
    /// Answers by itself.
    Respond(Respond),
}

/// Passing on to backends.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The backends, never empty.
    pub targets: Vec<Target>,
    /// How one of them is chosen.
    pub algorithm: Algorithm,
    /// How they are asked whether they are well; `None` is not at all.
    pub health_check: Option<HealthCheck>,
    /// How those that fail at work are set aside; `None` is not at all.
    pub ejection: Option<Ejection>,
    /// Whether upgrades to WebSocket are passed on.
    pub websocket: bool,
    /// TLS to the backend, for `terminate-and-reencrypt`.
    pub backend_tls: BackendTls,
    /// What is spoken to the backend.
    pub backend_protocol: BackendProtocol,
    /// Whether a connection that is passed through outlives the end of its backend, until its client has ended too.
    pub half_close: bool,
}

impl Forward {
    /// Forwarding to `targets` with defaults.
    #[must_use]
    pub fn new(targets: Vec<Target>) -> Self {
        Self {
            targets,
            algorithm: Algorithm::default(),
            health_check: None,
            ejection: Some(Ejection::default()),
            websocket: true,
            backend_tls: BackendTls::default(),
            backend_protocol: BackendProtocol::default(),
            half_close: true,
        }
    }
}

/// How a backend is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// By the client's address.
    IpHash,
    /// The one with the fewest connections or requests in flight.
    LeastConnections,
    /// One after the other.
    #[default]
    RoundRobin,
}

/// TLS to a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendTls {
    /// Roots to trust; `None` is those of the system.
    pub ca: Option<PathBuf>,
    /// Name to ask for and verify; `None` is the target's host.
    pub server_name: Option<String>,
    /// Takes any certificate.
    pub insecure_skip_verify: bool,
}

/// What is spoken to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendProtocol {
    /// By ALPN where the backend is spoken to in TLS, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, in plain with prior knowledge.
    Http2,
}

/// Sending a client elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The location; `{domain}`, `{port}`, `{path}` (with its query) stand for those of the request.
    pub to: String,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// An answer of the proxy itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// Status.
    pub status: u16,
    /// Headers, in order.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
}

/// Changes to headers, in order: a value sets, `None` removes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits(pub Vec<(String, Option<String>)>);

/// Headers changed on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Towards the backend.
    pub request: HeaderEdits,
    /// Towards the client.
    pub response: HeaderEdits,
}

/// Who may use a route, and how much.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// Who may.
    pub access: AccessList,
    /// How much.
    pub limits: RouteLimits,
    /// The text of the answer to a request that `limits.rate_limit` refuses; `None` is the name of the status.
    pub too_fast: Option<String>,
    /// What a request must know, beyond its address.
    pub basic_auth: Option<BasicAuth>,
}

/// Limits of a route. `0` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// Concurrent connections of the route.
    pub max_connections: u32,
    /// Concurrent connections of one client on the route.
    pub per_client: u32,
    /// New connections of one client to the route per minute.
    pub rate_per_minute: u32,
    /// Requests in flight.
    pub max_requests: u32,
    /// Requests in flight of one client.
    pub max_requests_per_client: u32,
    /// How often one client may send a request; `None` is unlimited.
    pub rate_limit: Option<RateLimit>,
}

/// How often one client may send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests in `window`, all of which may come at once. Never 0.
    pub max_requests: u32,
    /// The time in which they may come: a millisecond to a day.
    pub window: Duration,
}
