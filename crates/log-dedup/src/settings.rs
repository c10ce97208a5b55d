//! What to fold, and how far.

use std::time::Duration;
use tracing::Level;

/// How events are folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time between two summaries of one kind. 0 is taken as a millisecond.
    pub interval: Duration,
    /// How many sources, and how many routes, a summary names at most.
    pub top_sources: usize,
    /// How many routes are counted one by one, per kind; what comes beyond is counted as `other`.
    pub max_keys: usize,
    /// How many events of a kind are written as they are before folding begins. 0 is taken as 1: after a quiet time
    /// the first event is always written.
    pub burst: u32,
}

impl Default for Settings {
    /// A summary every five seconds, naming ten sources, of at most 10 000 routes, after one event written as it is.
    fn default() -> Self {
        Self { interval: Duration::from_secs(5), top_sources: 10, max_keys: 10_000, burst: 1 }
    }
}

/// One kind of event: what is folded into one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The name in structured logs, such as `refused`.
    pub name: &'static str,
    /// What was done, such as `refused`.
    pub verb: &'static str,
    /// To one of what, such as `connection`.
    pub one: &'static str,
    /// To many of what, such as `connections`.
    pub many: &'static str,
    /// The level of its lines.
    pub level: Level,
}

impl Kind {
    /// A kind whose lines are warnings.
    #[must_use]
    pub const fn new(name: &'static str, verb: &'static str, one: &'static str, many: &'static str) -> Self {
        Self { name, verb, one, many, level: Level::WARN }
    }

    /// The same kind with lines of another level.
    #[must_use]
    pub const fn at(self, level: Level) -> Self {
        Self { level, ..self }
    }
}
