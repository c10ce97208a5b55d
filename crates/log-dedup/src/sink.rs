//! Where lines go.

use crate::text::{Escaped, Timestamp};
use crate::{Closing, Occurrence, Summary};
use std::fmt::{Debug, Write};
use tracing::Level;

/// Receives what is to be written.
///
/// **Contract.** Must not [tick](crate::Dedup::tick), [flush](crate::Dedup::flush) or drop the last handle. If it panics on
/// a summary, the events are in the next one. **Cost.** May do I/O: no lock of the hot path is held. **Called.**
/// `occurrence` on the thread that recorded the event, the others on the one that sweeps, one at a time.
pub trait Sink: Debug + Send + Sync + 'static {
    /// One event, as it is.
    fn occurrence(&self, occurrence: &Occurrence);

    /// Many events of one kind.
    fn summary(&self, summary: &Summary);

    /// The events of one kind are over.
    fn closing(&self, closing: &Closing);
}

/// Writes through [`tracing`], with the target `log_dedup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToTracing {
    /// Everything in the message: for subscribers that print lines of text.
    Message,
    /// A short message and everything else as fields: for subscribers that write JSON or a journal. All lines have
    /// `kind`. One event: `reason`, `route`, `source`. A summary: `count`, `seconds`, `per_second`, `first` and `last`
    /// (RFC 3339), `clients`, `reasons` and `routes` (as `name=count name=count`), `top` (as `address=at_least..at_most`),
    /// and the name of its gauge with its value in `gauge`. An end: `stopped_after_seconds`, `total`.
    Fields,
}

/// The `tracing` macros want a level that is known when they are compiled.
macro_rules! event_at {
    ($level:expr, $($event:tt)+) => {
        match $level {
            Level::ERROR => tracing::event!(target: "log_dedup", Level::ERROR, $($event)+),
            Level::WARN => tracing::event!(target: "log_dedup", Level::WARN, $($event)+),
            Level::INFO => tracing::event!(target: "log_dedup", Level::INFO, $($event)+),
            Level::DEBUG => tracing::event!(target: "log_dedup", Level::DEBUG, $($event)+),
            Level::TRACE => tracing::event!(target: "log_dedup", Level::TRACE, $($event)+),
        }
    };
}

impl Sink for ToTracing {
    fn occurrence(&self, occurrence: &Occurrence) {
        let Occurrence { kind, reason, route, source } = occurrence;
        match self {
            Self::Message => event_at!(kind.level, "{occurrence}"),
            Self::Fields => {
                let (source, route) = (source.map(tracing::field::display), route.as_deref());
                event_at!(kind.level, kind = kind.name(), reason, route, source, "{} {}", kind.verb, kind.one);
            }
        }
    }

    fn summary(&self, summary: &Summary) {
        let kind = &summary.kind;
        match self {
            Self::Message => event_at!(kind.level, "{summary}"),
            Self::Fields => {
                let (first, last) = (summary.span.map(|span| span.0), summary.span.map(|span| span.1));
                let gauge = summary.gauge.map(|(name, value)| format!("{name}={value}"));
                event_at!(
                    kind.level,
                    kind = kind.name(),
                    count = summary.count,
                    seconds = summary.elapsed.as_secs_f64(),
                    per_second = thousandths(summary.per_second()),
                    first = first.map(|first| tracing::field::display(Timestamp(first))),
                    last = last.map(|last| tracing::field::display(Timestamp(last))),
                    gauge,
                    clients = summary.sources,
                    reasons = names(&summary.reasons),
                    routes = names(&summary.routes),
                    top = top(summary),
                    "{} {}",
                    kind.verb,
                    kind.many
                );
            }
        }
    }

    fn closing(&self, closing: &Closing) {
        let Closing { kind, lasted, total } = closing;
        match self {
            Self::Message => event_at!(kind.level, "{closing}"),
            Self::Fields => event_at!(
                kind.level,
                kind = kind.name(),
                stopped_after_seconds = lasted.as_secs_f64(),
                total,
                "{} {}: stopped",
                kind.verb,
                kind.many
            ),
        }
    }
}

/// Digits beyond say nothing.
fn thousandths(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

fn names(parts: &[(String, u64)]) -> String {
    joined(parts.iter().map(|(name, count)| format!("{}={count}", Escaped(name))))
}

fn top(summary: &Summary) -> String {
    joined(summary.top.iter().map(|top| format!("{}={}..{}", top.source, top.at_least, top.at_most)))
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for part in parts {
        let space = if text.is_empty() { "" } else { " " };
        write!(text, "{space}{part}").expect("a string takes everything");
    }
    text
}
