//! The fields of a head. Pure.

use crate::headers::is_special;
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
    read: Vec<Read>,
    /// Those behind them.
    made: Vec<(HeaderName, Value)>,
    /// Whether there was one that a proxy has to look at, so that nobody need look for one where there was none.
    special: bool,
}

/// Where a field is in the head that it was read in: a name in lower case, and a value of visible characters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) name: Place,
    pub(crate) value: Place,
    /// Whether its line is written as we would write it.
    pub(crate) is_usual: bool,
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
    /// Where these bytes of a head are, which is no longer than can be told.
    pub(crate) fn new(part: Range<usize>) -> Self {
        Self { begin: part.start as u32, end: part.end as u32 }
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

impl Read {
    /// The same as objects of their own.
    fn made(self, head: &Bytes) -> Option<(HeaderName, HeaderValue)> {
        let name = self.name.among(head);
        let name = usual(name).map_or_else(|| HeaderName::from_bytes(name), Ok).ok()?;
        Some((name, HeaderValue::from_maybe_shared(self.value.share(head)).ok()?))
    }
}

impl Fields {
    /// None, with room for so many that are read, and that are made.
    pub(crate) fn with_capacity(read: usize, made: usize) -> Self {
        Self { read: Vec::with_capacity(read), made: Vec::with_capacity(made), ..Self::default() }
    }

    /// Takes note of a field that was found in a head, which follows by [`Fields::read`].
    pub(crate) fn found(&mut self, field: Read) {
        self.read.push(field);
    }

    /// Takes the head that all of them were found in, and takes out those that do not stay. Answers the head, to be shared.
    ///
    /// # Errors
    /// What is said of one of them instead.
    pub(crate) fn read<E>(
        &mut self,
        head: BytesMut,
        mut stays: impl FnMut(&[u8], &[u8]) -> Result<bool, E>,
    ) -> Result<&Bytes, E> {
        let mut stay = 0;
        for at in 0..self.read.len() {
            let field = self.read[at];
            let name = field.name.among(&head);
            if stays(name, field.value.among(&head))? {
                self.special |= is_special(name);
                self.read[stay] = field;
                stay += 1;
            }
        }
        self.read.truncate(stay);
        self.head = head.freeze();
        Ok(&self.head)
    }

    /// Whether one of them may be [special](is_special).
    pub(crate) const fn may_be_special(&self) -> bool {
        self.special
    }

    pub(crate) fn len(&self) -> usize {
        self.read.len() + self.made.len()
    }

    /// Names, in lower case, and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let read = self.read.iter().map(|field| (field.name.among(&self.head), field.value.among(&self.head)));
        read.chain(self.made.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())))
    }

    /// Writes those that stay, as HTTP/1.1 has them. Lines that were read one behind the other leave together.
    pub(crate) fn write<'a>(&'a self, out: &mut Vec<u8>, mut stays: impl FnMut(&'a [u8], &'a [u8]) -> bool) {
        let mut lines = 0..0;
        for Read { name, value, is_usual } in &self.read {
            if !stays(name.among(&self.head), value.among(&self.head)) {
                continue;
            }
            // A line end is behind the value.
            let line = name.range().start..value.range().end + 2;
            if *is_usual && lines.end == line.start {
                lines.end = line.end;
                continue;
            }
            out.extend_from_slice(&self.head[lines]);
            lines = 0..0;
            if *is_usual {
                lines = line;
            } else {
                write_line(name.among(&self.head), value.among(&self.head), out);
            }
        }
        out.extend_from_slice(&self.head[lines]);
        for (name, value) in &self.made {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            if stays(name, value) {
                write_line(name, value, out);
            }
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.iter().map(|(name, _)| name)
    }

    /// The values of all fields of this name.
    pub(crate) fn all(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        let name = name.as_str().as_bytes();
        self.iter().filter(move |(other, _)| *other == name).map(|(_, value)| value)
    }

    /// The value of the first field of this name.
    pub(crate) fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The same, to be kept.
    pub(crate) fn value(&self, name: &HeaderName) -> Option<HeaderValue> {
        let is_named = |read: &&Read| read.name.among(&self.head) == name.as_str().as_bytes();
        if let Some(read) = self.read.iter().find(is_named) {
            return HeaderValue::from_maybe_shared(read.value.share(&self.head)).ok();
        }
        self.made.iter().find(|(other, _)| other == name)?.1.clone().shared()
    }

    pub(crate) fn has(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// Makes room for so many more that are made.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.made.reserve(count);
    }

    /// Puts a field behind the others, be there some of its name.
    pub(crate) fn push(&mut self, name: HeaderName, value: impl Into<Value>) {
        self.special |= is_special(name.as_str().as_bytes());
        self.made.push((name, value.into()));
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
        self.read.retain(|field| stays(field.name.among(head), field.value.among(head)));
        self.made.retain(|(name, value)| stays(name.as_str().as_bytes(), value.as_bytes()));
    }

    /// Takes all fields out, and keeps their room.
    pub(crate) fn clear(&mut self) {
        self.read.clear();
        self.made.clear();
        (self.head, self.special) = (Bytes::new(), false);
    }
}

/// Writes a field as HTTP/1.1 has it.
pub(crate) fn write_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
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

/// A value as text; `None` if it has other characters than those of ASCII.
pub(crate) fn text(value: &[u8]) -> Option<&str> {
    if value.is_ascii() { std::str::from_utf8(value).ok() } else { None }
}

impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        let mut fields = Self::with_capacity(0, map.len());
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
        map.extend(fields.read.into_iter().filter_map(|field| field.made(&fields.head)));
        map.extend(fields.made.into_iter().filter_map(|(name, value)| Some((name, value.shared()?))));
        map
    }
}

#[cfg(test)]
impl Fields {
    pub(crate) fn capacity(&self) -> usize {
        self.read.capacity()
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
    use crate::http1::HeadReader;
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
    fn those_that_were_read_are_like_those_that_were_made() {
        let mut head = BytesMut::from("Host: a\r\nX-One:B\r\nx-one: \r\n\r\n");
        let (length, mut fields) = (head.len(), Fields::default());
        HeadReader::new(&mut head).fields(3, &mut fields).unwrap();
        let all = |_: &[u8], _: &[u8]| Ok::<_, ()>(true);
        assert_eq!(fields.read(head, all).unwrap().len(), length);
        assert!(!fields.may_be_special());
        fields.push(ACCEPT, HeaderValue::from_static("c"));
        assert_eq!(shown(&fields), ["host: a", "x-one: B", "x-one: ", "accept: c"]);
        let written = |stays: &dyn Fn(&[u8], &[u8]) -> bool| {
            let mut out = Vec::new();
            fields.write(&mut out, stays);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(&|_, _| true), "host: a\r\nx-one: B\r\nx-one: \r\naccept: c\r\n");
        assert_eq!(written(&|name, _| name == b"x-one"), "x-one: B\r\nx-one: \r\n");
        assert_eq!(written(&|name, value| name != b"host" && value != b"B"), "x-one: \r\naccept: c\r\n");
        assert_eq!(written(&|_, _| false), "");
        assert_eq!(fields.value(&HOST), Some(HeaderValue::from_static("a")));
        let map = HeaderMap::from(fields.clone());
        assert_eq!(shown(&Fields::from(map)), shown(&fields));
        fields.retain(|name, value| name == b"x-one" && !value.is_empty());
        assert_eq!(shown(&fields), ["x-one: B"]);
    }
}
