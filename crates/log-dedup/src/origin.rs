//! Where an event is from, as counts know it.

use std::net::{IpAddr, Ipv6Addr};

/// Where an event is from: the address, if it is one, and its hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) address: Option<u128>,
    pub(crate) hash: u64,
}

/// An address as a number: IPv4 is mapped.
pub(crate) fn number_of(source: IpAddr) -> u128 {
    match source {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address that is this number.
pub(crate) fn address_of(number: u128) -> IpAddr {
    Ipv6Addr::from_bits(number).to_canonical()
}
