//! The PROXY header before a connection to a backend.

use proxy_header::{ProxiedAddress, ProxyHeader};
use proxy_route::ProxyVersion;
use std::net::{IpAddr, SocketAddr};

/// The header that says who connected, and where to.
pub(super) fn proxy_header(version: ProxyVersion, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (source, destination) = match (source, destination) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) | (SocketAddr::V6(_), SocketAddr::V6(_)) => (source, destination),
        // A header has one family, and every IPv4 address has a form in IPv6.
        _ => (mapped(source), mapped(destination)),
    };
    let header = ProxyHeader::with_address(ProxiedAddress::stream(source, destination));
    let mut bytes = Vec::with_capacity(LONGEST);
    let encoded = match version {
        ProxyVersion::V1 => header.encode_v1(&mut bytes),
        ProxyVersion::V2 => header.encode_v2(&mut bytes),
    };
    encoded.expect("two addresses of one family fit both versions");
    bytes
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) => SocketAddr::new(IpAddr::V6(v4.to_ipv6_mapped()), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Bytes of the longest header of version 1; one of version 2 without fields is shorter.
const LONGEST: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_and_their_mixture_have_a_header() {
        let (v4, v6) = ("192.0.2.1:1".parse().unwrap(), "[2001:db8::1]:2".parse().unwrap());
        for (source, destination, text) in [
            (v4, v4, "PROXY TCP4 192.0.2.1 192.0.2.1 1 1\r\n"),
            (v6, v6, "PROXY TCP6 2001:db8::1 2001:db8::1 2 2\r\n"),
            (v4, v6, "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 1 2\r\n"),
        ] {
            assert_eq!(proxy_header(ProxyVersion::V1, source, destination), text.as_bytes());
            assert!(proxy_header(ProxyVersion::V2, source, destination).starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21"));
        }
    }
}
