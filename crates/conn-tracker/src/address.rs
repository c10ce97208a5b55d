//! From an address to the key that a client is counted by.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The one spelling of an address: IPv4-mapped IPv6 (`::ffff:a.b.c.d`) and NAT64 (`64:ff9b::a.b.c.d`) become the IPv4
/// address that they carry, everything else stays.
///
/// ```
/// use conn_tracker::canonical;
/// use std::net::IpAddr;
///
/// let plain: IpAddr = "203.0.113.7".parse().unwrap();
/// for other in ["::ffff:203.0.113.7", "64:ff9b::203.0.113.7"] {
///     assert_eq!(canonical(other.parse().unwrap()), plain);
/// }
/// ```
#[must_use]
#[inline]
pub fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) if may_carry_v4(upper_half(v6)) => carried_v4(v6).map_or(address, IpAddr::V4),
        _ => address,
    }
}

/// What stands before the 32 bits of an IPv4 address.
const MAPPED: u128 = 0xffff;
const NAT64: u128 = 0x64_ff9b << 64;

/// Whether an IPv6 address can be one that carries an IPv4 address, by its upper half. Nearly none can.
#[inline]
const fn may_carry_v4(upper_half: u64) -> bool {
    upper_half <= (NAT64 >> 32) as u64
}

/// The IPv4 address that an IPv6 address carries.
#[cold]
const fn carried_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    match v6.to_bits() >> 32 {
        MAPPED | NAT64 => Some(Ipv4Addr::from_bits(v6.to_bits() as u32)),
        _ => None,
    }
}

#[inline]
const fn upper_half(v6: Ipv6Addr) -> u64 {
    (v6.to_bits() >> 64) as u64
}

/// What a per-client limit counts by: an address cut to its prefix.
///
/// Made by [`Prefixes::key`]; host bits are zero. An IPv6 key keeps the upper 64 bits only, because one host usually
/// owns a whole /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClientKey {
    /// An IPv4 network.
    V4(u32),
    /// The upper half of an IPv6 network.
    V6(u64),
}

impl ClientKey {
    /// The network address of the key.
    #[must_use]
    pub fn network(self) -> IpAddr {
        match self {
            Self::V4(bits) => IpAddr::V4(Ipv4Addr::from_bits(bits)),
            Self::V6(bits) => IpAddr::V6(Ipv6Addr::from_bits(u128::from(bits) << 64)),
        }
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.network().fmt(f)
    }
}

/// How much of an address makes a client, per family.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Prefixes {
    /// Bits that are kept, of an address and of the upper half of one.
    v4: u32,
    v6: u64,
}

/// A prefix length that [`Prefixes::new`] refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrefixError {
    /// An IPv4 prefix length outside `1..=32`.
    V4(u8),
    /// An IPv6 prefix length outside `1..=64`.
    V6(u8),
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(bits) => write!(f, "an IPv4 prefix length is 1 to 32, not {bits}"),
            Self::V6(bits) => write!(
                f,
                "an IPv6 prefix length is 1 to 64, not {bits}: a host owns a whole /64, so a longer prefix limits nobody"
            ),
        }
    }
}

impl std::error::Error for PrefixError {}

impl Prefixes {
    /// `v4` in `1..=32` bits, `v6` in `1..=64` bits.
    ///
    /// # Errors
    /// A length outside its range.
    pub const fn new(v4: u8, v6: u8) -> Result<Self, PrefixError> {
        match (v4, v6) {
            (0 | 33.., _) => Err(PrefixError::V4(v4)),
            (_, 0 | 65..) => Err(PrefixError::V6(v6)),
            _ => Ok(Self { v4: u32::MAX << (32 - v4), v6: u64::MAX << (64 - v6) }),
        }
    }

    /// Bits of an IPv4 address that make a client.
    #[must_use]
    pub const fn v4(self) -> u8 {
        self.v4.count_ones() as u8
    }

    /// Bits of an IPv6 address that make a client.
    #[must_use]
    pub const fn v6(self) -> u8 {
        self.v6.count_ones() as u8
    }

    /// The key of the client that `address` belongs to. Takes any spelling (see [`canonical`]).
    #[must_use]
    #[inline]
    pub fn key(self, address: IpAddr) -> ClientKey {
        match address {
            IpAddr::V4(v4) => self.key_of_v4(v4),
            IpAddr::V6(v6) if may_carry_v4(upper_half(v6)) => self.key_of_low(v6),
            IpAddr::V6(v6) => ClientKey::V6(upper_half(v6) & self.v6),
        }
    }

    #[inline]
    const fn key_of_v4(self, v4: Ipv4Addr) -> ClientKey {
        ClientKey::V4(v4.to_bits() & self.v4)
    }

    /// The key of an address that begins as low as those that carry an IPv4 address.
    #[cold]
    const fn key_of_low(self, v6: Ipv6Addr) -> ClientKey {
        match carried_v4(v6) {
            Some(v4) => self.key_of_v4(v4),
            None => ClientKey::V6(upper_half(v6) & self.v6),
        }
    }
}

impl Default for Prefixes {
    /// A whole IPv4 address, an IPv6 /64.
    fn default() -> Self {
        Self { v4: u32::MAX, v6: u64::MAX }
    }
}

impl fmt::Debug for Prefixes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prefixes").field("v4", &self.v4()).field("v6", &self.v6()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(prefixes: Prefixes, address: &str) -> ClientKey {
        prefixes.key(address.parse().unwrap())
    }

    #[test]
    fn pitfall_15_every_spelling_of_an_ipv4_client_is_one_key() {
        let all = Prefixes::default();
        let plain = key(all, "192.0.2.1");
        assert_eq!(plain, ClientKey::V4(0xc000_0201));
        assert_eq!(key(all, "::ffff:192.0.2.1"), plain);
        assert_eq!(key(all, "64:ff9b::c000:201"), plain);
        assert_ne!(key(all, "64:ff9b:1::c000:201"), plain, "only the well-known prefix is unwrapped");
        assert_ne!(key(all, "::192.0.2.1"), plain, "the deprecated compatible form is not an IPv4 client");
    }

    #[test]
    fn pitfall_16_ipv6_is_cut_to_its_prefix() {
        let all = Prefixes::default();
        assert_eq!(key(all, "2001:db8:1:2::1"), key(all, "2001:db8:1:2:ffff::9"));
        assert_ne!(key(all, "2001:db8:1:2::1"), key(all, "2001:db8:1:3::1"));
        let wide = Prefixes::new(24, 48).unwrap();
        assert_eq!(key(wide, "2001:db8:1:2::1"), key(wide, "2001:db8:1:3::1"));
        assert_eq!(key(wide, "192.0.2.1"), key(wide, "192.0.2.254"));
        assert_eq!(key(wide, "192.0.2.1").to_string(), "192.0.2.0");
        assert_eq!(key(wide, "2001:db8:1:2::1").to_string(), "2001:db8:1::");
    }

    #[test]
    fn lengths_outside_their_range_are_refused() {
        for (v4, v6, error) in
            [(0, 64, PrefixError::V4(0)), (33, 64, PrefixError::V4(33)), (32, 65, PrefixError::V6(65))]
        {
            assert_eq!(Prefixes::new(v4, v6), Err(error));
        }
        assert_eq!(Prefixes::new(1, 1).map(Prefixes::v6), Ok(1));
        assert_eq!(Prefixes::new(32, 64), Ok(Prefixes::default()));
        assert_eq!(format!("{:?}", Prefixes::new(24, 48).unwrap()), "Prefixes { v4: 24, v6: 48 }");
    }
}
