//! Addresses and networks.

use crate::cursor::Cursor;
use crate::value::{file, string};
use ipnet::{IpNet, IpSubnets, Ipv4Net, Ipv4Subnets, Ipv6Subnets};
use proxy_route::IpSet;
use std::net::{IpAddr, Ipv4Addr};

/// One address or CIDR.
pub(crate) fn network(at: &Cursor<'_>) -> Option<IpNet> {
    let text = string(at)?;
    let Some(network) = parse(text) else {
        at.error_help(format!("{text:?} is neither an address nor a CIDR"), EXAMPLES);
        return None;
    };
    warn_of_host_bits(at, text, network);
    Some(folded(network.trunc()))
}

const EXAMPLES: &str = "write \"192.0.2.7\", \"10.0.0.0/8\" or \"2001:db8::/32\"";

pub(crate) fn networks(at: &Cursor<'_>) -> Option<Vec<IpNet>> {
    Some(at.one_or_many().iter().filter_map(network).collect())
}

/// An access list: addresses, CIDRs, `10.0.*`, `10.0.0.1-10.0.0.9`, `@file` with one of those per line. `None` within
/// is `*`: everybody.
pub(crate) fn access(at: &Cursor<'_>) -> Option<Option<IpSet>> {
    let mut set = IpSet::default();
    let mut everybody = false;
    let mut right = true;
    for item in at.one_or_many() {
        let Some(text) = string(&item) else {
            right = false;
            continue;
        };
        let mut add = |entry: &str, place: &str| match entry {
            "*" => everybody = true,
            _ => match pattern(entry) {
                Some(networks) => {
                    if let [network] = networks.as_slice() {
                        warn_of_host_bits(&item, entry, *network);
                    }
                    networks.into_iter().for_each(|network| set.insert(network.trunc()));
                }
                None => {
                    right = false;
                    item.error_help(format!("{entry:?}{place} is no address"), ACCESS_EXAMPLES);
                }
            },
        };
        let Some(path) = text.strip_prefix('@') else {
            add(text, "");
            continue;
        };
        let Some((path, content)) = file(&item, path) else {
            right = false;
            continue;
        };
        let mut entries = 0;
        for (index, line) in content.lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if !entry.is_empty() {
                entries += 1;
                add(entry, &format!(" in line {} of {}", index + 1, path.display()));
            }
        }
        if entries == 0 {
            right = false;
            item.error_help(
                format!("{} has no address", path.display()),
                "a list that is empty by mistake would let everybody in or nobody out",
            );
        }
    }
    right.then(|| (!everybody).then_some(set))
}

const ACCESS_EXAMPLES: &str =
    "write \"192.0.2.7\", \"10.0.0.0/8\", \"10.0.*\", \"10.0.0.1-10.0.0.9\", \"*\" or \"@file\"";

fn parse(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn pattern(text: &str) -> Option<Vec<IpNet>> {
    if let Some(network) = parse(text) {
        return Some(vec![network]);
    }
    if let Some((first, last)) = text.split_once('-') {
        let range = match (first.trim().parse().ok()?, last.trim().parse().ok()?) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => Ipv4Subnets::new(first, last, 0).into(),
            (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => Ipv6Subnets::new(first, last, 0).into(),
            _ => return None,
        };
        return Some(IpSubnets::collect(range));
    }
    wildcard(text).map(|network| vec![network.into()])
}

/// `10.*`, `10.0.*`, `10.0.*.*`.
fn wildcard(text: &str) -> Option<Ipv4Net> {
    let mut parts: Vec<_> = text.split('.').collect();
    if parts.len() > 4 || parts.pop() != Some("*") {
        return None;
    }
    while parts.last() == Some(&"*") {
        parts.pop();
    }
    let mut octets = [0; 4];
    for (octet, part) in octets.iter_mut().zip(&parts) {
        *octet = part.parse().ok()?;
    }
    let length = u8::try_from(parts.len()).ok()? * 8;
    Ipv4Net::new(Ipv4Addr::from(octets), length).ok().filter(|_| length > 0)
}

/// IPv4-mapped networks as the IPv4 networks that they are.
fn folded(network: IpNet) -> IpNet {
    match network {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.network().to_ipv4_mapped() {
            Some(v4) => Ipv4Net::new(v4, v6.prefix_len() - 96).map_or(network, IpNet::V4),
            None => network,
        },
        _ => network,
    }
}

fn warn_of_host_bits(at: &Cursor<'_>, text: &str, network: IpNet) {
    let whole = network.trunc();
    if whole != network {
        at.warn(
            format!("{text:?} means the whole network {whole}"),
            format!("write \"{whole}\", or \"{}\" for the one address", network.addr()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_networks() {
        for (text, networks) in [
            ("192.0.2.7", &["192.0.2.7/32"][..]),
            ("10.0.0.0/8", &["10.0.0.0/8"]),
            ("2001:db8::1", &["2001:db8::1/128"]),
            ("10.*", &["10.0.0.0/8"]),
            ("10.1.*", &["10.1.0.0/16"]),
            ("10.1.2.*", &["10.1.2.0/24"]),
            ("10.1.*.*", &["10.1.0.0/16"]),
            ("10.0.0.1-10.0.0.4", &["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32"]),
            ("10.0.0.0 - 10.0.0.255", &["10.0.0.0/24"]),
            ("2001:db8::-2001:db8::3", &["2001:db8::/126"]),
        ] {
            let found = pattern(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), networks, "{text}");
        }
        for text in [
            "",
            "10",
            "10.0.0",
            "*.*",
            "*.*.*.*",
            "10.*.1",
            "10.0.0.0.*",
            "256.*",
            "5-6",
            "10.0.0.2-10.0.0.1",
            "::-10.0.0.1",
        ] {
            assert_eq!(pattern(text), None, "{text}");
        }
    }

    #[test]
    fn mapped_networks_are_ipv4() {
        for (text, network) in [
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("2001:db8::/120", "2001:db8::/120"),
        ] {
            assert_eq!(folded(text.parse().unwrap()).to_string(), network);
        }
    }
}
