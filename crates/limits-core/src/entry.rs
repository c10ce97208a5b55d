//! Counts per client, and per client and route: tables of small plain entries.

use crate::capacity::Family;
use crate::dense::{self, Dense, Size};
use crate::listed::Listed;
use crate::routes::RouteSlot;
use crate::secret::Secret;
use conn_tracker::{ClientKey, RouteId};

/// What is counted of a client: everywhere, or on a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Connections, or requests.
    pub(crate) held: u32,
    /// See [`crate::rate`].
    pub(crate) spent: u32,
}

impl Usage {
    /// Whether a client is as if it had never been seen, so many ticks after the epoch.
    #[inline]
    pub(crate) fn is_idle(self, passed: impl FnOnce() -> u32) -> bool {
        self.held == 0 && self.spent <= passed()
    }

    /// Gives a slot back; `false` if none was held, and then nothing is changed.
    #[must_use]
    #[inline]
    pub(crate) fn give(&mut self) -> bool {
        let held = self.held > 0;
        self.held -= u32::from(held);
        held
    }
}

/// What is counted per client and route. Each has ticks of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PairUsage {
    pub(crate) connections: Usage,
    pub(crate) requests: Usage,
}

impl PairUsage {
    #[inline]
    pub(crate) fn of(&mut self, slot: RouteSlot) -> &mut Usage {
        match slot {
            RouteSlot::Connection => &mut self.connections,
            RouteSlot::Request => &mut self.requests,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<K, S, V> {
    key: K,
    sub: S,
    value: V,
}

const _: () = assert!(size_of::<Entry<u32, (), Usage>>() == 12, "an IPv4 client");
const _: () = assert!(size_of::<Entry<u64, (), Usage>>() == 16, "an IPv6 client");
const _: () = assert!(size_of::<Entry<u32, RouteId, PairUsage>>() == 24, "an IPv4 client on a route");
const _: () = assert!(size_of::<Entry<u64, RouteId, PairUsage>>() == 32, "an IPv6 client on a route");

/// A value of which one marks a place without an entry.
pub(crate) trait Value: Copy {
    const VACANT: Self;

    fn is_vacant(&self) -> bool;
}

/// No client ever holds as many connections: the process has a lower limit. And no [`Ceiling`](crate::settings::Ceiling) is
/// so high that one more could be held.
pub(crate) const NOBODY: u32 = u32::MAX;

impl Value for Usage {
    const VACANT: Self = Self { held: NOBODY, spent: 0 };

    #[inline]
    fn is_vacant(&self) -> bool {
        self.held == NOBODY
    }
}

impl Value for PairUsage {
    const VACANT: Self = Self { connections: Usage::VACANT, requests: Usage { held: 0, spent: 0 } };

    #[inline]
    fn is_vacant(&self) -> bool {
        self.connections.is_vacant()
    }
}

/// A client of one family.
pub(crate) trait Key: Copy + Eq + Into<u64> + 'static {
    /// What is in a vacant place, where nobody looks at it.
    const ANY: Self;

    fn client(self) -> ClientKey;

    /// Whether something special may be said about it.
    fn is_listed(self, listed: &Listed) -> bool;

    /// The table of its family.
    fn table<S, V>(counts: &mut Counts<S, V>) -> &mut Dense<Entry<Self, S, V>>;
}

impl Key for u32 {
    const ANY: Self = 0;

    #[inline]
    fn client(self) -> ClientKey {
        ClientKey::V4(self)
    }

    #[inline]
    fn is_listed(self, listed: &Listed) -> bool {
        listed.has_v4(self)
    }

    #[inline]
    fn table<S, V>(counts: &mut Counts<S, V>) -> &mut Dense<Entry<Self, S, V>> {
        &mut counts.v4
    }
}

impl Key for u64 {
    const ANY: Self = 0;

    #[inline]
    fn client(self) -> ClientKey {
        ClientKey::V6(self)
    }

    #[inline]
    fn is_listed(self, listed: &Listed) -> bool {
        listed.has_v6(self)
    }

    #[inline]
    fn table<S, V>(counts: &mut Counts<S, V>) -> &mut Dense<Entry<Self, S, V>> {
        &mut counts.v6
    }
}

/// What a client is counted on: everywhere, or a route.
pub(crate) trait Part: Copy + Eq {
    /// What is in a vacant place, where nobody looks at it.
    const ANY: Self;

    /// The hash of a client on it, by that of the client.
    fn hash(self, secret: &Secret, client: u32) -> u32;
}

impl Part for () {
    const ANY: Self = ();

    #[inline]
    fn hash(self, _: &Secret, client: u32) -> u32 {
        client
    }
}

impl Part for RouteId {
    const ANY: Self = Self::new(0).expect("there is a first route");

    #[inline]
    fn hash(self, secret: &Secret, client: u32) -> u32 {
        secret.pair(client, self)
    }
}

impl<K: Key, S: Part, V: Value> dense::Entry for Entry<K, S, V> {
    const VACANT: Self = Self { key: K::ANY, sub: S::ANY, value: V::VACANT };

    #[inline]
    fn is_vacant(&self) -> bool {
        self.value.is_vacant()
    }
}

/// The clients of one shard.
pub(crate) type Clients = Counts<(), Usage>;
/// The clients of one shard, per route.
pub(crate) type Pairs = Counts<RouteId, PairUsage>;

/// Values by client and `S`, one table per address family.
#[derive(Debug)]
pub(crate) struct Counts<S, V> {
    v4: Dense<Entry<u32, S, V>>,
    v6: Dense<Entry<u64, S, V>>,
}

impl<S, V> Default for Counts<S, V> {
    fn default() -> Self {
        Self { v4: Dense::default(), v6: Dense::default() }
    }
}

/// What the table of one family can move into, or has left behind.
#[derive(Debug)]
pub(crate) enum Room<S, V> {
    V4(dense::Room<Entry<u32, S, V>>),
    V6(dense::Room<Entry<u64, S, V>>),
}

impl<S: Part, V: Value> Room<S, V> {
    /// See [`dense::Room::new`].
    pub(crate) fn new(family: Family, size: Size) -> Self {
        match family {
            Family::V4 => Self::V4(dense::Room::new(size)),
            Family::V6 => Self::V6(dense::Room::new(size)),
        }
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

impl Clients {
    /// See [`Dense::find_near`], for a client of this family. What is found may be [`Usage::VACANT`], to which nothing can be added.
    #[inline(always)]
    pub(crate) fn find_near<K: Key>(&mut self, hash: u32, key: K) -> Option<&mut Usage> {
        K::table(self).find_near(hash, |entry| entry.key == key).map(|entry| &mut entry.value)
    }
}

impl<S: Part, V: Value> Counts<S, V> {
    #[inline]
    pub(crate) fn find(&mut self, hash: u32, key: ClientKey, sub: S) -> Option<&mut V> {
        match key {
            ClientKey::V4(key) => find_in(&mut self.v4, hash, key, sub),
            ClientKey::V6(key) => find_in(&mut self.v6, hash, key, sub),
        }
    }

    /// See [`Dense::insert`].
    pub(crate) fn insert(&mut self, secret: &Secret, hash: u32, key: ClientKey, sub: S, value: V) {
        match key {
            ClientKey::V4(key) => self.v4.insert(hash, Entry { key, sub, value }, rehash(secret)),
            ClientKey::V6(key) => self.v6.insert(hash, Entry { key, sub, value }, rehash(secret)),
        }
    }

    /// Changes an entry and removes it if `change` says so; `None` if there is none, else whether it is gone.
    #[inline]
    pub(crate) fn change(
        &mut self,
        secret: &Secret,
        hash: u32,
        key: ClientKey,
        sub: S,
        change: impl FnOnce(&mut V) -> bool,
    ) -> Option<bool> {
        match key {
            ClientKey::V4(key) => change_in(&mut self.v4, secret, hash, key, sub, change),
            ClientKey::V6(key) => change_in(&mut self.v6, secret, hash, key, sub, change),
        }
    }

    /// Removes the dead among at most `places` places of one family from place `from` on.
    pub(crate) fn sweep(
        &mut self,
        secret: &Secret,
        family: Family,
        from: usize,
        places: usize,
        dead: impl Fn(S, &V) -> bool,
    ) -> Swept {
        match family {
            Family::V4 => sweep_in(&mut self.v4, secret, from, places, dead),
            Family::V6 => sweep_in(&mut self.v6, secret, from, places, dead),
        }
    }

    /// Places of one family's table, used or not.
    pub(crate) fn places(&self, family: Family) -> usize {
        match family {
            Family::V4 => self.v4.places(),
            Family::V6 => self.v6.places(),
        }
    }

    /// See [`Dense::more`], for one family.
    #[inline]
    pub(crate) fn more(&self, family: Family) -> Option<Size> {
        match family {
            Family::V4 => self.v4.more(),
            Family::V6 => self.v6.more(),
        }
    }

    /// See [`Dense::less`], for one family.
    pub(crate) fn less(&self, family: Family) -> Option<Size> {
        match family {
            Family::V4 => self.v4.less(),
            Family::V6 => self.v6.less(),
        }
    }

    /// See [`Dense::resize`], for the family that `room` was made for.
    pub(crate) fn resize(&mut self, secret: &Secret, room: Room<S, V>) -> Room<S, V> {
        match room {
            Room::V4(room) => Room::V4(self.v4.resize(room, rehash(secret))),
            Room::V6(room) => Room::V6(self.v6.resize(room, rehash(secret))),
        }
    }

    pub(crate) fn each(&mut self, mut visit: impl FnMut(ClientKey, S, &mut V)) {
        for entry in self.v4.iter_mut() {
            visit(ClientKey::V4(entry.key), entry.sub, &mut entry.value);
        }
        for entry in self.v6.iter_mut() {
            visit(ClientKey::V6(entry.key), entry.sub, &mut entry.value);
        }
    }

    /// See [`Dense::part`], for one family.
    pub(crate) fn part(
        &self,
        secret: &Secret,
        family: Family,
        from: u64,
        places: usize,
        visit: impl FnMut((ClientKey, V)),
    ) -> u64 {
        match family {
            Family::V4 => part_of(&self.v4, secret, from, places, visit),
            Family::V6 => part_of(&self.v6, secret, from, places, visit),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes()
    }
}

fn part_of<K: Key, S: Part, V: Value>(
    table: &Dense<Entry<K, S, V>>,
    secret: &Secret,
    from: u64,
    places: usize,
    visit: impl FnMut((ClientKey, V)),
) -> u64 {
    let (entries, until) = table.part(from, places, rehash(secret));
    entries.map(|entry| (entry.key.client(), entry.value)).for_each(visit);
    until
}

fn rehash<K: Key, S: Part, V>(secret: &Secret) -> impl Fn(&Entry<K, S, V>) -> u32 + Copy + '_ {
    |entry| entry.sub.hash(secret, secret.number(entry.key.into()))
}

#[inline]
fn find_in<K: Key, S: Part, V: Value>(table: &mut Dense<Entry<K, S, V>>, hash: u32, key: K, sub: S) -> Option<&mut V> {
    table.find(hash, |entry| entry.key == key && entry.sub == sub).map(|(_, entry)| &mut entry.value)
}

#[inline]
fn change_in<K: Key, S: Part, V: Value>(
    table: &mut Dense<Entry<K, S, V>>,
    secret: &Secret,
    hash: u32,
    key: K,
    sub: S,
    change: impl FnOnce(&mut V) -> bool,
) -> Option<bool> {
    let (place, entry) = table.find(hash, |entry| entry.key == key && entry.sub == sub)?;
    let gone = change(&mut entry.value);
    if gone {
        table.remove(place, rehash(secret));
    }
    Some(gone)
}

fn sweep_in<K: Key, S: Part, V: Value>(
    table: &mut Dense<Entry<K, S, V>>,
    secret: &Secret,
    from: usize,
    places: usize,
    dead: impl Fn(S, &V) -> bool,
) -> Swept {
    let until = from.saturating_add(places).min(table.places());
    let mut swept = Swept { visited: until.saturating_sub(from), freed: 0, ended: until == table.places() };
    let mut place = from;
    while place < until {
        let Entry { sub, value, .. } = table[place];
        if !value.is_vacant() && dead(sub, &value) {
            // Another one may have moved up to this place.
            table.remove(place, rehash(secret));
            swept.freed += 1;
        } else {
            place += 1;
        }
    }
    swept
}
