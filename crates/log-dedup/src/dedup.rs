//! The handle that events are recorded with.

use crate::builder::Builder;
use crate::core::Core;
use crate::counts::{Count, Totals};
use crate::{Kind, Settings};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Folds events into summaries. A handle: clones share one state.
///
/// Each kind is *quiet* or *folding*. The first [`burst`](crate::Folding::burst) events of a quiet kind are written as they
/// are and begin an episode. What comes after is counted, and each interval of the episode ends with one
/// [`Summary`](crate::Summary). An interval without an event ends the episode: a [`Closing`](crate::Closing) says how long
/// it took, if there was a summary before. So of each kind there is at most one line per interval, and at most `burst`
/// events as they are per episode. A sudden rise brings the line of an interval before its end: as soon as there are
/// 100 events, at 100 a second or more, and at [`rise`](crate::Folding::rise) times the rate of the interval before (0
/// before the first). The lines after it come an interval apart again.
///
/// **Exact.** Events written plus counts of summaries equal events recorded, whatever the threads, and the counts of
/// reasons and routes are those of the events: all three come from one counter per kind, reason and route.
/// **Estimated.** The number of different sources has a standard error of 1.7 %. The true count of a source in `top` lies
/// between the two that are given; they are one as long as no more than four sources of an interval share one of a
/// thread's 128 hash sets.
///
/// **Cost.** Counting takes no lock, and no allocation but when a thread first sees a kind or a key.
/// **Memory.** Per thread that ever recorded: 41 KB for each kind that folded with sources (8.5 KB of it in use per
/// interval), and 8 to 16 bytes for each key; the keys once per process, some 150 bytes each, and once more where they are
/// [counted since the start](Dedup::counts), at most 10 000 of a kind. All of a thread is freed in the sweep after its end.
///
/// Nothing is lost when the last handle drops: it writes what is left. See [`Guard`](crate::Guard) for the end of a process.
#[derive(Clone)]
pub struct Dedup {
    pub(crate) core: Arc<Core>,
}

impl Builder {
    /// The handle.
    ///
    /// # Panics
    /// With more than 64 kinds.
    #[must_use]
    pub fn build(self) -> Dedup {
        Dedup { core: Core::new(self) }
    }
}

impl Dedup {
    /// Begins with the default settings, no kinds, lines of text through [`tracing`] and the system's clock.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Takes note of one event: writes it if its kind has been quiet, else counts it. Returns whether it was written.
    ///
    /// If nobody ticks, this does once an interval is a quarter over its time.
    ///
    /// # Panics
    /// If there is no such kind.
    pub fn record(&self, kind: usize, reason: &'static str, route: Option<u32>, source: Option<IpAddr>) -> bool {
        self.core.record(kind, reason, route, source)
    }

    /// Writes the lines that are due. To be called some times per interval by a [`Guard`](crate::Guard)'s thread, a
    /// `ticking` task, or a loop of the program's own.
    pub fn tick(&self) {
        self.core.tick();
    }

    /// Writes a summary of every kind that has counted anything, whether it is due or not.
    pub fn flush(&self) {
        self.core.flush();
    }

    /// Goes by other settings from now on: all of `settings`, and for each of `kinds` that is known by name its
    /// folding. Nothing that was counted is lost.
    pub fn configure(&self, settings: Settings, kinds: &[Kind]) {
        self.core.configure(settings, kinds);
    }

    /// Events of one kind since the start.
    ///
    /// # Panics
    /// If there is no such kind.
    #[must_use]
    pub fn totals(&self, kind: usize) -> Totals {
        self.core.totals(kind)
    }

    /// Events since the start by kind, reason and route, in this order: for metrics, so that nobody has to count a second
    /// time. Exact and never less than before, unless a kind has had more than 10 000 combinations of reason and route:
    /// some of them are in `other` from then on.
    #[must_use]
    pub fn counts(&self) -> Vec<Count> {
        self.core.counts()
    }

    /// Events of all kinds since the start that were counted for a summary.
    #[must_use]
    pub fn folded(&self) -> u64 {
        self.core.kinds().map(|(index, _)| self.core.totals(index).folded).sum()
    }

    /// Every kind that is known, with its events since the start: those of the builder in their order, then those that
    /// tracing events have named.
    #[must_use]
    pub fn kinds(&self) -> Vec<(Kind, Totals)> {
        self.core.kinds().map(|(index, state)| (state.kind.clone(), self.core.totals(index))).collect()
    }

    /// How it folds.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.core.settings()
    }
}

impl fmt::Debug for Dedup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dedup").field("settings", &self.settings()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
