//! Where a route forwards to, and how it is told which of its backends are well.

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// One backend. A configured target with several hosts becomes several of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub host: Host,
    /// Its port; of no meaning for a Unix socket.
    pub port: TargetPort,
    /// PROXY header sent to it; settings of the route and the process are resolved into this.
    pub send_proxy: Option<ProxyVersion>,
    /// Connections, or over HTTP requests, that all workers together have with it at one time. `0` is unlimited.
    pub max_connections: u32,
}

impl Target {
    /// A target without PROXY header and limit.
    #[must_use]
    pub fn new(host: impl Into<Host>, port: TargetPort) -> Self {
        Self { host: host.into(), port, send_proxy: None, max_connections: 0 }
    }
}

/// Where a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// At this address.
    Address(IpAddr),
    /// At the addresses of this name, which may change.
    Name(String),
    /// Behind the Unix socket of this path.
    Unix(PathBuf),
}

impl Host {
    /// The name or address, for a certificate or a `Host` field; `None` for a Unix socket.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Address(address) => Some(address.to_string()),
            Self::Name(name) => Some(name.clone()),
            Self::Unix(_) => None,
        }
    }
}

impl FromStr for Host {
    type Err = Infallible;

    /// An address, `unix:/path`, or else a name.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match (text.strip_prefix(UNIX), text.parse()) {
            (Some(path), _) => Self::Unix(path.into()),
            (None, Ok(address)) => Self::Address(address),
            (None, Err(_)) => Self::Name(text.to_owned()),
        })
    }
}

impl From<&str> for Host {
    fn from(text: &str) -> Self {
        let Ok(host) = text.parse();
        host
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

const UNIX: &str = "unix:";

/// The port of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// This one.
    Fixed(u16),
    /// The one that the client connected to.
    Preserve,
}

impl TargetPort {
    /// The port to dial for a client of `listener`.
    #[must_use]
    pub const fn resolve(self, listener: u16) -> u16 {
        match self {
            Self::Fixed(port) => port,
            Self::Preserve => listener,
        }
    }
}

/// Version of the PROXY header sent to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// Asking the backends of a route at intervals whether they are well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The path that is asked for over HTTP; `None` is a connect and nothing more.
    pub path: Option<String>,
    /// The `Host` to ask for; `None` is that of the backend.
    pub host: Option<String>,
    /// Between two checks of a backend.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// Failures in a row after which a backend is down.
    pub unhealthy_threshold: u32,
    /// Successes in a row after which it is up again.
    pub healthy_threshold: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: None,
            host: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
        }
    }
}

/// Setting backends aside that fail at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row after which a backend is set aside.
    pub after_failures: u32,
    /// For how long at first; doubled each time that it fails again at its return.
    pub hold: Duration,
    /// For how long at most.
    pub max_hold: Duration,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { after_failures: 5, hold: Duration::from_secs(1), max_hold: Duration::from_secs(60) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_as_it_is_written() {
        for (text, host) in [
            ("127.0.0.1", Host::Address(IpAddr::from([127, 0, 0, 1]))),
            ("::1", Host::Address("::1".parse().unwrap())),
            ("backend.test", Host::Name("backend.test".to_owned())),
            ("unix:/run/app.sock", Host::Unix("/run/app.sock".into())),
        ] {
            assert_eq!(Host::from(text), host);
            assert_eq!(host.to_string(), text);
        }
    }
}
