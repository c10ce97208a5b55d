//! Sets of addresses, and who is let in by them.

use conn_tracker::canonical;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixSet;
use std::net::IpAddr;

/// A set of networks of both families. Looking an address up takes time by its length, not by the size of the set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IpSet {
    v4: PrefixSet<Ipv4Net>,
    v6: PrefixSet<Ipv6Net>,
}

impl IpSet {
    /// Whether the set has no network.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Adds a network. One of IPv4-mapped addresses counts as the IPv4 network it stands for.
    pub fn insert(&mut self, network: IpNet) {
        match network {
            IpNet::V4(v4) => self.v4.insert(v4),
            IpNet::V6(v6) => match (canonical(IpAddr::V6(v6.network())), v6.prefix_len()) {
                (IpAddr::V4(v4), length @ 96..) => {
                    self.v4.insert(Ipv4Net::new(v4, length - 96).expect("at most 32 bits are left"))
                }
                _ => self.v6.insert(v6),
            },
        };
    }

    /// Whether a network of the set has this address, in whatever spelling it comes.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match canonical(address) {
            IpAddr::V4(v4) => !self.v4.is_empty() && self.v4.get_lpm(&v4.into()).is_some(),
            IpAddr::V6(v6) => !self.v6.is_empty() && self.v6.get_lpm(&v6.into()).is_some(),
        }
    }

    /// Whether the set has any address of `network`, which is in canonical spelling.
    #[must_use]
    pub fn overlaps(&self, network: IpNet) -> bool {
        match network {
            IpNet::V4(v4) => self.v4.is_covered(&v4) || self.v4.children(&v4).next().is_some(),
            IpNet::V6(v6) => self.v6.is_covered(&v6) || self.v6.children(&v6).next().is_some(),
        }
    }
}

impl FromIterator<IpNet> for IpSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let mut set = Self::default();
        for network in networks {
            set.insert(network);
        }
        set
    }
}

/// Who may come in: the block list beats the allow list, an absent allow list lets everybody in.
#[derive(Clone, Debug, Default)]
pub struct AccessList {
    /// Let in only these; `None` is everybody.
    pub allow: Option<IpSet>,
    /// Never let these in.
    pub block: IpSet,
}

impl AccessList {
    /// Whether `address` is let in.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        !self.block.contains(address) && self.allow.as_ref().is_none_or(|allow| allow.contains(address))
    }

    /// Why `address` is not let in, if it is not: `block_list` or `allow_list`.
    #[must_use]
    pub fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        if self.block.contains(address) {
            Some("block_list")
        } else if self.admits(address) {
            None
        } else {
            Some("allow_list")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(networks: &[&str]) -> IpSet {
        networks.iter().map(|network| network.parse::<IpNet>().unwrap()).collect()
    }

    #[test]
    fn addresses_are_found_in_every_spelling() {
        let set = set(&["10.0.0.0/8", "::ffff:192.0.2.0/120", "2001:db8::/32"]);
        for inside in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "192.0.2.9", "2001:db8::1"] {
            assert!(set.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.1", "192.0.3.1", "2001:db9::1", "::1"] {
            assert!(!set.contains(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn networks_overlap_either_way() {
        let set = set(&["10.0.0.0/8", "192.0.2.7/32", "2001:db8::9/128"]);
        for (network, overlaps) in [
            ("10.1.2.0/24", true),
            ("10.0.0.0/8", true),
            ("0.0.0.0/1", true),
            ("192.0.2.0/24", true),
            ("192.0.2.6/32", false),
            ("11.0.0.0/8", false),
            ("2001:db8::/64", true),
            ("2001:db8:0:1::/64", false),
        ] {
            assert_eq!(set.overlaps(network.parse().unwrap()), overlaps, "{network}");
        }
    }

    #[test]
    fn blocking_beats_allowing() {
        let list = AccessList { allow: Some(set(&["10.0.0.0/8"])), block: set(&["10.0.0.7/32"]) };
        assert_eq!(list.refusal("10.0.0.7".parse().unwrap()), Some("block_list"));
        assert_eq!(list.refusal("11.0.0.1".parse().unwrap()), Some("allow_list"));
        assert_eq!(list.refusal("10.0.0.8".parse().unwrap()), None);
        assert!(AccessList::default().admits("192.0.2.1".parse().unwrap()));
    }
}
