//! The counts of the threads that share a shard.

use super::{BOUNDS, CountedRoute, MAX_ROUTES, RESULTS};
use conn_tracker::{RequestOutcome, RouteId};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counts in blocks that are there once they are needed, and never move.
///
/// Ordering of all counts: each is a figure of its own, and says nothing of anything else.
#[derive(Debug)]
struct Blocks<T> {
    most: usize,
    blocks: Box<[OnceLock<Box<[T; BLOCK]>>]>,
}

const BLOCK: usize = 64;

impl<T: Default> Blocks<T> {
    fn new(most: usize) -> Self {
        Self { most, blocks: (0..most.div_ceil(BLOCK)).map(|_| OnceLock::new()).collect() }
    }

    fn at(&self, place: usize) -> Option<&T> {
        let block = self.blocks.get(place / BLOCK).filter(|_| place < self.most)?;
        Some(&block.get_or_init(|| Box::new(std::array::from_fn(|_| T::default())))[place % BLOCK])
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let known = self.blocks.iter().enumerate().filter_map(|(index, block)| Some((index, block.get()?)));
        known.flat_map(|(index, block)| (index * BLOCK..).zip(block.iter()))
    }
}

type Results = [AtomicU64; RESULTS.len()];

/// Cache lines of its own, so that threads of different shards do not meet.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Shard {
    unrouted: Results,
    /// By [`RouteId::index`].
    routes: Blocks<Results>,
    beyond: Results,
    /// By port.
    admitted: Blocks<AtomicU64>,
    handshakes: AtomicU64,
    durations: [AtomicU64; BOUNDS.len() + 1],
    /// In microseconds.
    duration: AtomicU64,
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            unrouted: Results::default(),
            routes: Blocks::new(MAX_ROUTES),
            beyond: Results::default(),
            admitted: Blocks::new(usize::from(u16::MAX) + 1),
            handshakes: AtomicU64::new(0),
            durations: Default::default(),
            duration: AtomicU64::new(0),
        }
    }
}

impl Shard {
    pub(super) fn admit(&self, port: u16) {
        if let Some(count) = self.admitted.at(port.into()) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn handshake(&self) {
        self.handshakes.fetch_add(1, Relaxed);
    }

    pub(super) fn request(&self, outcome: RequestOutcome) {
        let results = match outcome.route {
            None => &self.unrouted,
            Some(route) => self.routes.at(route.index() as usize).unwrap_or(&self.beyond),
        };
        let class = usize::from(outcome.status / 100).wrapping_sub(1).min(RESULTS.len() - 1);
        results[class].fetch_add(1, Relaxed);
        let elapsed = outcome.elapsed.min(LONGEST).as_micros() as u64;
        self.durations[BOUNDS.partition_point(|bound| *bound < elapsed)].fetch_add(1, Relaxed);
        self.duration.fetch_add(elapsed, Relaxed);
    }

    /// Requests by route and result, those that there were.
    pub(super) fn requests(&self) -> impl Iterator<Item = (CountedRoute, usize, u64)> {
        let route = |(index, results): (usize, _)| {
            let id = u32::try_from(index).ok().and_then(RouteId::new);
            (id.map_or(CountedRoute::Other, CountedRoute::Route), results)
        };
        let others = [(CountedRoute::Unknown, &self.unrouted), (CountedRoute::Other, &self.beyond)];
        let results = others.into_iter().chain(self.routes.iter().map(route));
        let counts = |(route, results): (CountedRoute, &Results)| {
            let counts: [u64; RESULTS.len()] = std::array::from_fn(|class| results[class].load(Relaxed));
            counts.into_iter().enumerate().map(move |(class, count)| (route, class, count))
        };
        results.flat_map(counts).filter(|(_, _, count)| *count > 0)
    }

    /// Connections admitted by port, where there were any.
    pub(super) fn admitted(&self) -> impl Iterator<Item = (u16, u64)> {
        let of = |(port, count): (usize, &AtomicU64)| Some((u16::try_from(port).ok()?, count.load(Relaxed)));
        self.admitted.iter().filter_map(of).filter(|(_, count)| *count > 0)
    }

    pub(super) fn durations(&self) -> impl Iterator<Item = u64> {
        self.durations.iter().map(|count| count.load(Relaxed))
    }

    pub(super) fn duration(&self) -> Duration {
        Duration::from_micros(self.duration.load(Relaxed))
    }

    pub(super) fn handshakes(&self) -> u64 {
        self.handshakes.load(Relaxed)
    }
}

/// As long as a request is taken to have been at most, so that the sum does not overflow.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
