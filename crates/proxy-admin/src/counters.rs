//! Counting what happens, on every worker at once.

use crate::foremost::Foremost;
use conn_tracker::{Event, EventKind, Report, RequestOutcome, RouteId};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Routes with counts of their own; those numbered beyond are counted together.
const MAX_ROUTES: usize = 10_000;
/// Pairs of kind and reason with a count of their own, per route; those beyond are counted as [`OTHER`], per kind.
const MAX_REASONS: usize = 64;
/// The reason of what exceeds the bounds.
const OTHER: &str = "other";
/// Shards beyond this many would cost memory and spare no waiting.
const MAX_SHARDS: usize = 16;
/// Upper bounds of the duration histogram, in microseconds; one bucket more is without a bound.
const BOUNDS: [u64; 14] = [
    500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
    60_000_000,
];
/// Classes of an answer: the first digit of its status, and one for what is no status.
const RESULTS: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", OTHER];

/// Counts of everything a [`Report`] hears.
///
/// **Cost.** One uncontended lock of the thread's own shard and a few additions; no allocation, except when something is
/// seen by a shard for the first time. **Memory.** Bounded by routes and reasons, both of which come from the
/// configuration and the program: no address is ever kept.
///
/// ```
/// use conn_tracker::{Event, EventKind, Report};
/// use proxy_admin::EventCounters;
///
/// let counters = EventCounters::default();
/// let refused = Event { kind: EventKind::Refused, reason: "client_limit", route: None, source: None };
/// counters.event(refused);
/// counters.event(refused);
///
/// let counts = counters.counts();
/// assert_eq!((counts.events[0].reason, counts.events[0].count), ("client_limit", 2));
/// ```
#[derive(Debug)]
pub struct EventCounters {
    shards: Box<[Shard]>,
    handshakes: Failures,
}

/// Whose TLS handshakes fail, in a fixed amount of memory. A failed handshake costs so much that one lock for all threads
/// does not show.
#[derive(Debug)]
struct Failures {
    foremost: Mutex<Foremost>,
    hashes: RandomState,
}

/// The counts of the threads that share it. A cache line of its own, so that the locks of two threads do not meet.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<Tally>);

#[derive(Debug, Default)]
struct Tally {
    unrouted: RouteTally,
    /// By [`RouteId::index`].
    routes: Vec<RouteTally>,
    beyond: RouteTally,
    admitted: BTreeMap<u16, u64>,
    handshakes: u64,
    durations: [u64; BOUNDS.len() + 1],
    duration: Duration,
}

#[derive(Clone, Debug, Default)]
struct RouteTally {
    events: Vec<(EventKind, &'static str, u64)>,
    results: [u64; RESULTS.len()],
}

/// Counts since the start, at one time. Each figure is exact; figures may be some microseconds apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// What went wrong, ordered by kind, reason and route.
    pub events: Vec<EventCount>,
    /// Requests answered, ordered by route and result.
    pub requests: Vec<RequestCount>,
    /// Connections admitted, by port of the listener.
    pub admitted: Vec<(u16, u64)>,
    /// TLS handshakes that ended well.
    pub handshakes: u64,
    /// How long requests took: the upper bound of each bucket in seconds (the last is infinite), and how many fell into
    /// it and into none before.
    pub durations: Vec<(f64, u64)>,
    /// How long all requests took together.
    pub duration: Duration,
}

/// How often something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventCount {
    /// What.
    pub kind: EventKind,
    /// Why; `other` for what exceeded the bounds.
    pub reason: &'static str,
    /// On which route.
    pub route: CountedRoute,
    /// How often.
    pub count: u64,
}

/// How many requests ended alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestCount {
    /// On which route.
    pub route: CountedRoute,
    /// The class of the status, as `2xx`.
    pub result: &'static str,
    /// How many.
    pub count: u64,
}

/// What a count belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CountedRoute {
    /// No route was known.
    Unknown,
    /// This route.
    Route(RouteId),
    /// All routes numbered beyond those that are counted one by one.
    Other,
}

impl EventCounters {
    /// The counts as they are now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut events = BTreeMap::new();
        let mut requests = BTreeMap::new();
        let mut admitted = BTreeMap::new();
        let mut durations = [0; BOUNDS.len() + 1];
        let mut counts = Counts::default();
        for shard in &self.shards {
            let tally = shard.lock();
            for (route, tally) in tally.by_route() {
                for (kind, reason, count) in &tally.events {
                    *events.entry((kind.index(), *reason, route)).or_default() += count;
                }
                for (result, count) in tally.results.iter().enumerate().filter(|(_, count)| **count > 0) {
                    *requests.entry((route, RESULTS[result])).or_default() += count;
                }
            }
            for (port, count) in &tally.admitted {
                *admitted.entry(*port).or_default() += count;
            }
            for (sum, count) in durations.iter_mut().zip(tally.durations) {
                *sum += count;
            }
            counts.duration = counts.duration.saturating_add(tally.duration);
            counts.handshakes += tally.handshakes;
        }
        let event = |((kind, reason, route), count): ((usize, _, _), _)| EventCount {
            kind: EventKind::ALL[kind],
            reason,
            route,
            count,
        };
        let bounds = BOUNDS.into_iter().map(|micros| Duration::from_micros(micros).as_secs_f64());
        counts.events = events.into_iter().map(event).collect();
        counts.requests =
            requests.into_iter().map(|((route, result), count)| RequestCount { route, result, count }).collect();
        counts.admitted = admitted.into_iter().collect();
        counts.durations = bounds.chain([f64::INFINITY]).zip(durations).collect();
        counts
    }

    /// The clients whose TLS handshakes failed most, at most `most` of them, each with how often that certainly was.
    #[must_use]
    pub fn failed_handshakes(&self, most: usize) -> Vec<(IpAddr, u64)> {
        let mut all: Vec<_> = lock(&self.handshakes.foremost).at_least().collect();
        all.sort_unstable_by_key(|&(client, count)| (Reverse(count), client));
        all.truncate(most);
        all
    }

    fn shard(&self) -> MutexGuard<'_, Tally> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            // Ordering: only that the numbers differ matters.
            static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        self.shards[NUMBER.with(|number| *number) % self.shards.len()].lock()
    }
}

impl Default for EventCounters {
    /// All counts zero.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = (0..cores.next_power_of_two().min(MAX_SHARDS)).map(|_| Shard::default()).collect();
        let handshakes = Failures { foremost: Mutex::new(Foremost::new()), hashes: RandomState::new() };
        Self { shards, handshakes }
    }
}

impl Report for EventCounters {
    fn event(&self, event: Event) {
        self.shard().of(event.route).event(event.kind, event.reason);
        if let (EventKind::TlsFailed, Some(client)) = (event.kind, event.source) {
            lock(&self.handshakes.foremost).add(client, self.handshakes.hashes.hash_one(client));
        }
    }

    fn admitted(&self, port: u16) {
        *self.shard().admitted.entry(port).or_default() += 1;
    }

    fn handshake(&self) {
        self.shard().handshakes += 1;
    }

    fn request(&self, outcome: RequestOutcome) {
        let micros = u64::try_from(outcome.elapsed.as_micros()).unwrap_or(u64::MAX);
        let class = usize::from(outcome.status / 100).wrapping_sub(1).min(RESULTS.len() - 1);
        let mut tally = self.shard();
        tally.of(outcome.route).results[class] += 1;
        tally.durations[BOUNDS.partition_point(|bound| *bound < micros)] += 1;
        tally.duration = tally.duration.saturating_add(outcome.elapsed);
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Tally> {
        lock(&self.0)
    }
}

fn lock<T>(counts: &Mutex<T>) -> MutexGuard<'_, T> {
    // Additions leave nothing half done, so counts are good whatever a thread died of.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    fn of(&mut self, route: Option<RouteId>) -> &mut RouteTally {
        let Some(route) = route else { return &mut self.unrouted };
        let index = route.index() as usize;
        if index >= MAX_ROUTES {
            return &mut self.beyond;
        }
        if index >= self.routes.len() {
            self.routes.resize(index + 1, RouteTally::default());
        }
        &mut self.routes[index]
    }

    fn by_route(&self) -> impl Iterator<Item = (CountedRoute, &RouteTally)> {
        let route = |index| RouteId::new(index).map_or(CountedRoute::Other, CountedRoute::Route);
        let routes = (0..).map(route).zip(&self.routes);
        [(CountedRoute::Unknown, &self.unrouted), (CountedRoute::Other, &self.beyond)].into_iter().chain(routes)
    }
}

impl RouteTally {
    fn event(&mut self, kind: EventKind, reason: &'static str) {
        let same = |(other, known, _): &&mut (EventKind, &'static str, u64)| *other == kind && *known == reason;
        if let Some((_, _, count)) = self.events.iter_mut().find(same) {
            *count += 1;
        } else if self.events.len() < MAX_REASONS || reason == OTHER {
            self.events.push((kind, reason, 1));
        } else {
            self.event(kind, OTHER);
        }
    }
}

#[cfg(test)]
mod tests;
