//! What one thread has counted. Only that thread writes; whoever sweeps reads at the same time.

use crate::kind::MOST_KINDS;
use crate::origin::Origin;
use crate::sketch::{Sample, Sketch};
use crate::sync::{AtomicU64, OnceLock, Ordering, fence};
use std::time::Duration;

/// The counts and samples of one thread.
///
/// Counts only ever grow: who reads them remembers what was read before, so nothing is taken away from under the thread
/// that counts, and nothing can be lost between the two. Samples (which sources, when first and last) are kept twice,
/// for odd and even epochs of a kind: who reads begins a new epoch and reads the old one's, which nobody touches any more
/// except for an event that was under way; that one may be missing in the sample, never in the counts.
#[derive(Debug)]
pub(crate) struct Cell {
    /// By the number of a key, in blocks of doubling size that never move.
    counts: Box<[OnceLock<Box<[AtomicU64]>>]>,
    /// By kind, and whether its epoch is odd.
    samples: Box<[OnceLock<Box<[Samples; 2]>>]>,
}

/// What is known of the events of one kind and epoch beside their number.
#[derive(Debug)]
struct Samples {
    /// Odd while the thread writes.
    version: AtomicU64,
    epoch: AtomicU64,
    first: AtomicU64,
    last: AtomicU64,
    sketch: OnceLock<Box<Sketch>>,
}

impl Cell {
    /// A cell whose first block of counts is there already.
    pub(crate) fn new(kinds: usize) -> Self {
        let cell = Self {
            counts: (0..BLOCKS).map(|_| OnceLock::new()).collect(),
            samples: (0..kinds).map(|_| OnceLock::new()).collect(),
        };
        cell.count(0);
        cell
    }

    /// The count with this number. Called by the thread that owns the cell.
    pub(crate) fn count(&self, number: u32) -> &AtomicU64 {
        let (block, place) = place_of(number);
        let block = self.counts[block].get_or_init(|| (0..FIRST_BLOCK << block).map(|_| AtomicU64::new(0)).collect());
        &block[place]
    }

    /// The count with this number, if the thread has ever counted anything near it.
    pub(crate) fn peek(&self, number: u32) -> Option<&AtomicU64> {
        let (block, place) = place_of(number);
        self.counts[block].get().map(|block| &block[place])
    }

    /// Takes a sample of one event. Called by the thread that owns the cell, with epochs that never go back.
    pub(crate) fn sample(&self, kind: usize, epoch: u64, now: Duration, origin: Option<Origin>) {
        let both = self.samples[kind].get_or_init(|| Box::new([Samples::new(), Samples::new()]));
        let samples = &both[(epoch & 1) as usize];
        let sketch = origin.map(|origin| (samples.sketch.get_or_init(|| Box::new(Sketch::new())), origin));
        let now = now.as_secs() * 1_000_000 + u64::from(now.subsec_micros());
        // Ordering: the version is odd before anything changes (the fence) and even after it has (the release), so a
        // reader that sees one even version before and after has seen no change. Nobody else writes.
        let version = samples.version.load(Ordering::Relaxed);
        samples.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        // Ordering: below the version.
        if samples.epoch.load(Ordering::Relaxed) != epoch {
            samples.epoch.store(epoch, Ordering::Relaxed);
            samples.first.store(now, Ordering::Relaxed);
            if let Some(sketch) = samples.sketch.get() {
                sketch.clear();
            }
        }
        samples.last.store(now, Ordering::Relaxed);
        if let Some((sketch, origin)) = sketch {
            sketch.add(origin);
        }
        samples.version.store(version + 2, Ordering::Release);
    }

    /// Adds the sample of an epoch that is over to `sample`; whether it could be read whole, or there is none.
    pub(crate) fn read(&self, kind: usize, epoch: u64, sample: &mut Sample) -> bool {
        let Some(samples) = self.samples[kind].get().map(|both| &both[(epoch & 1) as usize]) else { return true };
        for _ in 0..TRIES {
            // Ordering: see `sample`. What is read between is not newer than the version read after it (the fence).
            let before = samples.version.load(Ordering::Acquire);
            if before % 2 == 0 {
                let of_epoch = samples.epoch.load(Ordering::Relaxed) == epoch;
                let (first, last) = (samples.first.load(Ordering::Relaxed), samples.last.load(Ordering::Relaxed));
                let sketch = samples.sketch.get().filter(|_| of_epoch).map(|sketch| sketch.copy());
                fence(Ordering::Acquire);
                if samples.version.load(Ordering::Relaxed) == before {
                    if of_epoch {
                        sample.seen(Duration::from_micros(first), Duration::from_micros(last));
                    }
                    if let Some(sketch) = sketch {
                        sample.merge(sketch);
                    }
                    return true;
                }
            }
            yield_now();
        }
        false
    }

    /// Whether it holds no sample of the present epoch of a kind.
    pub(crate) fn is_spent(&self, kind: usize, epoch: u64) -> bool {
        let spent = |samples: &Samples| samples.epoch.load(Ordering::Relaxed) != epoch;
        self.samples[kind].get().is_none_or(|both| both.iter().all(spent))
    }
}

impl Samples {
    fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            epoch: AtomicU64::new(NO_EPOCH),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
            sketch: OnceLock::new(),
        }
    }
}

/// The block of a count, and its place there.
fn place_of(number: u32) -> (usize, usize) {
    let shifted = number as usize + FIRST_BLOCK;
    let block = (shifted.ilog2() - FIRST_BLOCK.ilog2()) as usize;
    (block, shifted - (FIRST_BLOCK << block))
}

#[cfg(not(loom))]
use std::thread::yield_now;

#[cfg(loom)]
use loom::thread::yield_now;

/// Counts in the first block, which are those of what exceeded the bound of keys.
const FIRST_BLOCK: usize = MOST_KINDS;
/// As many as all numbers need.
const BLOCKS: usize = 32;
const NO_EPOCH: u64 = u64::MAX;
/// How often a sample is read anew while its thread changes it. More is no use: the thread sleeps in the middle of it.
const TRIES: u32 = if cfg!(loom) { 2 } else { 1000 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_place_of_its_own() {
        let mut expected = (0, 0);
        for number in 0..100_000 {
            assert_eq!(place_of(number), expected);
            expected.1 += 1;
            if expected.1 == FIRST_BLOCK << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
        assert!(place_of(u32::MAX).0 < BLOCKS);
    }
}
