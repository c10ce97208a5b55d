//! Folding: the hot path, and taking the counts off it.

use crate::tally::{Tally, Total};
use crate::{Kind, Occurrence, Settings, Sink, Summary};
use ahash::RandomState;
use parking_lot::{Mutex, MutexGuard};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Cells beyond this many would cost memory and spare no waiting.
const MAX_CELLS: usize = 16;

/// Folds events into summaries. A handle: clones share one state.
///
/// Each kind is *quiet* or *folding*. The first [`burst`](Settings::burst) events of a quiet kind are written as they
/// are and open a window; what comes after is counted, and one [`Summary`] is written when the window ends. A window
/// without a folded event makes the kind quiet again.
///
/// **Exact.** Events written plus counts of summaries equal events recorded, whatever the threads, and each count of
/// a reason or route is exact. **Estimated.** The number of different sources has a standard error of 1.7 %. A source in
/// `top` has sent *at least* the count it is given: exactly that while no more than four sources of an interval share
/// one of a cell's 128 hash sets, else less by what it sent before it displaced another. A source with more than a
/// quarter of the events of its set is never displaced for good.
///
/// **Cost.** Counting takes one uncontended lock of the thread's own cell and no allocation, except when a kind or a
/// route is seen by a cell for the first time. **Memory.** Per kind that ever folded and cell (one per core, at most 16):
/// 21 KB, and 16 to 32 bytes for each of at most [`max_keys`](Settings::max_keys) routes.
///
/// Dropping the last handle writes what is left.
#[derive(Clone)]
pub struct Dedup {
    core: Arc<Core>,
}

/// Events of one kind since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Written as they were.
    pub written: u64,
    /// Counted for a summary.
    pub folded: u64,
}

impl Totals {
    /// All that were recorded.
    #[must_use]
    pub fn recorded(self) -> u64 {
        self.written + self.folded
    }
}

/// Gives a route its name; `None` where it has none (any more).
type Names = Box<dyn Fn(u32) -> Option<String> + Send + Sync>;

struct Core {
    settings: Settings,
    kinds: Vec<KindState>,
    cells: Box<[Cell]>,
    hashes: RandomState,
    names: Names,
    sink: Box<dyn Sink>,
    /// One flush at a time, so that summaries of a kind are written in order.
    flushing: Mutex<()>,
}

struct KindState {
    kind: Kind,
    /// Whether events are counted rather than written.
    folding: AtomicBool,
    /// Locked inside a cell's lock, never around one.
    window: Mutex<Window>,
}

struct Window {
    /// Events written since the kind was quiet; 0 while it is.
    open: u32,
    since: Instant,
    written: u64,
}

/// The counts of the threads that share it. A cache line of its own, so that the locks of two threads do not meet.
#[repr(align(128))]
struct Cell {
    tallies: Mutex<Vec<CellTally>>,
}

/// One kind in one cell.
#[derive(Default)]
struct CellTally {
    folded: u64,
    /// Made when the kind first folds here.
    tally: Option<Box<Tally>>,
}

impl Dedup {
    /// Folds events of `kinds`, which [`record`](Self::record) names by their place in the slice. `names` gives routes
    /// their names when a line is written; `now` is the time of the start.
    #[must_use]
    pub fn new(
        settings: Settings,
        kinds: &[Kind],
        now: Instant,
        names: impl Fn(u32) -> Option<String> + Send + Sync + 'static,
        sink: impl Sink,
    ) -> Self {
        let interval = settings.interval.max(Duration::from_millis(1));
        let settings = Settings { burst: settings.burst.max(1), interval, ..settings };
        let window = || Mutex::new(Window { open: 0, since: now, written: 0 });
        let state = |kind: &Kind| KindState { kind: *kind, folding: AtomicBool::new(false), window: window() };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cell = |_| Cell { tallies: Mutex::new(kinds.iter().map(|_| CellTally::default()).collect()) };
        let core = Core {
            settings,
            kinds: kinds.iter().map(state).collect(),
            cells: (0..cores.next_power_of_two().min(MAX_CELLS)).map(cell).collect(),
            hashes: RandomState::new(),
            names: Box::new(names),
            sink: Box::new(sink),
            flushing: Mutex::new(()),
        };
        Self { core: Arc::new(core) }
    }

    /// Takes note of one event: writes it if its kind has been quiet, else counts it. Returns whether it was written.
    ///
    /// # Panics
    /// If there is no such kind.
    pub fn record(
        &self,
        now: Instant,
        kind: usize,
        reason: &'static str,
        route: Option<u32>,
        source: Option<IpAddr>,
    ) -> bool {
        let core = &*self.core;
        let state = &core.kinds[kind];
        let hashed = source.map(|source| (source, core.hashes.hash_one(source)));
        let mut cell = core.cells[thread_number() % core.cells.len()].tallies.lock();
        if state.claim(now, core.settings.burst) {
            drop(cell);
            let route = route.map(|route| core.name(route));
            core.sink.occurrence(&Occurrence { kind: state.kind, reason, route, source });
            return true;
        }
        let tally = &mut cell[kind];
        tally.folded += 1;
        let counts = tally.tally.get_or_insert_with(|| Box::new(Tally::new()));
        counts.add(reason, route, hashed, core.settings.max_keys);
        false
    }

    /// Writes the summary of each kind whose interval is over. To be called some times per interval, from one place;
    /// [`Ticker`](crate::Ticker) does it.
    pub fn tick(&self, now: Instant) {
        self.core.sweep(now, self.core.settings.interval);
    }

    /// Writes the summary of every kind that has counted anything, whether its interval is over or not; the others
    /// become quiet.
    pub fn flush(&self, now: Instant) {
        self.core.sweep(now, Duration::ZERO);
    }

    /// Events of one kind since the start.
    ///
    /// # Panics
    /// If there is no such kind.
    #[must_use]
    pub fn totals(&self, kind: usize) -> Totals {
        let folded = self.core.cells.iter().map(|cell| cell.tallies.lock()[kind].folded).sum();
        Totals { written: self.core.kinds[kind].window.lock().written, folded }
    }

    /// Events of all kinds since the start that were counted for a summary.
    #[must_use]
    pub fn folded(&self) -> u64 {
        let of_cell = |cell: &Cell| cell.tallies.lock().iter().map(|tally| tally.folded).sum::<u64>();
        self.core.cells.iter().map(of_cell).sum()
    }

    /// How it folds.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.core.settings
    }
}

impl KindState {
    /// Whether the event at hand is to be written. The caller holds the lock of a cell, see [`Core::settle`].
    fn claim(&self, now: Instant, burst: u32) -> bool {
        // Ordering: it is changed under all cell locks (to false) or under the window's (to true); of the latter an
        // old value is harmless, because the window is asked again.
        if self.folding.load(Ordering::Relaxed) {
            return false;
        }
        let mut window = self.window.lock();
        if window.open >= burst {
            return false;
        }
        if window.open == 0 {
            window.since = now;
        }
        window.open += 1;
        window.written += 1;
        if window.open == burst {
            // Ordering: see above.
            self.folding.store(true, Ordering::Relaxed);
        }
        true
    }
}

impl Core {
    /// Ends every window that is at least `age` old.
    fn sweep(&self, now: Instant, age: Duration) {
        let _one_at_a_time = self.flushing.lock();
        for (index, state) in self.kinds.iter().enumerate() {
            let (open, elapsed) = {
                let window = state.window.lock();
                (window.open > 0, now.saturating_duration_since(window.since))
            };
            if !open || elapsed < age {
                continue;
            }
            let total = self.collect(index);
            if total.counts.count == 0 {
                self.settle(index, state);
                continue;
            }
            state.window.lock().since = now;
            self.sink.summary(&self.summarise(state.kind, &total, elapsed));
        }
    }

    /// Takes the counts of one kind off the cells.
    fn collect(&self, kind: usize) -> Total {
        let mut total = Total::new();
        for cell in &self.cells {
            let mut tallies = cell.tallies.lock();
            let Some(tally) = tallies[kind].tally.as_mut().filter(|tally| tally.count > 0) else { continue };
            total.merge(tally, self.settings.max_keys);
            tally.clear();
        }
        total
    }

    /// Makes a kind quiet, unless something was counted meanwhile. Under all cell locks, so that no event can be
    /// between its decision to be counted and its count.
    fn settle(&self, kind: usize, state: &KindState) {
        let cells: Vec<MutexGuard<'_, Vec<CellTally>>> = self.cells.iter().map(|cell| cell.tallies.lock()).collect();
        if cells.iter().any(|cell| cell[kind].tally.as_ref().is_some_and(|tally| tally.count > 0)) {
            return;
        }
        state.window.lock().open = 0;
        // Ordering: see `claim`.
        state.folding.store(false, Ordering::Relaxed);
    }

    fn summarise(&self, kind: Kind, total: &Total, elapsed: Duration) -> Summary {
        let most = self.settings.top_sources;
        let counts = &total.counts;
        let reasons = counts.reasons.iter().map(|(reason, count)| ((*reason).to_owned(), *count));
        let (routes, other_routes) = ranked(counts.routes.iter().map(|(route, count)| (*route, *count)), most);
        let routes = routes.into_iter().map(|(route, count)| (self.name(route), count));
        Summary {
            kind,
            count: counts.count,
            elapsed,
            sources: counts.distinct.estimate(),
            reasons: with_other(ranked(reasons, usize::MAX).0, counts.other_reasons),
            routes: with_other(routes.collect(), counts.other_routes + other_routes),
            top: ranked(total.sources.iter().map(|(source, count)| (*source, *count)), most).0,
        }
    }

    fn name(&self, route: u32) -> String {
        (self.names)(route).unwrap_or_else(|| format!("#{route}"))
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.sweep(Instant::now(), Duration::ZERO);
    }
}

impl fmt::Debug for Dedup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dedup").field("settings", &self.core.settings).finish_non_exhaustive()
    }
}

/// The `most` largest, largest first, and the sum of the others. Equal counts are ordered by name.
fn ranked<T: Ord>(parts: impl Iterator<Item = (T, u64)>, most: usize) -> (Vec<(T, u64)>, u64) {
    let mut parts: Vec<_> = parts.collect();
    parts.sort_unstable_by(|(left, many), (right, more)| more.cmp(many).then_with(|| left.cmp(right)));
    let others = parts.iter().skip(most).map(|(_, count)| count).sum();
    parts.truncate(most);
    (parts, others)
}

fn with_other(mut parts: Vec<(String, u64)>, other: u64) -> Vec<(String, u64)> {
    if other > 0 {
        parts.push(("other".to_owned(), other));
    }
    parts
}

/// A small number of its own for each thread.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        // Ordering: only that the numbers differ matters.
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests;
