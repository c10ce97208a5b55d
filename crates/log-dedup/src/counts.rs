//! How often what happened since the start.

use crate::keys::{Key, RouteOf};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Events with the same kind, reason and route since the start, whether they were written or counted for a summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The place of the kind among the kinds.
    pub kind: usize,
    /// Why; `other` for what exceeded a bound.
    pub reason: Cow<'static, str>,
    /// On which route.
    pub route: Route,
    /// How often.
    pub count: u64,
}

/// The route of a [`Count`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Route {
    /// Not known.
    Unknown,
    /// That of a typed call.
    Number(u32),
    /// That of a tracing event.
    Name(String),
    /// One that exceeded a bound.
    Other,
}

/// Events of one kind since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Written as they were.
    pub written: u64,
    /// Counted for a summary.
    pub folded: u64,
}

impl Totals {
    /// All that were recorded.
    #[must_use]
    pub fn recorded(self) -> u64 {
        self.written + self.folded
    }
}

/// Counts by key. Bounded: what comes beyond is `other`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(BTreeMap<Key, u64>);

impl Tally {
    pub(crate) fn add(&mut self, key: &Key, count: u64) {
        if count == 0 {
            return;
        }
        if let Some(known) = self.0.get_mut(key) {
            *known += count;
            return;
        }
        let key = if self.0.len() < MOST_KEYS { key.clone() } else { Key::other() };
        *self.0.entry(key).or_default() += count;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(key, count)| self.add(key, *count));
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.values().sum()
    }

    pub(crate) fn into_counts(self, kind: usize) -> impl Iterator<Item = Count> {
        self.0.into_iter().map(move |(key, count)| {
            let route = match key.route {
                RouteOf::None => Route::Unknown,
                RouteOf::Number(number) => Route::Number(number),
                RouteOf::Name(name) => Route::Name(name.into()),
                RouteOf::Other => Route::Other,
            };
            Count { kind, reason: key.reason, route, count }
        })
    }
}

/// Of one kind.
const MOST_KEYS: usize = 10_000;
