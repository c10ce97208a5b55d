//! Counts per client, and per client and route: hash tables of small plain entries.

use crate::capacity::Family;
use ahash::RandomState;
use conn_tracker::{ClientKey, RouteId};
use hashbrown::HashTable;
use std::hash::Hash;

/// What is counted per client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) connections: u32,
    /// See [`crate::rate`].
    pub(crate) spent: u32,
}

/// What is counted per client and route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PairUsage {
    pub(crate) connections: u32,
    pub(crate) requests: u32,
    /// See [`crate::rate`].
    pub(crate) spent: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry<K, S, V> {
    key: K,
    sub: S,
    value: V,
}

const _: () = assert!(size_of::<Entry<u32, (), Usage>>() == 12, "an IPv4 client");
const _: () = assert!(size_of::<Entry<u64, (), Usage>>() == 16, "an IPv6 client");
const _: () = assert!(size_of::<Entry<u64, RouteId, PairUsage>>() == 24, "an IPv6 client on a route");

/// The clients of one shard.
pub(crate) type Clients = Counts<(), Usage>;
/// The clients of one shard, per route.
pub(crate) type Pairs = Counts<RouteId, PairUsage>;

/// Values by client and `S`, one table per address family.
#[derive(Debug)]
pub(crate) struct Counts<S, V> {
    v4: HashTable<Entry<u32, S, V>>,
    v6: HashTable<Entry<u64, S, V>>,
}

impl<S, V> Default for Counts<S, V> {
    fn default() -> Self {
        Self { v4: HashTable::new(), v6: HashTable::new() }
    }
}

/// What a bounded step over the entries of one family did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Places looked at.
    pub(crate) visited: usize,
    /// Entries removed.
    pub(crate) freed: u32,
    /// Whether the end was reached.
    pub(crate) ended: bool,
}

pub(crate) fn hash(hasher: &RandomState, key: ClientKey, sub: impl Hash) -> u64 {
    match key {
        ClientKey::V4(key) => hasher.hash_one((key, sub)),
        ClientKey::V6(key) => hasher.hash_one((key, sub)),
    }
}

impl<S: Copy + Eq + Hash, V: Copy> Counts<S, V> {
    pub(crate) fn find(&mut self, hash: u64, key: ClientKey, sub: S) -> Option<&mut V> {
        match key {
            ClientKey::V4(key) => {
                self.v4.find_mut(hash, |entry| entry.key == key && entry.sub == sub).map(|entry| &mut entry.value)
            }
            ClientKey::V6(key) => {
                self.v6.find_mut(hash, |entry| entry.key == key && entry.sub == sub).map(|entry| &mut entry.value)
            }
        }
    }

    /// Adds an entry that is not there.
    pub(crate) fn insert(&mut self, hasher: &RandomState, hash: u64, key: ClientKey, sub: S, value: V) {
        match key {
            ClientKey::V4(key) => {
                self.v4.insert_unique(hash, Entry { key, sub, value }, rehash(hasher));
            }
            ClientKey::V6(key) => {
                self.v6.insert_unique(hash, Entry { key, sub, value }, rehash(hasher));
            }
        }
    }

    /// Changes an entry and removes it if `change` says so; `None` if there is none, else whether it is gone.
    pub(crate) fn change(
        &mut self,
        hash: u64,
        key: ClientKey,
        sub: S,
        change: impl FnOnce(&mut V) -> bool,
    ) -> Option<bool> {
        match key {
            ClientKey::V4(key) => change_in(&mut self.v4, hash, key, sub, change),
            ClientKey::V6(key) => change_in(&mut self.v6, hash, key, sub, change),
        }
    }

    /// Removes the dead among at most `places` places of one family from place `from` on.
    pub(crate) fn sweep(&mut self, family: Family, from: usize, places: usize, dead: impl Fn(S, &V) -> bool) -> Swept {
        match family {
            Family::V4 => sweep_in(&mut self.v4, from, places, dead),
            Family::V6 => sweep_in(&mut self.v6, from, places, dead),
        }
    }

    /// Places of one family's table, used or not.
    pub(crate) fn places(&self, family: Family) -> usize {
        match family {
            Family::V4 => self.v4.num_buckets(),
            Family::V6 => self.v6.num_buckets(),
        }
    }

    /// Hands memory back where at most a quarter of one family's table is used.
    pub(crate) fn shrink(&mut self, hasher: &RandomState, family: Family) {
        match family {
            Family::V4 => shrink(&mut self.v4, hasher),
            Family::V6 => shrink(&mut self.v6, hasher),
        }
    }

    pub(crate) fn each(&mut self, mut visit: impl FnMut(ClientKey, S, &mut V)) {
        for entry in &mut self.v4 {
            visit(ClientKey::V4(entry.key), entry.sub, &mut entry.value);
        }
        for entry in &mut self.v6 {
            visit(ClientKey::V6(entry.key), entry.sub, &mut entry.value);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ClientKey, S, V)> + '_ {
        let v4 = self.v4.iter().map(|entry| (ClientKey::V4(entry.key), entry.sub, entry.value));
        v4.chain(self.v6.iter().map(|entry| (ClientKey::V6(entry.key), entry.sub, entry.value)))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.v4.allocation_size() + self.v6.allocation_size()
    }
}

fn rehash<K: Copy + Hash, S: Copy + Hash, V>(hasher: &RandomState) -> impl Fn(&Entry<K, S, V>) -> u64 + '_ {
    |entry| hasher.hash_one((entry.key, entry.sub))
}

fn change_in<K: Copy + Eq, S: Copy + Eq, V>(
    table: &mut HashTable<Entry<K, S, V>>,
    hash: u64,
    key: K,
    sub: S,
    change: impl FnOnce(&mut V) -> bool,
) -> Option<bool> {
    let mut entry = table.find_entry(hash, |entry| entry.key == key && entry.sub == sub).ok()?;
    let gone = change(&mut entry.get_mut().value);
    if gone {
        entry.remove();
    }
    Some(gone)
}

fn sweep_in<K, S: Copy, V>(
    table: &mut HashTable<Entry<K, S, V>>,
    from: usize,
    places: usize,
    dead: impl Fn(S, &V) -> bool,
) -> Swept {
    let all = if table.is_empty() { 0 } else { table.num_buckets() };
    let until = from.saturating_add(places).min(all);
    let mut swept = Swept { visited: until.saturating_sub(from), freed: 0, ended: until == all };
    for place in from..until {
        if let Ok(entry) = table.get_bucket_entry(place)
            && dead(entry.get().sub, &entry.get().value)
        {
            entry.remove();
            swept.freed += 1;
        }
    }
    swept
}

fn shrink<K: Copy + Hash, S: Copy + Hash, V>(table: &mut HashTable<Entry<K, S, V>>, hasher: &RandomState) {
    // Some room stays, so that a table at the edge does not grow and shrink in turn.
    if table.len() * 4 <= table.capacity() {
        table.shrink_to(table.len() + table.len() / 2, rehash(hasher));
    }
}
