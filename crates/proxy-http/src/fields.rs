//! The fields of a head. Pure.

use crate::special::is_special;
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::ops::Range;

/// The fields of a head, in their order.
///
/// A list: there are few of them, most pass through unread, and a map would look up the name of each to put it in. Those
/// that were read stay where they are in the head, and nothing is made of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    /// The head that some of them are in, with its names in lower case.
    head: Bytes,
    list: Vec<Field>,
    /// Whether there was one that a proxy has to look at, so that nobody need look for one where there was none.
    special: bool,
}

/// One field. Whatever it is made of, its name is one, in lower case, and its value one of visible characters.
#[derive(Clone, Debug)]
enum Field {
    /// Where its name and its value are in the head.
    Read(Place, Place),
    Made(HeaderName, Value),
}

/// A value that was not read, or is kept for longer than what it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Shared(HeaderValue),
    /// An id, of visible characters. It is held in place, as each request has one of its own.
    Id([u8; 32]),
}

/// Where a part of a head is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    begin: u32,
    end: u32,
}

impl Place {
    /// Where `part` is in the bytes that begin at this address in memory.
    pub(crate) fn of(part: &[u8], begin: usize) -> Option<Self> {
        // What is ahead of the bytes wraps, and is too far behind them.
        let begin = u32::try_from(part.as_ptr().addr().wrapping_sub(begin)).ok()?;
        Some(Self { begin, end: begin.checked_add(u32::try_from(part.len()).ok()?)? })
    }

    fn range(self) -> Range<usize> {
        self.begin as usize..self.end as usize
    }

    fn among(self, head: &[u8]) -> &[u8] {
        &head[self.range()]
    }

    /// The part, sharing the memory of the whole.
    pub(crate) fn share(self, head: &Bytes) -> Bytes {
        head.slice(self.range())
    }
}

impl Value {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Shared(value) => value.as_bytes(),
            Self::Id(id) => id,
        }
    }

    /// As an object that libraries know.
    pub(crate) fn shared(self) -> Option<HeaderValue> {
        match self {
            Self::Shared(value) => Some(value),
            Self::Id(id) => {
                let mut value = HeaderValue::from_bytes(&id).ok()?;
                // It is no secret, but no other message has it: the table of HPACK need not remember it, nor be searched for it.
                value.set_sensitive(true);
                Some(value)
            }
        }
    }
}

impl From<HeaderValue> for Value {
    fn from(value: HeaderValue) -> Self {
        Self::Shared(value)
    }
}

/// A field to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    /// All of it, if it was read as it is to be written.
    pub(crate) whole: Option<&'a [u8]>,
}

impl Field {
    fn name<'a>(&'a self, head: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Read(name, _) => name.among(head),
            Self::Made(name, _) => name.as_str().as_bytes(),
        }
    }

    fn value<'a>(&'a self, head: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Read(_, value) => value.among(head),
            Self::Made(_, value) => value.as_bytes(),
        }
    }

    /// The line of a head that was read, if it is written as we would write it.
    fn line<'a>(&self, head: &'a [u8]) -> Option<&'a [u8]> {
        let Self::Read(name, value) = self else { return None };
        let (behind_name, behind_value) = (name.end as usize, value.end as usize);
        let is_usual = value.begin.wrapping_sub(name.end) == 2
            && head.get(behind_name..behind_name + 2)? == b": "
            && head.get(behind_value..behind_value + 2)? == b"\r\n";
        if is_usual { head.get(name.begin as usize..behind_value + 2) } else { None }
    }

    /// The same as objects of their own.
    fn made(self, head: &Bytes) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::Read(name, value) => {
                let name = name.among(head);
                let name = usual(name).map_or_else(|| HeaderName::from_bytes(name), Ok).ok()?;
                Some((name, HeaderValue::from_maybe_shared(value.share(head)).ok()?))
            }
            Self::Made(name, value) => Some((name, value.shared()?)),
        }
    }
}

impl Fields {
    /// None, with room for so many.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self { list: Vec::with_capacity(count), ..Self::default() }
    }

    /// Takes note of fields that were found in the bytes that begin at this address in memory, which follow by
    /// [`Fields::read`]; `false` if a name is longer than one may be.
    #[must_use]
    pub(crate) fn found(&mut self, fields: &[httparse::Header<'_>], begin: usize) -> bool {
        let mut fit = true;
        // Written where they stay: pushed one by one, each would be put together elsewhere first.
        self.list.extend(fields.iter().map(|field| {
            let places = (Place::of(field.name.as_bytes(), begin), Place::of(field.value, begin));
            let ((Some(name), Some(value)), true) = (places, field.name.len() < LONGEST_NAME) else {
                fit = false;
                return Field::Read(Place::default(), Place::default());
            };
            Field::Read(name, value)
        }));
        fit
    }

    /// Takes the head that all of them were found in, and takes out those that do not stay. Answers the head, to be shared.
    ///
    /// # Errors
    /// What is said of one of them instead.
    pub(crate) fn read<E>(
        &mut self,
        mut head: BytesMut,
        mut stays: impl FnMut(&[u8], &[u8]) -> Result<bool, E>,
    ) -> Result<&Bytes, E> {
        let bytes = &mut head[..];
        let mut stay = 0;
        for at in 0..self.list.len() {
            if let Field::Read(name, value) = self.list[at] {
                make_lower_case(&mut bytes[name.range()]);
                let name = name.among(bytes);
                if !stays(name, value.among(bytes))? {
                    continue;
                }
                self.special |= is_special(name);
            }
            if stay < at {
                self.list.swap(stay, at);
            }
            stay += 1;
        }
        self.list.truncate(stay);
        self.head = head.freeze();
        Ok(&self.head)
    }

    /// Whether one of them may be [special](is_special).
    pub(crate) const fn may_be_special(&self) -> bool {
        self.special
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Names, in lower case, and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list.iter().map(|field| (field.name(&self.head), field.value(&self.head)))
    }

    /// The same, to be written.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let head = &self.head;
        self.list.iter().map(|field| Line { name: field.name(head), value: field.value(head), whole: field.line(head) })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.list.iter().map(|field| field.name(&self.head))
    }

    fn named(&self, name: &HeaderName) -> impl Iterator<Item = &Field> {
        let name = name.as_str().as_bytes();
        self.list.iter().filter(move |field| field.name(&self.head) == name)
    }

    /// The values of all fields of this name.
    pub(crate) fn all(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        self.named(name).map(|field| field.value(&self.head))
    }

    /// The value of the first field of this name.
    pub(crate) fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The same, to be kept.
    pub(crate) fn value(&self, name: &HeaderName) -> Option<HeaderValue> {
        self.named(name).next()?.clone().made(&self.head).map(|(_, value)| value)
    }

    pub(crate) fn has(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// Makes room for so many more.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.list.reserve(count);
    }

    /// Puts a field behind the others, be there some of its name.
    pub(crate) fn push(&mut self, name: HeaderName, value: impl Into<Value>) {
        self.special |= is_special(name.as_str().as_bytes());
        self.list.push(Field::Made(name, value.into()));
    }

    /// Has one field of this name.
    pub(crate) fn set(&mut self, name: HeaderName, value: impl Into<Value>) {
        if self.special || !is_special(name.as_str().as_bytes()) {
            self.remove(&name);
        }
        self.push(name, value);
    }

    /// Has a field of this name, if there is none.
    pub(crate) fn set_missing(&mut self, name: HeaderName, value: impl FnOnce() -> HeaderValue) {
        if !self.has(&name) {
            self.push(name, value());
        }
    }

    /// Takes all fields of this name out.
    pub(crate) fn remove(&mut self, name: &HeaderName) {
        let name = name.as_str().as_bytes();
        self.retain(|other, _| other != name);
    }

    /// Takes all fields out but those that stay.
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&[u8], &[u8]) -> bool) {
        let head = &self.head;
        self.list.retain(|field| stays(field.name(head), field.value(head)));
    }

    /// Takes all fields out, and keeps their room.
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        (self.head, self.special) = (Bytes::new(), false);
    }
}

/// The name of a field that many answers have, told sooner than among all that there are.
fn usual(name: &[u8]) -> Option<HeaderName> {
    Some(match (name.len(), name) {
        (4, b"date") => header::DATE,
        (4, b"etag") => header::ETAG,
        (4, b"vary") => header::VARY,
        (6, b"server") => header::SERVER,
        (12, b"content-type") => header::CONTENT_TYPE,
        (13, b"cache-control") => header::CACHE_CONTROL,
        (13, b"accept-ranges") => header::ACCEPT_RANGES,
        (13, b"last-modified") => header::LAST_MODIFIED,
        (14, b"content-length") => header::CONTENT_LENGTH,
        (16, b"content-encoding") => header::CONTENT_ENCODING,
        _ => return None,
    })
}

/// Eight bytes at a time, or four: this is done for every name.
#[inline]
fn make_lower_case(name: &mut [u8]) {
    let length = name.len();
    if let Some(first) = name.first_chunk_mut::<8>() {
        lower8(first);
        if length > 16 {
            name[8..].as_chunks_mut::<8>().0.iter_mut().for_each(lower8);
        }
        // The last eight, some of which may be lower case by now.
        name.last_chunk_mut::<8>().into_iter().for_each(lower8);
    } else if let Some(first) = name.first_chunk_mut::<4>() {
        lower4(first);
        name.last_chunk_mut::<4>().into_iter().for_each(lower4);
    } else {
        name.make_ascii_lowercase();
    }
}

fn lower8(bytes: &mut [u8; 8]) {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let word = u64::from_ne_bytes(*bytes);
    // The highest bit of each byte tells whether it is at least an A, or above a Z.
    let letters = word & (EACH * 0x7f);
    let (from_a, above_z) = (letters + EACH * (0x80 - 0x41), letters + EACH * (0x80 - 0x5b));
    *bytes = (word | (from_a & !above_z & !word & (EACH * 0x80)) >> 2).to_ne_bytes();
}

fn lower4(bytes: &mut [u8; 4]) {
    let [a, b, c, d] = *bytes;
    let mut both = [a, b, c, d, 0, 0, 0, 0];
    lower8(&mut both);
    let [a, b, c, d, ..] = both;
    *bytes = [a, b, c, d];
}

/// A value as text; `None` if it has other characters than those of ASCII.
pub(crate) fn text(value: &[u8]) -> Option<&str> {
    if value.is_ascii() { std::str::from_utf8(value).ok() } else { None }
}

/// What no name is as long as, where it is made an object.
const LONGEST_NAME: usize = u16::MAX as usize;

impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        let mut fields = Self::with_capacity(map.len());
        let mut last = None;
        for (name, value) in map {
            // Further values of a name come without it.
            last = name.or(last);
            if let Some(name) = &last {
                fields.push(name.clone(), bare(value));
            }
        }
        fields
    }
}

/// A value without the white space around it. That is no part of it (RFC 9110, 5.5), and a backend would not see it: what
/// is matched has to be what is sent.
fn bare(value: HeaderValue) -> HeaderValue {
    let bytes = value.as_bytes();
    match bytes.trim_ascii() {
        bare if bare.len() == bytes.len() => value,
        bare => HeaderValue::from_bytes(bare).expect("a part of a value is one"),
    }
}

impl From<Fields> for HeaderMap {
    fn from(fields: Fields) -> Self {
        let mut map = Self::with_capacity(fields.len());
        map.extend(fields.list.into_iter().filter_map(|field| field.made(&fields.head)));
        map
    }
}

#[cfg(test)]
impl Fields {
    pub(crate) fn capacity(&self) -> usize {
        self.list.capacity()
    }
}

#[cfg(test)]
impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        let mut all = Self::default();
        fields.into_iter().for_each(|(name, value)| all.push(name, value));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{ACCEPT, COOKIE, HOST};

    fn shown(fields: &Fields) -> Vec<String> {
        fields.iter().map(|(name, value)| format!("{}: {}", text(name).unwrap(), text(value).unwrap())).collect()
    }

    #[test]
    fn they_stay_in_their_order_and_have_all_their_values() {
        let value = HeaderValue::from_static;
        let fields = [(COOKIE, value("a")), (HOST, value("b")), (COOKIE, value("c")), (ACCEPT, value("d"))];
        let mut fields = Fields::from_iter(fields);
        assert_eq!(fields.all(&COOKIE).collect::<Vec<_>>(), [b"a", b"c"]);
        assert_eq!((fields.get(&COOKIE), fields.value(&HOST)), (Some(&b"a"[..]), Some(value("b"))));
        let map = HeaderMap::from(fields.clone());
        assert_eq!(map.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(shown(&Fields::from(map)), ["cookie: a", "cookie: c", "host: b", "accept: d"]);
        fields.set(COOKIE, value("e"));
        fields.set_missing(HOST, || value("f"));
        assert_eq!(shown(&fields), ["host: b", "accept: d", "cookie: e"]);
        fields.remove(&HOST);
        fields.set_missing(HOST, || value("f"));
        assert_eq!(shown(&fields), ["accept: d", "cookie: e", "host: f"]);
        fields.clear();
        assert!(fields.len() == 0 && !fields.has(&ACCEPT));
    }

    #[test]
    fn usual_names_are_themselves() {
        let usual_names = ["date", "etag", "vary", "server", "content-type", "cache-control", "accept-ranges"];
        for name in usual_names.iter().chain(&["last-modified", "content-length", "content-encoding"]) {
            assert_eq!(usual(name.as_bytes()).unwrap(), *name);
        }
        assert!(usual(b"datf").is_none() && usual(b"").is_none());
    }

    #[test]
    fn names_of_every_length_become_lower_case() {
        let all: Vec<u8> = (0..=255).collect();
        for length in 0..=40 {
            for begin in 0..all.len() - length {
                let mut name = all[begin..begin + length].to_vec();
                make_lower_case(&mut name);
                assert_eq!(name, all[begin..begin + length].to_ascii_lowercase());
            }
        }
    }

    #[test]
    fn those_that_were_read_are_like_those_that_were_made() {
        let head = BytesMut::from("Host: a\r\nX-One:B\r\nx-one: \r\n\r\n");
        let mut space = [httparse::EMPTY_HEADER; 4];
        let httparse::Status::Complete((_, found)) = httparse::parse_headers(&head, &mut space).unwrap() else {
            panic!("the head is whole");
        };
        let (mut fields, begin) = (Fields::default(), head.as_ptr().addr());
        assert!(fields.found(found, begin));
        let all = |_: &[u8], _: &[u8]| Ok::<_, ()>(true);
        assert_eq!(fields.read(head.clone(), all).unwrap().len(), head.len());
        assert!(!fields.may_be_special());
        fields.push(ACCEPT, HeaderValue::from_static("c"));
        assert_eq!(shown(&fields), ["host: a", "x-one: B", "x-one: ", "accept: c"]);
        // Of those that are written as we do, and only of those, there is the line.
        let lines: Vec<_> = fields.lines().map(|line| line.whole.and_then(text)).collect();
        assert_eq!((&lines[..2], lines[3]), (&[Some("host: a\r\n"), None][..], None));
        assert_eq!(fields.value(&HOST), Some(HeaderValue::from_static("a")));
        let map = HeaderMap::from(fields.clone());
        assert_eq!(shown(&Fields::from(map)), shown(&fields));
        fields.retain(|name, value| name == b"x-one" && !value.is_empty());
        assert_eq!(shown(&fields), ["x-one: B"]);
        let (long, mut fields) = ("x".repeat(LONGEST_NAME), Fields::default());
        for (from, fits) in [(0, false), (1, true)] {
            let field = httparse::Header { name: &long[from..], value: &long.as_bytes()[..0] };
            assert_eq!(fields.found(&[field], long.as_ptr().addr()), fits, "{from}");
        }
    }
}
