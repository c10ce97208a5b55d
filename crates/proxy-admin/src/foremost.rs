//! Which sources come most often, in sixteen kilobytes.

use std::net::{IpAddr, Ipv6Addr};

/// Sources that share a hash compete for this many places.
const WAYS: usize = 4;
const SETS: usize = 128;

/// A space-saving sketch of 512 sources, cut by hash into sets of four so that one event costs a look at four places.
///
/// A source that is not among the four of its set takes the place of the least of them and inherits its count as a
/// possible error. So for each source kept, the truth lies between `count - error` and `count`, and a source that makes
/// up more than a quarter of its set's events is always kept.
#[derive(Clone, Debug)]
pub(crate) struct Foremost {
    sets: Box<[[Place; WAYS]; SETS]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The address as IPv6 (IPv4 is mapped). Meaningless while `count` is 0.
    key: u128,
    count: u64,
    error: u64,
}

impl Foremost {
    pub(crate) fn new() -> Self {
        Self { sets: Box::new([[Place::default(); WAYS]; SETS]) }
    }

    /// Counts one event of `source`, whose hash is `hash`: always the same one, which nobody outside can foresee.
    pub(crate) fn add(&mut self, source: IpAddr, hash: u64) {
        let key = key(source);
        let set = &mut self.sets[(hash >> 40) as usize % SETS];
        if let Some(place) = set.iter_mut().find(|place| place.key == key && place.count > 0) {
            place.count += 1;
            return;
        }
        let least = set.iter_mut().min_by_key(|place| place.count).expect("a set has places");
        *least = Place { key, count: least.count + 1, error: least.count };
    }

    /// Every source kept, with the number of events that are certainly its own.
    pub(crate) fn at_least(&self) -> impl Iterator<Item = (IpAddr, u64)> + '_ {
        let kept = self.sets.iter().flatten().filter(|place| place.count > 0);
        kept.map(|place| (Ipv6Addr::from_bits(place.key).to_canonical(), place.count - place.error))
    }
}

fn key(source: IpAddr) -> u128 {
    match source {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::hash::{BuildHasher, RandomState};
    use std::net::Ipv4Addr;

    #[test]
    fn never_claims_more_than_happened_and_keeps_the_heavy() {
        let hashes = RandomState::new();
        let mut foremost = Foremost::new();
        let mut truth: HashMap<IpAddr, u64> = HashMap::new();
        let mut count = |address: u32| {
            let source = IpAddr::V4(Ipv4Addr::from_bits(address));
            *truth.entry(source).or_default() += 1;
            foremost.add(source, hashes.hash_one(source));
        };
        for step in 0..100_000_u32 {
            count(0x0a00_0000 + step);
            if step % 10 == 0 {
                count(1);
            }
            if step % 20 == 0 {
                count(2);
            }
        }
        let kept: HashMap<IpAddr, u64> = foremost.at_least().collect();
        assert!(kept.len() <= SETS * WAYS);
        for (source, at_least) in &kept {
            assert!(at_least <= &truth[source], "{source}");
        }
        // It may take a few evictions until a heavy source has outgrown its set.
        for (heavy, happened) in [(1_u32, 10_000), (2, 5_000)] {
            let at_least = kept[&IpAddr::V4(Ipv4Addr::from_bits(heavy))];
            assert!(at_least * 10 >= happened * 9, "{at_least} of {happened}");
        }
    }

    #[test]
    fn few_sources_are_exact() {
        let hashes = RandomState::new();
        let mut foremost = Foremost::new();
        let sources: [IpAddr; 3] = ["203.0.113.7", "2001:db8::1", "::"].map(|source| source.parse().unwrap());
        for (times, source) in sources.iter().enumerate() {
            for _ in 0..=times {
                foremost.add(*source, hashes.hash_one(source));
            }
        }
        let mut kept: Vec<_> = foremost.at_least().collect();
        kept.sort_by_key(|(_, count)| *count);
        assert_eq!(kept, [(sources[0], 1), (sources[1], 2), (sources[2], 3)]);
    }
}
