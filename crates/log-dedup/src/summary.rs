//! What is written: one event as it is, or many as a summary.

use crate::Kind;
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

/// One event, written as it is because its kind had been quiet.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What happened.
    pub kind: Kind,
    /// How often: exact, and the sum of the reasons.
    pub count: u64,
    /// In how long.
    pub elapsed: Duration,
    /// How many different sources, within a standard error of 1.7 %; 0 if none was known.
    pub sources: u64,
    /// Why, most frequent first; `other` last.
    pub reasons: Vec<(String, u64)>,
    /// On which routes, most frequent first and at most [`Settings::top_sources`](crate::Settings::top_sources); then
    /// all others as `other`. Events whose route was not known are in none.
    pub routes: Vec<(String, u64)>,
    /// From whom most often: at least so many events each, see [`Dedup`](crate::Dedup) for how sure that is.
    pub top: Vec<(IpAddr, u64)>,
}

impl Summary {
    /// Events a second.
    #[must_use]
    pub fn per_second(&self) -> u64 {
        let micros = self.elapsed.as_micros().max(1);
        u64::try_from(u128::from(self.count) * 1_000_000 / micros).unwrap_or(u64::MAX)
    }
}

/// As a line of text: `refused connection reason=client_limit route=shop source=203.0.113.7`.
impl fmt::Display for Occurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, reason, route, source } = self;
        write!(f, "{} {} reason={reason}", kind.verb, kind.one)?;
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
        let Self { kind, count, elapsed, sources, reasons, routes, top } = self;
        let noun = if *count == 1 { kind.one } else { kind.many };
        let (count, rate) = (Grouped(*count), Grouped(self.per_second()));
        write!(f, "{} {count} {noun} in {:.1}s ({rate}/s)", kind.verb, elapsed.as_secs_f64())?;
        if *sources > 0 {
            write!(f, " clients≈{}", Grouped(*sources))?;
        }
        for (title, parts) in [("reasons", reasons), ("routes", routes)] {
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
        for (source, count) in top {
            write!(f, " {source}×{}", Grouped(*count))?;
        }
        if top.is_empty() || *sources <= top.len() as u64 { Ok(()) } else { f.write_str(" (+others)") }
    }
}

/// A number with its digits in groups of three.
struct Grouped(u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            small @ 0..1000 => write!(f, "{small}"),
            large => write!(f, "{} {:03}", Self(large / 1000), large % 1000),
        }
    }
}

/// A name that cannot break a line, or look like two.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                ' ' => f.write_str("\\x20")?,
                '=' => f.write_str("\\x3d")?,
                '\'' | '"' => f.write_char(letter)?,
                _ => write!(f, "{}", letter.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Kind = Kind::new("refused", "refused", "connection", "connections");

    fn parts(parts: &[(&str, u64)]) -> Vec<(String, u64)> {
        parts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_summary_reads_as_documented() {
        let mut summary = Summary {
            kind: REFUSED,
            count: 48_213,
            elapsed: Duration::from_secs(5),
            sources: 3907,
            reasons: parts(&[("client_limit", 40_100), ("route_limit", 8113)]),
            routes: parts(&[("shop", 41_002), ("api", 7211)]),
            top: vec![("203.0.113.7".parse().unwrap(), 21_004), ("198.51.100.9".parse().unwrap(), 9120)],
        };
        assert_eq!(
            summary.to_string(),
            "refused 48 213 connections in 5.0s (9 642/s) clients≈3 907 \
             reasons client_limit=40 100 route_limit=8 113 routes shop=41 002 api=7 211 \
             top 203.0.113.7×21 004 198.51.100.9×9 120 (+others)"
        );
        summary.sources = 2;
        assert!(summary.to_string().ends_with("198.51.100.9×9 120"), "there are no others");
    }

    #[test]
    fn what_is_not_known_is_not_written() {
        let summary = Summary {
            kind: REFUSED,
            count: 1,
            elapsed: Duration::ZERO,
            sources: 0,
            reasons: parts(&[("x", 1)]),
            routes: vec![],
            top: vec![],
        };
        assert_eq!(summary.to_string(), "refused 1 connection in 0.0s (1 000 000/s) reasons x=1");
        let one = Occurrence { kind: REFUSED, reason: "x", route: None, source: None };
        assert_eq!(one.to_string(), "refused connection reason=x");
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        let route = Some("a b\nready\u{1b}[31m source=1\u{202e}\\".to_owned());
        let one = Occurrence { kind: REFUSED, reason: "x", route, source: "2001:db8::1".parse().ok() };
        assert_eq!(
            one.to_string(),
            "refused connection reason=x route=a\\x20b\\nready\\u{1b}[31m\\x20source\\x3d1\\u{202e}\\\\ source=2001:db8::1"
        );
    }

    #[test]
    fn digits_come_in_groups() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1 000"), (1_002_003, "1 002 003")] {
            assert_eq!(Grouped(number).to_string(), text);
        }
    }
}
