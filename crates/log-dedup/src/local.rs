//! The way from a key to the counter of its thread.

use crate::cell::Cell;
use crate::keys::{Key, Keys, RouteOf};
use crate::sync::Share;
use crate::wording::{Kept, Part, Wording};
use ahash::RandomState;
use hashbrown::HashTable;
use std::borrow::Cow;
use std::sync::{Arc, Weak};

/// What a thread has of one dedup: its cell, and the numbers of the keys it has seen.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) id: u64,
    pub(crate) generation: u64,
    owner: Weak<()>,
    keys: Arc<Keys>,
    pub(crate) cell: Share<Cell>,
    hashes: RandomState,
    typed: HashTable<Typed>,
    worded: HashTable<Worded>,
}

/// A key of the typed call: the reason by where its text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Typed {
    kind: usize,
    reason: usize,
    length: usize,
    route: Option<u32>,
    number: u32,
}

/// A key of a tracing event, as it is worded.
#[derive(Debug)]
struct Worded {
    wording: Kept,
    hash: u64,
    kind: usize,
    number: u32,
}

impl Local {
    /// A part that is used while `owner` lives, whose number is `id`.
    pub(crate) fn new(id: u64, owner: Weak<()>, keys: Arc<Keys>, cell: Share<Cell>, hashes: RandomState) -> Self {
        Self {
            id,
            generation: keys.generation,
            owner,
            keys,
            cell,
            hashes,
            typed: HashTable::new(),
            worded: HashTable::new(),
        }
    }

    /// Whether there is anybody left who counts by it.
    pub(crate) fn is_of_use(&self) -> bool {
        self.owner.strong_count() > 0
    }

    /// The number of a key whose reason is part of the program.
    pub(crate) fn typed(&mut self, kind: usize, reason: &'static str, route: Option<u32>) -> u32 {
        let hash = |reason: usize, kind: usize, route: Option<u32>| {
            // Texts of the program are few and nobody else's choice.
            let mixed = reason as u64 ^ (kind as u64) << 56 ^ u64::from(route.map_or(0, |route| route + 1)) << 24;
            mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        };
        let (start, length) = (reason.as_ptr().addr(), reason.len());
        let hashed = hash(start, kind, route);
        let same = |key: &Typed| key.reason == start && key.length == length && key.kind == kind && key.route == route;
        if let Some(key) = self.typed.find(hashed, same) {
            return key.number;
        }
        let of = route.map_or(RouteOf::None, RouteOf::Number);
        let number = self.keys.number(&self.cell, kind, Cow::Borrowed(reason), of);
        // What is one number for the rest of the generation needs no place of its own.
        if number != Keys::other(kind) {
            let key = Typed { kind, reason: start, length, route, number };
            self.typed.insert_unique(hashed, key, |key| hash(key.reason, key.kind, key.route));
        }
        number
    }

    /// Kind and number of a key that is given as texts of any origin. `kind_named` numbers a kind.
    pub(crate) fn texts(&mut self, wording: &Wording, kind_named: impl FnOnce(&str) -> usize) -> (usize, u32) {
        let hash = wording.hash(&self.hashes);
        if let Some(key) = self.worded.find(hash, |key| wording.is(&key.wording)) {
            return (key.kind, key.number);
        }
        let kind = kind_named(&String::from_utf8_lossy(wording.text(Part::Kind)));
        if self.keys.overflowed() {
            return (kind, Keys::other(kind));
        }
        let Key { reason, route } = wording.key();
        let number = self.keys.number(&self.cell, kind, reason, route.borrowed());
        if number != Keys::other(kind) {
            let key = Worded { wording: wording.keep(), hash, kind, number };
            self.worded.insert_unique(hash, key, |key| key.hash);
        }
        (kind, number)
    }
}
