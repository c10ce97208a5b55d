//! What a route matches, and the facts it is held against.

use crate::{DomainPattern, IpSet, PathPattern};
use regex::bytes::Regex;
use std::fmt;
use std::net::IpAddr;

/// What a route matches. Everything given must fit.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// The ports it is on; opens listeners.
    pub ports: Vec<PortRange>,
    /// The names it is for; empty is every name, and none.
    pub domains: Vec<DomainPattern>,
    /// The paths it is for.
    pub path: Option<PathPattern>,
    /// The clients it is for.
    pub client_ip: Option<IpSet>,
    /// Headers a request must have: lower-case name, and what one of its values must be.
    pub headers: Vec<(String, HeaderPattern)>,
    /// TLS versions; empty is every one. A hello fits by the best version that it offers.
    pub tls_versions: Vec<TlsVersion>,
}

impl Match {
    /// Every port of the route, ascending within each range.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.ports.iter().flat_map(|range| range.from..=range.to)
    }

    fn fits_client(&self, client: Option<IpAddr>) -> bool {
        match (&self.client_ip, client) {
            (None, _) => true,
            (Some(set), Some(client)) => set.contains(client),
            (Some(_), None) => false,
        }
    }

    fn fits_version(&self, version: Option<TlsVersion>) -> bool {
        self.tls_versions.is_empty() || version.is_some_and(|one| self.tls_versions.contains(&one))
    }

    pub(crate) fn fits_plain(&self, client: Option<IpAddr>) -> bool {
        self.fits_client(client)
    }

    pub(crate) fn fits_hello(&self, facts: &HelloFacts<'_>) -> bool {
        self.fits_version(facts.version) && self.fits_client(facts.client)
    }

    pub(crate) fn fits_request(&self, facts: &RequestFacts<'_>) -> bool {
        self.path.as_ref().is_none_or(|path| path.fits(facts.path))
            && self.fits_version(facts.tls)
            && self.fits_client(facts.client)
            && self.headers.iter().all(|(name, pattern)| facts.headers.any(name, &|value| pattern.fits(value)))
    }
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first port.
    pub from: u16,
    /// The last port.
    pub to: u16,
}

impl PortRange {
    /// One port.
    #[must_use]
    pub const fn single(port: u16) -> Self {
        Self { from: port, to: port }
    }
}

/// A TLS version that a connection can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.0; only ever passed through.
    V1_0,
    /// TLS 1.1; only ever passed through.
    V1_1,
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// What one value of a header must be.
#[derive(Clone, Debug)]
pub enum HeaderPattern {
    /// This value.
    Exact(String),
    /// A value in which this is found.
    Regex(Regex),
}

impl HeaderPattern {
    /// Whether `value` fits.
    #[must_use]
    pub fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => text.as_bytes() == value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// What is known of a connection after its TLS hello.
#[derive(Clone, Copy, Debug, Default)]
pub struct HelloFacts<'a> {
    /// The name asked for, if any.
    pub sni: Option<&'a str>,
    /// The best version offered, if it was understood.
    pub version: Option<TlsVersion>,
    /// The client, if it is known.
    pub client: Option<IpAddr>,
}

/// What is known of a request after its head.
#[derive(Clone, Copy)]
pub struct RequestFacts<'a> {
    /// The version, if the request came over TLS that ends here.
    pub tls: Option<TlsVersion>,
    /// The host asked for, with or without port.
    pub host: &'a str,
    /// The path, without query.
    pub path: &'a str,
    /// The headers.
    pub headers: &'a dyn HeaderSource,
    /// The client of the request, if it is known.
    pub client: Option<IpAddr>,
}

impl Default for RequestFacts<'_> {
    fn default() -> Self {
        Self { tls: None, host: "", path: "/", headers: &NoHeaders, client: None }
    }
}

impl fmt::Debug for RequestFacts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestFacts")
            .field("tls", &self.tls)
            .field("host", &self.host)
            .field("path", &self.path)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// Where headers are looked up.
///
/// **Contract.** `name` is in lower case; every value of the name is offered until one fits. **Called.** Only for routes
/// that match on headers.
pub trait HeaderSource {
    /// Whether a value of the header `name` fits.
    fn any(&self, name: &str, fits: &dyn Fn(&[u8]) -> bool) -> bool;
}

/// A request without headers.
struct NoHeaders;

impl HeaderSource for NoHeaders {
    fn any(&self, _name: &str, _fits: &dyn Fn(&[u8]) -> bool) -> bool {
        false
    }
}
