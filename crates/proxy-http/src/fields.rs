//! The fields of a head. Pure.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The fields of a head, in their order.
///
/// A list: there are few of them, most pass through unread, and a map would look up the name of each to put it in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<(HeaderName, HeaderValue)>);

impl Fields {
    /// None, with room for so many.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().map(|(name, _)| name)
    }

    /// The values of all fields of this name.
    pub(crate) fn all(&self, name: &HeaderName) -> impl Iterator<Item = &HeaderValue> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value)
    }

    /// The value of the first field of this name.
    pub(crate) fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.all(name).next()
    }

    pub(crate) fn has(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// Makes room for so many more.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.0.reserve(count);
    }

    /// Puts a field behind the others, be there some of its name.
    pub(crate) fn push(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }

    /// Has one field of this name.
    pub(crate) fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.remove(&name);
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
        self.retain(|other| other != name);
    }

    /// Takes all fields out but those of names that stay.
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&HeaderName) -> bool) {
        self.0.retain(|(name, _)| stays(name));
    }

    /// Takes all fields out, and keeps their room.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        let mut fields = Self::with_capacity(map.len());
        for (name, value) in map {
            // Further values of a name come without it.
            let name = name.or_else(|| fields.names().last().cloned()).expect("the first has its name");
            fields.push(name, value);
        }
        fields
    }
}

impl From<Fields> for HeaderMap {
    fn from(fields: Fields) -> Self {
        let mut map = Self::with_capacity(fields.len());
        map.extend(fields.0);
        map
    }
}

#[cfg(test)]
impl Fields {
    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

#[cfg(test)]
impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{ACCEPT, COOKIE, HOST};

    fn text(fields: &Fields) -> Vec<String> {
        fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn they_stay_in_their_order_and_have_all_their_values() {
        let value = HeaderValue::from_static;
        let fields = [(COOKIE, value("a")), (HOST, value("b")), (COOKIE, value("c")), (ACCEPT, value("d"))];
        let mut fields = Fields::from_iter(fields);
        assert_eq!(fields.all(&COOKIE).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(fields.get(&COOKIE), Some(&value("a")));
        let map = HeaderMap::from(fields.clone());
        assert_eq!(map.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(text(&Fields::from(map)), ["cookie: a", "cookie: c", "host: b", "accept: d"]);
        fields.set(COOKIE, value("e"));
        fields.set_missing(HOST, || value("f"));
        assert_eq!(text(&fields), ["host: b", "accept: d", "cookie: e"]);
        fields.remove(&HOST);
        fields.set_missing(HOST, || value("f"));
        assert_eq!(text(&fields), ["accept: d", "cookie: e", "host: f"]);
        fields.clear();
        assert!(fields.len() == 0 && !fields.has(&ACCEPT));
    }
}
