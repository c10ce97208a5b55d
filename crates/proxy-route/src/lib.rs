//! Route table, matching and typed settings of smartproxy. Pure: no I/O, no serde.
//!
//! - [`Config`] is everything a configuration says, as plain typed data: [`Settings`] of the process and its [`Route`]s.
//! - [`RouteTable`] answers which route a connection or a request belongs to: by port, by TLS hello, by request head.
//!
//! ```
//! use conn_tracker::RouteId;
//! use proxy_route::{Action, Match, PortRange, RequestFacts, Respond, Route, RouteTable};
//!
//! let mut route = Route::new("hello", Action::Respond(Respond { status: 200, headers: vec![], body: "hi".into() }));
//! route.matching = Match { ports: vec![PortRange::single(8080)], path: Some("/hello/*".into()), ..Match::default() };
//!
//! let table = RouteTable::new([(RouteId::new(0).unwrap(), route)]).unwrap();
//! let port = table.port(8080).unwrap();
//! let facts = RequestFacts { path: "/hello/world", ..RequestFacts::default() };
//! assert_eq!(port.by_request(&facts).unwrap().name, "hello");
//! assert!(port.by_request(&RequestFacts { path: "/bye", ..facts }).is_none());
//! ```
#![forbid(unsafe_code)]

mod access;
mod auth;
mod backend;
mod domain;
mod matching;
mod path;
mod reach;
mod route;
mod settings;
mod table;

pub use access::{AccessList, IpSet};
pub use auth::BasicAuth;
pub use backend::{Ejection, HealthCheck, Host, ProxyVersion, Target, TargetPort};
pub use conn_tracker::{PrefixError, Prefixes};
pub use domain::{DomainError, DomainPattern};
pub use matching::{HeaderPattern, HeaderSource, HelloFacts, Match, PortRange, RequestFacts, TlsVersion};
pub use path::{PathError, PathPattern};
pub use reach::{Overlap, overlaps};
pub use route::{
    Action, Algorithm, BackendProtocol, BackendTls, ClientAuth, ClientAuthMode, Forward, HeaderEdits, HeaderRules,
    Protocol, RateLimit, Redirect, Respond, Route, RouteLimits, Security, TlsMode,
};
pub use settings::{
    AcceptProxy, AccessLogOutput, AccessLogSettings, AdminSettings, Certificate, ClientOverride, Config,
    ConnectionLimits, Endpoint, KeepAlive, KeepAliveTreatment, LogFolding, LogFormat, LogSettings, OnReject, PemSource,
    Settings, ShedSettings, TcpKeepAlive, Timeouts, TlsSettings,
};
pub use table::{FirstStep, HelloDecision, PortRoutes, RouteTable, RoutedRoute, TableError};
