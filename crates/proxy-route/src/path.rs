//! Path patterns: `/exact`, `/prefix/*`, `/users/:id/orders`.

use std::borrow::Cow;
use std::fmt;

/// A pattern for the path of a request, without its query.
///
/// `:name` and `*` stand for one segment that is not empty; a final `*` stands for the rest of the path, empty or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Any,
    Literal(String),
}

/// A text that is no path pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathError {
    /// It does not begin with a slash.
    NoSlash,
    /// It has a `?` or `#`.
    Query,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSlash => "a path begins with \"/\"",
            Self::Query => "a path is matched without its query; leave \"?\" and \"#\" out",
        })
    }
}

impl std::error::Error for PathError {}

impl std::str::FromStr for PathPattern {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if text == "*" {
            return "/*".parse();
        }
        let Some(rest) = text.strip_prefix('/') else { return Err(PathError::NoSlash) };
        if text.contains(['?', '#']) {
            return Err(PathError::Query);
        }
        let mut segments: Vec<_> = rest
            .split('/')
            .map(|part| match part {
                "*" => Segment::Any,
                _ if part.len() > 1 && part.starts_with(':') => Segment::Any,
                _ => Segment::Literal(part.to_owned()),
            })
            .collect();
        // `/a*` is the prefix `/a`, `/a/*` the prefix `/a/`: both leave the end open.
        let open = rest.ends_with('*');
        if let Some(last) = segments.last_mut().filter(|_| open) {
            let text = match last {
                Segment::Any => String::new(),
                Segment::Literal(text) => text.trim_end_matches('*').to_owned(),
            };
            *last = Segment::Literal(text);
        }
        Ok(Self { text: text.to_owned(), segments, open })
    }
}

impl From<&str> for PathPattern {
    /// For patterns known to be right.
    ///
    /// # Panics
    /// If the text is no pattern; parse it where it comes from a user.
    fn from(text: &str) -> Self {
        text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }
}

impl PathPattern {
    /// Whether every path that fits `other` fits this one too, for certain.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let covers = |(mine, theirs): (&Segment, &Segment)| match (mine, theirs) {
            (Segment::Any, Segment::Any) => true,
            (Segment::Any, Segment::Literal(text)) => !text.is_empty(),
            (Segment::Literal(mine), Segment::Literal(theirs)) => mine == theirs,
            (Segment::Literal(_), Segment::Any) => false,
        };
        if !self.open {
            let same_length = self.segments.len() == other.segments.len();
            return !other.open && same_length && self.segments.iter().zip(&other.segments).all(covers);
        }
        let Some((Segment::Literal(start), before)) = self.segments.split_last() else { return false };
        let rest_fits = match other.segments.get(before.len()) {
            None => false,
            Some(Segment::Any) => start.is_empty(),
            Some(Segment::Literal(text)) => text.starts_with(start.as_str()),
        };
        rest_fits && before.iter().zip(&other.segments).all(covers)
    }

    /// Whether `path` (without query) fits.
    #[must_use]
    pub fn fits(&self, path: &str) -> bool {
        let Some(mut rest) = path.strip_prefix('/') else { return false };
        for (index, segment) in self.segments.iter().enumerate() {
            let last = index + 1 == self.segments.len();
            if last && self.open {
                return matches!(segment, Segment::Literal(start) if rest.starts_with(start.as_str()));
            }
            let (head, tail) = match rest.split_once('/') {
                Some((head, tail)) => (head, Some(tail)),
                None => (rest, None),
            };
            let fits = match segment {
                Segment::Any => !head.is_empty(),
                Segment::Literal(text) => head == text,
            };
            match (fits, last, tail) {
                (true, true, None) => return true,
                (true, false, Some(tail)) => rest = tail,
                _ => return false,
            }
        }
        false
    }

    /// The beginning that every path which fits has, in whole segments: `/a/b` of `/a/b/*`, `/a` of `/a/b*` and `/a/:id`.
    pub(crate) fn lead(&self) -> String {
        let whole = self.segments.len() - usize::from(self.open);
        let literal = self.segments[..whole].iter().map_while(|segment| match segment {
            Segment::Any => None,
            Segment::Literal(text) => Some(text),
        });
        literal.fold(String::new(), |lead, text| lead + "/" + text)
    }

    /// How specific the pattern is: longer first, then closed before open.
    pub(crate) fn weight(&self) -> (usize, bool) {
        let literal = self.segments.iter().map(|segment| match segment {
            Segment::Any => 1,
            Segment::Literal(text) => text.len() + 1,
        });
        (literal.sum(), !self.open)
    }
}

/// Every [`PathPattern::lead`] that a path may have, the shortest first.
pub(crate) fn leads(path: &str) -> impl Iterator<Item = &str> {
    let within = path.match_indices('/').filter(|(at, _)| *at > 0).map(|(at, _)| &path[..at]);
    std::iter::once("").chain(within).chain([path])
}

/// Whether nothing in a path can be written in another way. Most are short: to look once at each byte is cheaper than to
/// search three times.
fn is_plain(path: &str) -> bool {
    let mut behind_slash = false;
    path.bytes().all(|byte| {
        let odd = byte == b'%' || behind_slash && matches!(byte, b'/' | b'.');
        behind_slash = byte == b'/';
        !odd
    })
}

/// The path as it is matched: what a backend that resolves it would find. `%41` is `A`, `//` and `/./` are `/`, and
/// `/a/../b` is `/b`, so that nobody gets by a route by writing its path in another way. Characters that have a meaning in
/// a path stay escaped (`%2F`), and so does what is no escape. A path that needs nothing of this is given back as it is.
pub(crate) fn normal_path(path: &str) -> Cow<'_, str> {
    if is_plain(path) || !path.starts_with('/') {
        return Cow::Borrowed(path);
    }
    let decoded = unescape(path);
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = decoded[1..].split('/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            ".." => _ = segments.pop(),
            "." => {}
            "" if !last => {}
            _ => {
                segments.push(part);
                continue;
            }
        }
        if last {
            // It names what is in a folder, not the folder.
            segments.push("");
        }
    }
    Cow::Owned(format!("/{}", segments.join("/")))
}

/// Decodes the escapes of characters that mean the same without one.
fn unescape(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let escaped = rest.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let escaped = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped.map(char::from) {
            Some(char) if char.is_ascii_alphanumeric() || "-._~".contains(char) => {
                decoded.push(char);
                rest = &rest[at + 3..];
            }
            _ => {
                decoded.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_patterns_cover_narrower_ones() {
        for (wide, narrow, covers) in [
            ("/*", "/a/b", true),
            ("/*", "/*", true),
            ("/a/*", "/a/:id", true),
            ("/a/*", "/a/b/*", true),
            ("/a/*", "/a", false),
            ("/a*", "/ab/c", true),
            ("/a*", "/:id", false),
            ("/a/b*", "/a/*", false),
            ("/:id/x", "/a/x", true),
            ("/:id/x", "/:other/x", true),
            ("/:id/x", "//x", false),
            ("/a/x", "/:id/x", false),
            ("/a", "/a/*", false),
            ("/a", "/a", true),
        ] {
            assert_eq!(PathPattern::from(wide).covers(&narrow.into()), covers, "{wide} {narrow}");
        }
    }

    #[test]
    fn patterns_fit_what_they_say() {
        for (pattern, fits, misses) in [
            ("/api/*", &["/api/", "/api/a/b"][..], &["/api", "/apis/x", "/", ""][..]),
            ("/api*", &["/api", "/apis/x"], &["/ap"]),
            ("/", &["/"], &["/a", ""]),
            ("/*", &["/", "/a/b"], &["", "*"]),
            ("*", &["/", "/a/b"], &[""]),
            ("/users/:id/orders", &["/users/7/orders"], &["/users//orders", "/users/7/orders/", "/users/7"]),
            ("/a/*/c", &["/a/b/c"], &["/a/b/b/c", "/a//c"]),
        ] {
            let pattern = PathPattern::from(pattern);
            for path in fits {
                assert!(pattern.fits(path), "{pattern} fits {path}");
            }
            for path in misses {
                assert!(!pattern.fits(path), "{pattern} misses {path}");
            }
        }
        assert_eq!("api".parse::<PathPattern>(), Err(PathError::NoSlash));
        assert_eq!("/a?b".parse::<PathPattern>(), Err(PathError::Query));
    }

    #[test]
    fn every_spelling_of_a_path_is_one_path() {
        for (written, matched) in [
            ("/admin/x", "/admin/x"),
            ("//admin/x", "/admin/x"),
            ("/./admin/x", "/admin/x"),
            ("/a/../admin/x", "/admin/x"),
            ("/a/%2e%2E/admin/x", "/admin/x"),
            ("/%61dmin/%78", "/admin/x"),
            ("/../../admin/x", "/admin/x"),
            ("/a//b///", "/a/b/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/", "/"),
            ("//", "/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a...b/..c", "/a...b/..c"),
            ("/a%2fb%2", "/a%2fb%2"),
            ("/%zz%+1%C3%A9%", "/%zz%+1%C3%A9%"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(normal_path(written), matched, "{written}");
            assert_eq!(normal_path(matched), matched, "it is normal already");
        }
    }

    #[test]
    fn longer_is_more_specific() {
        let mut patterns = ["/api/v1/*", "/*", "/api/*", "/api/v1/", "/api/:any/x"].map(PathPattern::from);
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.weight()));
        assert_eq!(
            patterns.map(|pattern| pattern.to_string()),
            ["/api/v1/", "/api/v1/*", "/api/:any/x", "/api/*", "/*"]
        );
    }
}
