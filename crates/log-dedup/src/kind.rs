//! What is folded into one line, and how.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tracing::Level;

/// How events of one kind are folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folding {
    /// Time between two summaries. 0 is taken as a millisecond.
    pub interval: Duration,
    /// How many sources, and how many routes, a summary names at most.
    pub top_sources: usize,
    /// How many events are written as they are before folding begins. 0 is taken as 1: after a quiet time the first
    /// event is always written.
    pub burst: u32,
    /// A summary comes before its time when events come this many times as fast as in the interval before; 0 is never.
    /// See [`Dedup`](crate::Dedup) for when exactly.
    pub rise: u32,
}

impl Default for Folding {
    /// A summary every five seconds, naming ten sources, after one event written as it is; earlier at ten times the rate.
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), top_sources: 10, burst: 1, rise: 10 }
    }
}

impl Folding {
    /// The same without zeros where they make no sense.
    pub(crate) fn sound(self) -> Self {
        Self { interval: self.interval.max(Duration::from_millis(1)), burst: self.burst.max(1), ..self }
    }
}

/// How everything is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Kinds that have no [`Folding`] of their own.
    pub folding: Folding,
    /// How many combinations of kind, reason and route are counted one by one; what comes beyond within an interval is
    /// counted as `other`. Each thread keeps 8 bytes for each.
    pub max_keys: usize,
}

impl Default for Settings {
    /// The [default folding](Folding::default), and 10 000 combinations.
    fn default() -> Self {
        Self { folding: Folding::default(), max_keys: 10_000 }
    }
}

/// One kind of event: what is folded into one line.
///
/// ```
/// use log_dedup::Kind;
/// use tracing::Level;
///
/// let kind = Kind::new("terminated").reads("terminated", "connection", "connections").causes("causes").at(Level::INFO);
/// assert_eq!(kind.name(), "terminated");
/// ```
#[derive(Clone)]
pub struct Kind {
    pub(crate) name: Cow<'static, str>,
    pub(crate) verb: Cow<'static, str>,
    pub(crate) one: Cow<'static, str>,
    pub(crate) many: Cow<'static, str>,
    pub(crate) reasons: &'static str,
    pub(crate) sources: &'static str,
    pub(crate) level: Level,
    pub(crate) folding: Option<Folding>,
    pub(crate) gauge: Option<Gauge>,
}

/// A number that is asked for when a line is written.
#[derive(Clone)]
pub(crate) struct Gauge {
    pub(crate) name: &'static str,
    pub(crate) read: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Kind {
    /// A kind of this name, whose lines are warnings: `NAME 12 events in 5.0s …`.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        let name = name.into();
        Self {
            verb: name.clone(),
            name,
            one: "event".into(),
            many: "events".into(),
            reasons: "reasons",
            sources: "clients",
            level: Level::WARN,
            folding: None,
            gauge: None,
        }
    }

    /// How it reads: what was done, to one of what, to many of what, as in `refused`, `connection`, `connections`.
    #[must_use]
    pub fn reads(self, verb: &'static str, one: &'static str, many: &'static str) -> Self {
        Self { verb: verb.into(), one: one.into(), many: many.into(), ..self }
    }

    /// What its reasons are called in lines of text, instead of `reasons`.
    #[must_use]
    pub fn causes(self, reasons: &'static str) -> Self {
        Self { reasons, ..self }
    }

    /// What its sources are called in lines of text, instead of `clients`.
    #[must_use]
    pub fn from_whom(self, sources: &'static str) -> Self {
        Self { sources, ..self }
    }

    /// The level of its lines, instead of a warning.
    #[must_use]
    pub fn at(self, level: Level) -> Self {
        Self { level, ..self }
    }

    /// How it is folded, instead of as in [`Settings`].
    #[must_use]
    pub fn folded(self, folding: Folding) -> Self {
        Self { folding: Some(folding), ..self }
    }

    /// Every summary says how large something is at that moment, such as `active` connections.
    #[must_use]
    pub fn gauge(self, name: &'static str, read: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { gauge: Some(Gauge { name, read: Arc::new(read) }), ..self }
    }

    /// The name in structured logs, and the value of the field `fold` of events that belong to it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The level of its lines.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind").field("name", &self.name).field("level", &self.level).finish_non_exhaustive()
    }
}

/// Kinds at most; what tracing events name beyond is of the kind `other`.
pub(crate) const MOST_KINDS: usize = if cfg!(loom) { 2 } else { 64 };
