//! Forgetting clients that are as if they had never been seen, a bounded step at a time.

use crate::capacity::Family;
use crate::entry::{Counts, Swept};
use crate::shard::Shard;
use crate::sizing::{clients, pairs};
use crate::sync::Ordering;
use crate::table::Table;
use crate::walk::{PARTS, Part};
use conn_tracker::Verdict;
use std::time::Instant;

/// What one call of [`Table::expire`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Places of the hash tables that were looked at, at most one per shard beyond the budget.
    pub visited: usize,
    /// Clients that were forgotten.
    pub clients: usize,
    /// Pairs of a client and a route that were forgotten.
    pub pairs: usize,
    /// Whether the walk came to the end of the table; the next call begins anew.
    pub ended: bool,
}

/// Places looked at under one lock.
const STEP: usize = 1024;
/// How far a decision that needs room looks for it.
const RECLAIM_SHARDS: usize = 16;
const RECLAIM_PLACES: usize = 64;

impl Table {
    /// Looks at `budget` places of the hash tables, forgets the clients there that hold nothing and whose rate is that of
    /// a new client, and hands memory back. Clients that hold a slot are never forgotten.
    ///
    /// Call it some times a second with a budget that passes over the table (about twice
    /// [`TableConfig::tracked_clients`](crate::TableConfig::tracked_clients) when it is full) in a minute or so. A
    /// lock is held for 1,024 places at most. Empty parts of the table cost one place each.
    pub fn expire(&self, now: Instant, budget: usize) -> Expired {
        let now = self.micros(now);
        let mut expired = Expired::default();
        while expired.visited < budget && !expired.ended {
            let left = budget - expired.visited;
            let swept = self.walk.sweep(1, |part| self.look_through(part, now, left, &mut expired));
            expired.ended = swept.left == 0;
        }
        expired
    }

    /// Looks at a step's worth of places of one shard.
    fn look_through(&self, part: &mut Part, now: u64, budget: usize, expired: &mut Expired) -> Verdict {
        let shard = &self.shards[part.shard as usize];
        let (family, of_pairs) = PARTS[part.part as usize];
        let swept = {
            let mut shard = shard.lock();
            shard.advance(now);
            self.sweep(&mut shard, family, of_pairs, part.place, STEP.min(budget))
        };
        expired.visited += swept.visited.max(1);
        *(if of_pairs { &mut expired.pairs } else { &mut expired.clients }) += swept.freed as usize;
        if !swept.ended {
            part.place += swept.visited;
            return Verdict::Again;
        }
        if of_pairs {
            self.resize(shard, family, pairs, Counts::less);
        } else {
            self.resize(shard, family, clients, Counts::less);
        }
        (part.part, part.place) = (part.part + 1, 0);
        if (part.part as usize) < PARTS.len() {
            return Verdict::Again;
        }
        part.part = 0;
        Verdict::Later
    }

    /// Looks for room for a new client in a few shards, without waiting for any lock.
    pub(crate) fn reclaim_client(&self, family: Family, now: u64) {
        self.reclaim(family, false, now);
    }

    /// Looks for room for a new pair likewise.
    pub(crate) fn reclaim_pair(&self, family: Family, now: u64) {
        self.reclaim(family, true, now);
    }

    fn reclaim(&self, family: Family, of_pairs: bool, now: u64) {
        // Ordering: any number does, as long as it moves on.
        let first = self.hand.fetch_add(RECLAIM_SHARDS, Ordering::Relaxed);
        for turn in first..first.wrapping_add(RECLAIM_SHARDS) {
            let Some(mut shard) = self.shards[turn % self.shards.len()].try_lock() else { continue };
            shard.advance(now);
            let round = turn / self.shards.len();
            let places = shard.places(family, of_pairs).max(1);
            let from = round.wrapping_mul(RECLAIM_PLACES) % places;
            if self.sweep(&mut shard, family, of_pairs, from, RECLAIM_PLACES).freed > 0 {
                return;
            }
        }
    }

    fn sweep(&self, shard: &mut Shard, family: Family, of_pairs: bool, from: usize, places: usize) -> Swept {
        let (swept, capacity) = if of_pairs {
            (shard.sweep_pairs(&self.secret, family, from, places), &self.pairs)
        } else {
            (shard.sweep_clients(&self.secret, family, from, places), &self.clients)
        };
        self.expect(capacity.give(family, swept.freed));
        swept
    }
}
