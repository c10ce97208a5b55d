//! Counting what happens, on every worker at once.

mod shard;

use conn_tracker::{Event, EventKind, Report, RequestOutcome, RouteId};
use log_dedup::{Dedup, Foremost, Kind, Route};
use shard::Shard;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Routes whose requests have counts of their own; those numbered beyond are counted together.
const MAX_ROUTES: usize = 10_000;
/// The result of an answer whose status is none.
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

/// Counts of everything a [`Report`] hears. Events are counted once, by what folds the log of them.
///
/// **Cost.** Some additions to counters of a few threads; no lock, and no allocation, except when something is seen for
/// the first time. **Memory.** Bounded by routes, ports and reasons, all of which come from the configuration and the
/// program: no address is ever kept, but for those of the clients whose TLS handshakes fail most.
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
/// assert_eq!((&*counts.events[0].reason, counts.events[0].count), ("client_limit", 2));
/// ```
#[derive(Debug)]
pub struct EventCounters {
    log: Dedup,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventCount {
    /// What.
    pub kind: EventKind,
    /// Why; `other` for what exceeded the bounds.
    pub reason: Cow<'static, str>,
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
    /// Counts of nothing yet. `log` folds the log of the events: its kinds begin with those of [`EventKind::ALL`].
    #[must_use]
    pub fn new(log: Dedup) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = (0..cores.next_power_of_two().min(MAX_SHARDS)).map(|_| Shard::default()).collect();
        let handshakes = Failures { foremost: Mutex::new(Foremost::new()), hashes: RandomState::new() };
        Self { log, shards, handshakes }
    }

    /// What folds the log.
    #[must_use]
    pub fn log(&self) -> &Dedup {
        &self.log
    }

    /// The counts as they are now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { events: self.events(), ..Counts::default() };
        let mut requests = BTreeMap::new();
        let mut admitted = BTreeMap::new();
        let mut durations = [0; BOUNDS.len() + 1];
        for shard in &self.shards {
            for (route, result, count) in shard.requests() {
                *requests.entry((route, RESULTS[result])).or_default() += count;
            }
            for (port, count) in shard.admitted() {
                *admitted.entry(port).or_default() += count;
            }
            for (sum, count) in durations.iter_mut().zip(shard.durations()) {
                *sum += count;
            }
            counts.duration = counts.duration.saturating_add(shard.duration());
            counts.handshakes += shard.handshakes();
        }
        let bounds = BOUNDS.into_iter().map(|micros| Duration::from_micros(micros).as_secs_f64());
        counts.requests =
            requests.into_iter().map(|((route, result), count)| RequestCount { route, result, count }).collect();
        counts.admitted = admitted.into_iter().collect();
        counts.durations = bounds.chain([f64::INFINITY]).zip(durations).collect();
        counts
    }

    fn events(&self) -> Vec<EventCount> {
        let known = |count: log_dedup::Count| {
            let route = match count.route {
                Route::Unknown => CountedRoute::Unknown,
                Route::Number(number) => RouteId::new(number).map_or(CountedRoute::Other, CountedRoute::Route),
                Route::Name(_) | Route::Other => CountedRoute::Other,
            };
            // What libraries log has kinds of its own after these.
            let kind = *EventKind::ALL.get(count.kind)?;
            Some(EventCount { kind, reason: count.reason, route, count: count.count })
        };
        self.log.counts().into_iter().filter_map(known).collect()
    }

    /// The clients whose TLS handshakes failed most, at most `most` of them, each with how often that certainly was.
    #[must_use]
    pub fn failed_handshakes(&self, most: usize) -> Vec<(IpAddr, u64)> {
        let mut all = lock(&self.handshakes.foremost).counts();
        all.truncate(most);
        all
    }

    fn shard(&self) -> &Shard {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            // Ordering: only that the numbers differ matters.
            static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        &self.shards[NUMBER.with(|number| *number) % self.shards.len()]
    }
}

impl Default for EventCounters {
    /// All counts zero, and lines through `tracing` as [`Dedup`] writes them by default.
    fn default() -> Self {
        Self::new(Dedup::builder().kinds(EventKind::ALL.map(|kind| Kind::new(kind.label()))).build())
    }
}

impl Report for EventCounters {
    fn event(&self, event: Event) {
        self.log.record(event.kind.index(), event.reason, event.route.map(RouteId::index), event.source);
        if let (EventKind::TlsFailed, Some(client)) = (event.kind, event.source) {
            lock(&self.handshakes.foremost).count(client, self.handshakes.hashes.hash_one(client));
        }
    }

    fn admitted(&self, port: u16) {
        self.shard().admit(port);
    }

    fn handshake(&self) {
        self.shard().handshake();
    }

    fn request(&self, outcome: RequestOutcome) {
        self.shard().request(outcome);
    }
}

fn lock<T>(counts: &Mutex<T>) -> MutexGuard<'_, T> {
    // Additions leave nothing half done, so counts are good whatever a thread died of.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
