//! What is written: one event as it is, many as a summary, and that they are over.

use crate::Kind;
use crate::text::{Escaped, Grouped, Lasted, Rate, TimeOfDay};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// One event, written as it is because its kind had been quiet.
#[derive(Clone, Debug)]
pub struct Occurrence {
    /// What happened.
    pub kind: Kind,
    /// Why.
    pub reason: &'static str,
    /// On which route.
    pub route: Option<String>,
    /// From whom.
    pub source: Option<IpAddr>,
}

/// Every event of one kind in one interval that was not written as it is.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What happened.
    pub kind: Kind,
    /// How often: exact, and the sum of the reasons.
    pub count: u64,
    /// In how long.
    pub elapsed: Duration,
    /// When the first and the last of them were, to the precision of the clock.
    pub span: Option<(SystemTime, SystemTime)>,
    /// How many different sources, within a standard error of 1.7 %; 0 if none was known.
    pub sources: u64,
    /// Why, most frequent first and at most 16; then all others as `other`.
    pub reasons: Vec<(String, u64)>,
    /// On which routes, most frequent first and at most [`Folding::top_sources`](crate::Folding::top_sources); then
    /// all others as `other`. Events whose route was not known are in none.
    pub routes: Vec<(String, u64)>,
    /// From whom most often; sources of which less than half is certain are left out, as when all are alike.
    pub top: Vec<TopSource>,
    /// What the kind's [gauge](Kind::gauge) said.
    pub gauge: Option<(&'static str, u64)>,
}

/// A source that many of the events are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopSource {
    /// Who.
    pub source: IpAddr,
    /// Events that are certainly from it.
    pub at_least: u64,
    /// Events that may be from it; the same number where it is exact.
    pub at_most: u64,
}

/// Events of one kind have come to an end: there was none for a whole interval.
#[derive(Clone, Debug)]
pub struct Closing {
    /// What happened no more.
    pub kind: Kind,
    /// From the first event to the last.
    pub lasted: Duration,
    /// All events in that time, those written as they were included.
    pub total: u64,
}

impl Summary {
    /// Events a second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64().max(1e-6)
    }
}

/// As a line of text: `refused connection reason=client_limit route=shop source=203.0.113.7`.
impl fmt::Display for Occurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, reason, route, source } = self;
        write!(f, "{} {} reason={}", kind.verb, kind.one, Escaped(reason))?;
        if let Some(route) = route {
            write!(f, " route={}", Escaped(route))?;
        }
        match source {
            Some(source) => write!(f, " source={source}"),
            None => Ok(()),
        }
    }
}

/// As a line of text, with digits in groups of three: `refused 48 213 connections in 5.0s (9 642/s) clients≈3 907 …`.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, count, elapsed, span, sources, reasons, routes, top, gauge } = self;
        let noun = if *count == 1 { &kind.one } else { &kind.many };
        let (count, rate) = (Grouped(*count), Rate(self.per_second()));
        write!(f, "{} {count} {noun} in {:.1}s ({rate})", Escaped::plain(&kind.verb), elapsed.as_secs_f64())?;
        if let Some((name, value)) = gauge {
            write!(f, " {name}={}", Grouped(*value))?;
        }
        if *sources > 0 {
            write!(f, " {}≈{}", kind.sources, Grouped(*sources))?;
        }
        for (title, parts) in [(kind.reasons, reasons), ("routes", routes)] {
            if !parts.is_empty() {
                write!(f, " {title}")?;
            }
            for (name, count) in parts {
                write!(f, " {}={}", Escaped(name), Grouped(*count))?;
            }
        }
        if !top.is_empty() {
            f.write_str(" top")?;
        }
        for source in top {
            write!(f, " {source}")?;
        }
        if !top.is_empty() && *sources > top.len() as u64 {
            f.write_str(" (+others)")?;
        }
        match span {
            Some((first, last)) => write!(f, " from {} to {}", TimeOfDay(*first), TimeOfDay(*last)),
            None => Ok(()),
        }
    }
}

/// As in a line of text: `203.0.113.7×21 004`, or `203.0.113.7×21 004–21 377` where it is not exact.
impl fmt::Display for TopSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, at_least, at_most } = *self;
        write!(f, "{source}×{}", Grouped(at_least))?;
        if at_most > at_least { write!(f, "–{}", Grouped(at_most)) } else { Ok(()) }
    }
}

/// As a line of text: `refused connections: stopped after 3m12s, 1 204 331 in total`.
impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, lasted, total } = self;
        let (verb, lasted, total) = (Escaped::plain(&kind.verb), Lasted(*lasted), Grouped(*total));
        write!(f, "{verb} {}: stopped after {lasted}, {total} in total", kind.many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn refused() -> Kind {
        Kind::new("refused").reads("refused", "connection", "connections")
    }

    fn parts(parts: &[(&str, u64)]) -> Vec<(String, u64)> {
        parts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    fn top(source: &str, at_least: u64, at_most: u64) -> TopSource {
        TopSource { source: source.parse().unwrap(), at_least, at_most }
    }

    #[test]
    fn a_summary_reads_as_documented() {
        let at = |millis: u64| UNIX_EPOCH + Duration::from_millis(1_790_000_000_000 + millis);
        let mut summary = Summary {
            kind: refused(),
            count: 48_213,
            elapsed: Duration::from_secs(5),
            span: Some((at(0), at(4_987))),
            sources: 3907,
            reasons: parts(&[("client_limit", 40_100), ("route_limit", 8113)]),
            routes: parts(&[("shop", 41_002), ("api", 7211)]),
            top: vec![top("203.0.113.7", 21_004, 21_004), top("198.51.100.9", 9120, 9377)],
            gauge: None,
        };
        assert_eq!(
            summary.to_string(),
            "refused 48 213 connections in 5.0s (9 642/s) clients≈3 907 \
             reasons client_limit=40 100 route_limit=8 113 routes shop=41 002 api=7 211 \
             top 203.0.113.7×21 004 198.51.100.9×9 120–9 377 (+others) from 14:13:20.000 to 14:13:24.987"
        );
        (summary.sources, summary.span) = (2, None);
        assert!(summary.to_string().ends_with("198.51.100.9×9 120–9 377"), "there are no others");
    }

    #[test]
    fn what_is_not_known_is_not_written() {
        let summary = Summary {
            kind: refused(),
            count: 1,
            elapsed: Duration::ZERO,
            span: None,
            sources: 0,
            reasons: parts(&[("x", 1)]),
            routes: vec![],
            top: vec![],
            gauge: None,
        };
        assert_eq!(summary.to_string(), "refused 1 connection in 0.0s (1 000 000/s) reasons x=1");
        let one = Occurrence { kind: refused(), reason: "x", route: None, source: None };
        assert_eq!(one.to_string(), "refused connection reason=x");
    }

    #[test]
    fn a_kind_says_what_its_reasons_and_sources_are_and_how_much_is_left() {
        let kind = Kind::new("terminated").reads("terminated", "connection", "connections");
        let summary = Summary {
            kind: kind.causes("causes").from_whom("peers"),
            count: 12,
            elapsed: Duration::from_secs(4),
            span: None,
            sources: 3,
            reasons: parts(&[("idle", 12)]),
            routes: vec![],
            top: vec![],
            gauge: Some(("active", 4211)),
        };
        assert_eq!(
            summary.to_string(),
            "terminated 12 connections in 4.0s (3.0/s) active=4 211 peers≈3 causes idle=12"
        );
    }

    #[test]
    fn the_end_reads_as_documented() {
        let closing = Closing { kind: refused(), lasted: Duration::from_secs(192), total: 1_204_331 };
        assert_eq!(closing.to_string(), "refused connections: stopped after 3m12s, 1 204 331 in total");
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        let route = Some("a b\nready\u{1b}[31m source=1\u{202e}\\".to_owned());
        let one = Occurrence { kind: refused(), reason: "x", route, source: "2001:db8::1".parse().ok() };
        assert_eq!(
            one.to_string(),
            "refused connection reason=x route=a\\x20b\\nready\\u{1b}[31m\\x20source\\x3d1\\u{202e}\\\\ source=2001:db8::1"
        );
    }
}
