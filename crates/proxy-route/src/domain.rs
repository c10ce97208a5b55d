//! Domain patterns: `shop.test`, `*.shop.test`, `*`.

use std::fmt;

/// A pattern for names, in lower case and without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DomainPattern {
    /// Every name, and no name at all.
    Any,
    /// This name.
    Exact(String),
    /// Every name below this one, at any depth; not the name itself.
    Below(String),
}

/// A text that is no domain pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DomainError {
    /// Nothing, or an empty label.
    Empty,
    /// A character that no host name has.
    Character(char),
    /// A `*` that is not the whole first label.
    Wildcard,
}

impl fmt::Display for DomainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a domain has no empty label"),
            Self::Character(char) => {
                write!(f, "a domain has no {char:?}; write an international name in its xn-- form")
            }
            Self::Wildcard => f.write_str("a wildcard is the whole first label, as in \"*.shop.test\""),
        }
    }
}

impl std::error::Error for DomainError {}

impl std::str::FromStr for DomainPattern {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let (name, below) = match lower.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (lower.as_str(), false),
        };
        if name.contains('*') {
            return Err(DomainError::Wildcard);
        }
        if name.split('.').any(str::is_empty) && !name.contains(':') {
            return Err(DomainError::Empty);
        }
        let allowed = |char: char| char.is_ascii_alphanumeric() || "-_.:".contains(char);
        if let Some(char) = name.chars().find(|&char| !allowed(char)) {
            return Err(DomainError::Character(char));
        }
        let name = name.to_owned();
        Ok(if below { Self::Below(name) } else { Self::Exact(name) })
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

/// The names that could have a pattern for `name`, most specific first: itself, then each name above it.
pub(crate) fn parents(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').map(|(dot, _)| &name[dot + 1..])
}

/// A host as it is compared: lower case, no port, no final dot, no brackets.
pub(crate) fn normal_host(host: &str) -> std::borrow::Cow<'_, str> {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_and_written_back() {
        for (text, pattern) in [
            ("*", DomainPattern::Any),
            ("Shop.Test.", DomainPattern::Exact("shop.test".into())),
            ("*.shop.test", DomainPattern::Below("shop.test".into())),
        ] {
            assert_eq!(text.parse(), Ok(pattern.clone()));
            assert_eq!(pattern.to_string().parse(), Ok(pattern));
        }
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for (text, error) in [
            ("", DomainError::Empty),
            ("a..b", DomainError::Empty),
            ("a.*.b", DomainError::Wildcard),
            ("*shop.test", DomainError::Wildcard),
            ("a/b", DomainError::Character('/')),
            ("bücher.test", DomainError::Character('ü')),
        ] {
            assert_eq!(text.parse::<DomainPattern>(), Err(error), "{text}");
        }
    }

    #[test]
    fn hosts_are_compared_in_one_form() {
        for (host, normal) in [
            ("Shop.Test:8443", "shop.test"),
            ("shop.test.", "shop.test"),
            ("[::1]:80", "::1"),
            ("", ""),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(normal_host(host), normal);
        }
        assert_eq!(parents("a.b.test").collect::<Vec<_>>(), ["b.test", "test"]);
    }
}
