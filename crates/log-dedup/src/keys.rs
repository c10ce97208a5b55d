//! What counts are of: combinations of kind, reason and route, numbered.

use crate::cell::Cell;
use crate::kind::MOST_KINDS;
use crate::sync::{Arc, Mutex, hasher};
use ahash::RandomState;
use hashbrown::HashTable;
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

/// One thing that is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) reason: Cow<'static, str>,
    pub(crate) route: RouteOf<Box<str>>,
}

/// Which route an event was on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum RouteOf<T> {
    /// Not known.
    None,
    /// One that the program names when a line is written.
    Number(u32),
    /// One with this name.
    Name(T),
    /// One that exceeded the bound.
    Other,
}

/// Numbers for keys, the same in all threads. Bounded: what comes beyond has one number per kind, and is `other`.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) generation: u64,
    most: usize,
    hashes: RandomState,
    table: Mutex<Table>,
    overflowed: AtomicBool,
}

#[derive(Debug, Default)]
struct Table {
    /// Kinds and places in `keys`.
    numbers: HashTable<(usize, usize)>,
    keys: Vec<Arc<Key>>,
    /// Places in `keys`, by kind.
    kinds: Vec<Vec<usize>>,
}

impl Keys {
    pub(crate) fn new(generation: u64, most: usize) -> Self {
        let table = Mutex::new(Table::default());
        Self { generation, most: most.min(MOST_KEYS), hashes: hasher(), table, overflowed: AtomicBool::new(false) }
    }

    /// The number of a key that the calling thread has not asked for before. `cell` is the thread's: it gets its counter
    /// before anybody can learn the number. Takes no lock once the bound is exceeded.
    pub(crate) fn number(&self, cell: &Cell, kind: usize, reason: Cow<'static, str>, route: RouteOf<&str>) -> u32 {
        if self.overflowed() {
            return Self::other(kind);
        }
        let hash = hash_of(&self.hashes, kind, &reason, route);
        let mut table = self.table.lock();
        let Table { numbers, keys, kinds } = &mut *table;
        let same = |(other, place): &(usize, usize)| *other == kind && keys[*place].is(&reason, route);
        if let Some((_, place)) = numbers.find(hash, same) {
            let number = number_of(*place);
            cell.count(number);
            return number;
        }
        let place = keys.len();
        if place >= self.most {
            // Ordering: who sees it late comes here and is told the same.
            self.overflowed.store(true, Ordering::Relaxed);
            return Self::other(kind);
        }
        keys.push(Arc::new(Key { reason, route: route.owned() }));
        kinds.resize(kinds.len().max(kind + 1), Vec::new());
        kinds[kind].push(place);
        let rehash = |(kind, place): &(usize, usize)| {
            let key = &keys[*place];
            hash_of(&self.hashes, *kind, &key.reason, key.route.borrowed())
        };
        numbers.insert_unique(hash, (kind, place), rehash);
        let number = number_of(place);
        cell.count(number);
        number
    }

    /// The number of everything of a kind that exceeded the bound.
    pub(crate) fn other(kind: usize) -> u32 {
        u32::try_from(kind).expect("kinds are few")
    }

    /// The keys of a kind, without the first `known`.
    pub(crate) fn beyond(&self, kind: usize, known: usize) -> Vec<(u32, Arc<Key>)> {
        let table = self.table.lock();
        let numbers = table.kinds.get(kind).and_then(|numbers| numbers.get(known..)).unwrap_or_default();
        numbers.iter().map(|&place| (number_of(place), Arc::clone(&table.keys[place]))).collect()
    }

    /// Kinds that have keys, and those numbered before.
    pub(crate) fn kinds(&self) -> usize {
        self.table.lock().kinds.len()
    }

    /// Whether something exceeded the bound.
    pub(crate) fn overflowed(&self) -> bool {
        // Ordering: a hint.
        self.overflowed.load(Ordering::Relaxed)
    }
}

impl Key {
    pub(crate) fn other() -> Self {
        Self { reason: Cow::Borrowed(OTHER), route: RouteOf::Other }
    }

    /// That of an event whose reason and route are texts of any origin.
    pub(crate) fn of_texts(reason: &[u8], route: RouteOf<&[u8]>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let route = match route {
            RouteOf::Name(name) => RouteOf::Name(text(name).into()),
            RouteOf::Number(number) => RouteOf::Number(number),
            RouteOf::None | RouteOf::Other => RouteOf::None,
        };
        Self { reason: Cow::Owned(text(reason)), route }
    }

    fn is(&self, reason: &str, route: RouteOf<&str>) -> bool {
        self.reason == reason && self.route.borrowed() == route
    }
}

impl<T: ?Sized> RouteOf<&T> {
    pub(crate) fn owned<O: for<'a> From<&'a T>>(self) -> RouteOf<O> {
        match self {
            Self::None => RouteOf::None,
            Self::Number(number) => RouteOf::Number(number),
            Self::Name(name) => RouteOf::Name(name.into()),
            Self::Other => RouteOf::Other,
        }
    }
}

impl<O> RouteOf<O> {
    pub(crate) fn borrowed<T: ?Sized>(&self) -> RouteOf<&T>
    where
        O: AsRef<T>,
    {
        match self {
            Self::None => RouteOf::None,
            Self::Number(number) => RouteOf::Number(*number),
            Self::Name(name) => RouteOf::Name(name.as_ref()),
            Self::Other => RouteOf::Other,
        }
    }
}

/// The numbers of keys come after those of what exceeded the bound.
fn number_of(place: usize) -> u32 {
    u32::try_from(place + MOST_KINDS).expect("keys are bounded")
}

fn hash_of(hashes: &RandomState, kind: usize, reason: &str, route: RouteOf<&str>) -> u64 {
    hashes.hash_one((kind, reason, route))
}

/// The name of what exceeded a bound.
pub(crate) const OTHER: &str = "other";
/// Keys beyond this would have no counter.
const MOST_KEYS: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_have_one_number_and_what_exceeds_the_bound_one_per_kind() {
        let (keys, cell) = (Keys::new(0, 3), Cell::new(2));
        let number = |kind, reason, route| keys.number(&cell, kind, Cow::Borrowed(reason), route);
        let copy = Cow::Owned(String::from("full"));
        assert_eq!(number(0, "full", RouteOf::Number(1)), 64);
        assert_eq!(keys.number(&cell, 0, copy, RouteOf::Number(1)), 64, "a reason is its text");
        assert_eq!(number(1, "full", RouteOf::Number(1)), 65);
        assert_eq!(number(0, "full", RouteOf::Name("1")), 66);
        assert_eq!(number(0, "full", RouteOf::Name("1")), 66, "what is known stays");
        assert!(!keys.overflowed());
        assert_eq!((number(0, "full", RouteOf::None), number(0, "x", RouteOf::None)), (0, 0));
        assert_eq!(number(1, "x", RouteOf::None), 1);
        assert!(keys.overflowed());
        let numbers = |kind, known| keys.beyond(kind, known).iter().map(|(number, _)| *number).collect::<Vec<_>>();
        assert_eq!((numbers(0, 0), numbers(0, 1), numbers(1, 1)), (vec![64, 66], vec![66], vec![]));
        assert_eq!((numbers(9, 0), keys.kinds()), (vec![], 2));
    }
}
