//! The PROXY header: who a connection is really from. Read from trusted peers, written to backends.

use bytes::Bytes;
use proxy_header::{Error, ParseConfig, Protocol, ProxiedAddress, ProxyHeader};
use proxy_route::ProxyVersion;
use std::net::{IpAddr, SocketAddr};

/// The PROXY header that tells a backend who connected (`source`) and where to (`destination`).
///
/// IPv4 addresses in their IPv6 spelling are written as IPv4; if the families differ even so, both are written as IPv6.
///
/// ```
/// use proxy_route::ProxyVersion;
///
/// let header = proxy_tcp::proxy_header(
///     ProxyVersion::V1,
///     "203.0.113.7:4711".parse().unwrap(),
///     "[::ffff:192.0.2.1]:443".parse().unwrap(),
/// );
/// assert_eq!(header, "PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n");
/// ```
#[must_use]
pub fn proxy_header(version: ProxyVersion, source: SocketAddr, destination: SocketAddr) -> Bytes {
    let (source, destination) = same_family(plain(source), plain(destination));
    let header = ProxyHeader::with_address(ProxiedAddress::stream(source, destination));
    let mut bytes = Vec::with_capacity(LONGEST_V1);
    let encoded = match version {
        ProxyVersion::V1 => header.encode_v1(&mut bytes),
        ProxyVersion::V2 => header.encode_v2(&mut bytes),
    };
    encoded.expect("two stream addresses of one family fit either version");
    bytes.into()
}

/// The PROXY header of a connection that is for nobody but the proxy itself, as a health check is.
///
/// ```
/// use proxy_route::ProxyVersion;
///
/// assert_eq!(proxy_tcp::local_proxy_header(ProxyVersion::V1), b"PROXY UNKNOWN\r\n");
/// assert_eq!(proxy_tcp::local_proxy_header(ProxyVersion::V2).len(), 16);
/// ```
#[must_use]
pub const fn local_proxy_header(version: ProxyVersion) -> &'static [u8] {
    match version {
        ProxyVersion::V1 => b"PROXY UNKNOWN\r\n",
        // Version 2, command LOCAL, no family, no bytes to follow.
        ProxyVersion::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    }
}

/// How many bytes are read in search of the end of a header; version 2 may carry many more than anybody sends.
pub(crate) const LIMIT: usize = 4096;

const LONGEST_V1: usize = 107;
const GREETING_V1: &[u8] = b"PROXY ";
const GREETING_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_V2: usize = 16;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Bytes of the header.
    pub(crate) length: usize,
    /// Who connected and where to; `None` if the peer speaks for itself, as in a health check.
    pub(crate) addresses: Option<(SocketAddr, SocketAddr)>,
}

/// Reads the header that `received` begins with; `Ok(None)` while it is not all there.
///
/// # Errors
/// What is there is no header, or too long a one.
pub(crate) fn parse(received: &[u8]) -> Result<Option<Named>, NoHeader> {
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    // The parser judges whole headers; that a beginning cannot become one is seen here, at the first wrong byte.
    if !begins(received, GREETING_V1) && !begins(received, GREETING_V2) {
        return Err(NoHeader);
    }
    let length_v2 = received.get(..FIXED_V2).filter(|_| begins(received, GREETING_V2));
    let length_v2 = length_v2.map(|fixed| FIXED_V2 + usize::from(u16::from_be_bytes([fixed[14], fixed[15]])));
    if length_v2.is_some_and(|length| length > LIMIT) {
        return Err(NoHeader);
    }
    match ProxyHeader::parse(received, config) {
        Ok((header, length)) => match header.proxied_address() {
            Some(ProxiedAddress { protocol: Protocol::Datagram, .. }) => Err(NoHeader),
            Some(named) => Ok(Some(Named { length, addresses: Some((named.source, named.destination)) })),
            None => Ok(Some(Named { length, addresses: None })),
        },
        // Its length is there and so are its bytes, but not the addresses it announces.
        Err(Error::BufferTooShort) if length_v2.is_some_and(|length| received.len() >= length) => Err(NoHeader),
        Err(Error::BufferTooShort) => Ok(None),
        Err(_) => Err(NoHeader),
    }
}

/// Bytes that are no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoHeader;

fn begins(received: &[u8], greeting: &[u8]) -> bool {
    received.iter().zip(greeting).all(|(byte, expected)| byte == expected)
}

fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn same_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let wide = |address: SocketAddr| match address.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    if source.is_ipv4() == destination.is_ipv4() { (source, destination) } else { (wide(source), wide(destination)) }
}

#[cfg(test)]
mod tests;
