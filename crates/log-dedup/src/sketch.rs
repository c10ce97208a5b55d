//! Who it was: how many different sources, and the foremost ones, in twenty kilobytes.

mod distinct;
mod foremost;

use crate::TopSource;
use crate::origin::{Origin, address_of};
use distinct::{Distinct, Registers};
pub use foremost::Foremost;
use foremost::Kept;
use std::collections::HashMap;
use std::time::Duration;

/// The sources of one kind, thread and epoch. One thread writes.
#[derive(Debug)]
pub(crate) struct Sketch {
    distinct: Distinct,
    foremost: Foremost,
}

impl Sketch {
    pub(crate) fn new() -> Self {
        Self { distinct: Distinct::new(), foremost: Foremost::new() }
    }

    pub(crate) fn add(&self, origin: Origin) {
        self.distinct.add(origin.hash);
        if let Some(address) = origin.address {
            self.foremost.add(address, origin.hash);
        }
    }

    pub(crate) fn clear(&self) {
        self.distinct.clear();
        self.foremost.clear();
    }

    pub(crate) fn copy(&self) -> (Registers, Kept) {
        (self.distinct.copy(), self.foremost.copy())
    }
}

/// What is known of the events of one kind and interval beside their number, from all threads.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    span: Option<(Duration, Duration)>,
    registers: Registers,
    kept: Vec<Kept>,
    torn: bool,
}

impl Sample {
    /// There were events from `first` to `last`.
    pub(crate) fn seen(&mut self, first: Duration, last: Duration) {
        let (from, to) = self.span.unwrap_or((first, last));
        self.span = Some((from.min(first), to.max(last)));
    }

    pub(crate) fn merge(&mut self, (registers, kept): (Registers, Kept)) {
        self.registers.merge(&registers);
        self.kept.push(kept);
    }

    /// Of one thread it is not known who its events were from.
    pub(crate) fn torn(&mut self) {
        self.torn = true;
    }

    /// When the first and the last event were.
    pub(crate) fn span(&self) -> Option<(Duration, Duration)> {
        self.span
    }

    /// About how many sources there were.
    pub(crate) fn distinct(&self) -> u64 {
        self.registers.estimate()
    }

    /// The `most` foremost sources of `count` events, as far as at least half of what is counted for one is certain. `hash` is that of their origin.
    pub(crate) fn top(&self, most: usize, count: u64, hash: impl Fn(u128) -> u64) -> Vec<TopSource> {
        let mut at_least: HashMap<u128, u64> = HashMap::new();
        for (address, count) in self.kept.iter().flat_map(Kept::at_least) {
            *at_least.entry(address).or_default() += count;
        }
        let mut ranked: Vec<_> = at_least.into_iter().filter(|(_, count)| *count > 0).collect();
        ranked.sort_unstable_by_key(|&(address, count)| (std::cmp::Reverse(count), address));
        let bounds = |(address, at_least): (u128, u64)| {
            let hash = hash(address);
            let known: u64 = self.kept.iter().map(|kept| kept.at_most(address, hash)).sum();
            let at_most = if self.torn { count } else { known.min(count) };
            TopSource { source: address_of(address), at_least: at_least.min(count), at_most }
        };
        // One of a great many that happen to be kept is not foremost.
        let is_known = |top: &TopSource| top.at_least >= top.at_most - top.at_least;
        ranked.into_iter().map(bounds).filter(is_known).take(most).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::number_of;
    use ahash::RandomState;
    use std::net::IpAddr;

    fn origin(hashes: &RandomState, source: IpAddr) -> Origin {
        let address = number_of(source);
        Origin { address: Some(address), hash: hashes.hash_one(address) }
    }

    #[test]
    fn the_truth_lies_between_the_bounds_whatever_the_threads() {
        let hashes = RandomState::with_seeds(1, 2, 3, 4);
        let threads: Vec<Sketch> = (0..3).map(|_| Sketch::new()).collect();
        let mut truth: HashMap<IpAddr, u64> = HashMap::new();
        let mut add = |thread: usize, source: u32| {
            let source = IpAddr::from(source.to_be_bytes());
            *truth.entry(source).or_default() += 1;
            threads[thread].add(origin(&hashes, source));
        };
        for step in 0..60_000_u32 {
            add(step as usize % 3, 0x0a00_0000 + step);
            if step % 10 == 0 {
                add(step as usize % 3, 1 + step % 4);
            }
            if step % 17 == 0 {
                add(0, 7);
            }
        }
        let mut sample = Sample::default();
        threads.iter().for_each(|sketch| sample.merge(sketch.copy()));
        let top = sample.top(40, 70_000, |address| hashes.hash_one(address));
        assert!((3..=40).contains(&top.len()), "{top:?}");
        for TopSource { source, at_least, at_most } in &top {
            let happened = truth[source];
            assert!((*at_least..=*at_most).contains(&happened), "{source}: {at_least} {happened} {at_most}");
        }
        assert_eq!(top[0].source, IpAddr::from([0, 0, 0, 7]));
        let error = sample.distinct() as f64 / truth.len() as f64 - 1.0;
        assert!(error.abs() < 0.051, "{error}");
    }

    #[test]
    fn few_sources_are_exact() {
        let hashes = RandomState::with_seeds(1, 2, 3, 4);
        let sketch = Sketch::new();
        let sources: [IpAddr; 3] = ["::", "2001:db8::1", "203.0.113.7"].map(|source| source.parse().unwrap());
        for (times, source) in sources.iter().enumerate() {
            for _ in 0..=times {
                sketch.add(origin(&hashes, *source));
            }
        }
        let mut sample = Sample::default();
        sample.merge(sketch.copy());
        let top = sample.top(10, 6, |address| hashes.hash_one(address));
        let exact =
            |index: usize| TopSource { source: sources[index], at_least: index as u64 + 1, at_most: index as u64 + 1 };
        assert_eq!(top, [exact(2), exact(1), exact(0)]);
        sketch.clear();
        let mut sample = Sample::default();
        sample.merge(sketch.copy());
        assert!(sample.top(10, 6, |address| hashes.hash_one(address)).is_empty());
        assert_eq!(sample.distinct(), 0);
    }
}
