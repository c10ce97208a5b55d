//! Where lines go.

use crate::summary::Escaped;
use crate::{Occurrence, Summary};
use std::fmt::{Debug, Write};
use std::net::IpAddr;
use tracing::Level;

/// Receives what is to be written.
///
/// **Contract.** Must not call [`tick`](crate::Dedup::tick) or [`flush`](crate::Dedup::flush). **Cost.** May do I/O: no lock of
/// the hot path is held. **Called.** `occurrence` on the thread that recorded the event, `summary` on the one that
/// flushes.
pub trait Sink: Debug + Send + Sync + 'static {
    /// One event, as it is.
    fn occurrence(&self, occurrence: &Occurrence);

    /// Many events of one kind.
    fn summary(&self, summary: &Summary);
}

/// Writes through [`tracing`], with the target `log_dedup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToTracing {
    /// Everything in the message: for subscribers that print lines of text.
    Message,
    /// A short message and everything else as fields: for subscribers that write JSON or a journal. Fields: `kind`,
    /// then `reason`, `route`, `source` or `count`, `seconds`, `per_second`, `clients`, `reasons`, `routes`, `top`; the
    /// last three as `name=count name=count`.
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
        let kind = occurrence.kind;
        match self {
            Self::Message => event_at!(kind.level, "{occurrence}"),
            Self::Fields => {
                let source = occurrence.source.map(tracing::field::display);
                let route = occurrence.route.as_deref();
                event_at!(
                    kind.level,
                    kind = kind.name,
                    reason = occurrence.reason,
                    route,
                    source,
                    "{} {}",
                    kind.verb,
                    kind.one
                );
            }
        }
    }

    fn summary(&self, summary: &Summary) {
        let kind = summary.kind;
        match self {
            Self::Message => event_at!(kind.level, "{summary}"),
            Self::Fields => event_at!(
                kind.level,
                kind = kind.name,
                count = summary.count,
                seconds = summary.elapsed.as_secs_f64(),
                per_second = summary.per_second(),
                clients = summary.sources,
                reasons = names(&summary.reasons),
                routes = names(&summary.routes),
                top = addresses(&summary.top),
                "{} {}",
                kind.verb,
                kind.many
            ),
        }
    }
}

fn names(parts: &[(String, u64)]) -> String {
    joined(parts.iter().map(|(name, count)| (Escaped(name), *count)))
}

fn addresses(parts: &[(IpAddr, u64)]) -> String {
    joined(parts.iter().copied())
}

fn joined<T: std::fmt::Display>(parts: impl Iterator<Item = (T, u64)>) -> String {
    let mut text = String::new();
    for (name, count) in parts {
        let space = if text.is_empty() { "" } else { " " };
        write!(text, "{space}{name}={count}").expect("a string takes everything");
    }
    text
}
