//! What a TLS ClientHello says, read without decrypting anything.

use proxy_route::TlsVersion;

/// What a TLS ClientHello says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name asked for, in lower case; `None` without one, or if it is an address.
    pub sni: Option<String>,
    /// The best version offered that is known.
    pub version: Option<TlsVersion>,
}
