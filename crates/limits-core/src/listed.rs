//! A first look at whether something special is said about a client: nearly nobody's address begins like that of a network
//! which is exempt or has limits of its own. What begins alike may be special, and is looked up.

use conn_tracker::Prefixes;
use ipnet::IpNet;
use std::net::IpAddr;

/// How addresses begin about which something is said.
#[derive(Debug)]
pub(crate) struct Listed {
    v4: Beginnings,
    v6: Beginnings,
}

/// A bit for each first sixteen bits of an address.
type Beginnings = Box<[u64; 1024]>;

impl Listed {
    /// `networks` in their one spelling; `prefixes` make the clients that are looked up.
    pub(crate) fn new(networks: impl Iterator<Item = IpNet>, prefixes: Prefixes) -> Self {
        let mut listed = Self { v4: Box::new([0; 1024]), v6: Box::new([0; 1024]) };
        for network in networks {
            // A client is called by its lowest address, which may be below all of the network.
            let first = prefixes.key(network.network()).network();
            let beginnings = if network.addr().is_ipv4() { &mut listed.v4 } else { &mut listed.v6 };
            for beginning in beginning_of(first)..=beginning_of(network.broadcast()) {
                beginnings[beginning / 64] |= 1 << (beginning % 64);
            }
        }
        listed
    }

    #[inline]
    pub(crate) fn has_v4(&self, key: u32) -> bool {
        has(&self.v4, key as usize >> 16)
    }

    #[inline]
    pub(crate) fn has_v6(&self, key: u64) -> bool {
        has(&self.v6, (key >> 48) as usize)
    }
}

#[inline]
fn has(beginnings: &Beginnings, beginning: usize) -> bool {
    beginnings[beginning / 64 % 1024] >> (beginning % 64) & 1 != 0
}

fn beginning_of(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(v4) => v4.to_bits() as usize >> 16,
        IpAddr::V6(v6) => (v6.to_bits() >> 112) as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conn_tracker::ClientKey;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn is_listed(listed: &Listed, key: ClientKey) -> bool {
        match key {
            ClientKey::V4(key) => listed.has_v4(key),
            ClientKey::V6(key) => listed.has_v6(key),
        }
    }

    fn address(bits: u128, is_v4: bool) -> IpAddr {
        // Not one of those that carry an IPv4 address: they are spelt otherwise here.
        if is_v4 { Ipv4Addr::from_bits(bits as u32).into() } else { Ipv6Addr::from_bits(bits | 1 << 127).into() }
    }

    proptest! {
        #[test]
        fn the_client_of_every_address_inside_is_listed(
            bits: u128, other: u128, is_v4: bool, length in 0..=128_u8, v4 in 1..=32_u8, v6 in 1..=64_u8,
        ) {
            let prefixes = Prefixes::new(v4, v6).unwrap();
            let network = IpNet::new(address(bits, is_v4), if is_v4 { length % 33 } else { length }).unwrap().trunc();
            let listed = Listed::new(std::iter::once(network), prefixes);
            let outside = if is_v4 { u128::MAX >> 96 >> network.prefix_len() } else { u128::MAX.checked_shr(network.prefix_len().into()).unwrap_or(0) };
            let inside = address(bits & !outside | other & outside, is_v4);
            prop_assume!(network.contains(&inside));
            for address in [network.network(), inside, network.broadcast()] {
                prop_assert!(is_listed(&listed, prefixes.key(address)), "{address} of {network}, {prefixes:?}");
            }
        }
    }

    #[test]
    fn who_begins_otherwise_is_not_listed() {
        let networks = ["10.0.0.0/8", "192.168.7.0/24", "fc00::/7"].map(|network| network.parse().unwrap());
        let listed = Listed::new(networks.into_iter(), Prefixes::default());
        let is_listed = |text: &str| is_listed(&listed, Prefixes::default().key(text.parse().unwrap()));
        for address in
            ["10.0.0.1", "10.255.255.255", "::ffff:10.1.2.3", "192.168.7.1", "192.168.8.1", "fc00::1", "fdff::1"]
        {
            assert!(is_listed(address), "{address}");
        }
        for address in ["9.255.255.255", "11.0.0.0", "192.167.7.1", "192.169.7.1", "2001:db8::1", "fe80::1"] {
            assert!(!is_listed(address), "{address}");
        }
    }
}
