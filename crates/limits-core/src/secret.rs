//! The hash of clients: keyed, so that nobody can choose addresses that meet in one place.

use conn_tracker::{ClientKey, RouteId};
use std::fmt;

/// A client, and its hash: where it is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) key: ClientKey,
    pub(crate) hash: u32,
}

/// The keys of the hash, different in every table.
///
/// Multiplications of 64 by 64 bits, their halves folded together, as `ahash` does it without the help of the processor's
/// AES: what a client can choose is mixed with one secret and multiplied by two. One is not enough: addresses at equal
/// distances then come to lie in a few places, for a few of the keys.
#[derive(Clone, Copy)]
pub(crate) struct Secret {
    mask: u64,
    factors: [u64; 2],
}

impl Secret {
    /// Keys that nobody knows. A model is repeated with other interleavings and must be the same each time, and so must
    /// what is measured in several processes and compared (`known_secret`).
    #[cfg(not(any(loom, shuttle, known_secret)))]
    pub(crate) fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        // The standard library's keys are from the system; what it makes of them says nothing about them.
        let random = RandomState::new();
        Self::from([0, 1, 2].map(|number: u64| random.hash_one(number)))
    }

    #[cfg(any(loom, shuttle, known_secret))]
    pub(crate) fn new() -> Self {
        Self::from([0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0])
    }

    #[inline]
    pub(crate) fn place(&self, key: ClientKey) -> Place {
        let hash = match key {
            ClientKey::V4(key) => self.number(key.into()),
            ClientKey::V6(key) => self.number(key),
        };
        Place { key, hash }
    }

    /// The hash of a key of either family as a number.
    #[inline]
    pub(crate) fn number(&self, key: u64) -> u32 {
        folded(folded(key ^ self.mask, self.factors[0]), self.factors[1]) as u32
    }

    /// The hash of a client, by its own, on a route.
    #[inline]
    pub(crate) fn pair(&self, client: u32, route: RouteId) -> u32 {
        self.number(u64::from(client) << 32 | u64::from(route.index()))
    }
}

impl From<[u64; 3]> for Secret {
    fn from([mask, factors @ ..]: [u64; 3]) -> Self {
        // An odd factor loses nothing.
        Self { mask, factors: factors.map(|factor: u64| factor | 1) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

#[inline]
fn folded(number: u64, factor: u64) -> u64 {
    let product = u128::from(number) * u128::from(factor);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `keys` share the fullest of as many buckets as there are keys, by the bits that choose a place in a
    /// shard and by those that choose a shard.
    fn fullest(hashes: &[u32]) -> (usize, usize) {
        let most = |bucket: &dyn Fn(u64) -> u64| {
            let mut buckets = vec![0; hashes.len()];
            for &hash in hashes {
                buckets[usize::try_from(bucket(hash.into())).unwrap()] += 1;
            }
            buckets.into_iter().max().unwrap()
        };
        let len = hashes.len() as u64;
        (most(&|hash| (hash * len) >> 32), most(&|hash| hash % len))
    }

    #[test]
    fn neighbours_and_strides_are_spread_like_anything_else() {
        const KEYS: u64 = 1 << 14;
        for _ in 0..8 {
            let secret = Secret::new();
            for stride in (0..48).map(|shift| 1_u64 << shift).chain([3, 255, 257, 0x0001_0001, 0x0101_0101_0101]) {
                let hashes: Vec<_> = (0..KEYS).map(|key| secret.number(key.wrapping_mul(stride))).collect();
                // Balls thrown into as many buckets at random: 13 in one is seen once in a million tries.
                let (place, shard) = fullest(&hashes);
                assert!(place <= 16 && shard <= 16, "stride {stride}: {place} in a place, {shard} in a shard");
            }
            assert!(routes_in_a_place(&secret) <= 16);
        }
    }

    /// How many of the routes of a client share the fullest place.
    fn routes_in_a_place(secret: &Secret) -> usize {
        let client = secret.place(ClientKey::V4(0xc000_0201)).hash;
        let routes = (0..4_096).map(|index| secret.pair(client, RouteId::new(index).unwrap()));
        fullest(&routes.collect::<Vec<_>>()).0
    }

    #[test]
    fn routes_of_a_client_are_spread_by_any_secret() {
        // Multiplied by one of these alone, 396 to 1,365 of them meet. With one multiplication it was one secret in 200 by
        // which more than 16 do.
        for factor in [0xc15d_03ee_6666_6879, 0x1b19_3f8c_db6d_b80f, 0xcf75_7748_3fff_ff89, 0x5daa_a1d1_aaaa_a9e3] {
            let secret = Secret::from([0x243f_6a88_85a3_08d3, factor, 0x1319_8a2e_0370_7344]);
            assert_eq!(secret.factors[0], factor);
            assert!(routes_in_a_place(&secret) <= 16, "{factor:#x}");
        }
    }

    #[test]
    fn every_table_has_its_own() {
        let of = |secret: Secret| secret.place(ClientKey::V4(1)).hash;
        assert_ne!(of(Secret::new()), of(Secret::new()));
        assert!(!format!("{:?}", Secret::from([2, 2, 2])).contains('2'));
    }
}
