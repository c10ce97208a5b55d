//! One of the many parts of the address table: everything of some clients, under one lock.

use crate::capacity::Family;
use crate::entry::{Clients, Pairs, Swept, Usage};
use crate::rate::Rate;
use crate::settings::Settings;
use crate::sync::Arc;
use ahash::RandomState;
use conn_tracker::{Reason, Rejection, Slots};

/// What was admitted under one shard's lock since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Admitted {
    pub(crate) global: u64,
    pub(crate) pending: u64,
    pub(crate) client: u64,
    /// Connections open now that are counted per client.
    pub(crate) client_connections: u64,
}

impl Admitted {
    pub(crate) fn note_opened(&mut self, slots: Slots) {
        self.global += 1;
        self.pending += u64::from(slots.has(Slots::PENDING));
    }

    pub(crate) fn note_client(&mut self) {
        self.client += 1;
        self.client_connections += 1;
    }
}

/// What was refused, by the scopes of no route.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Refused {
    pub(crate) refused: [u64; Reason::ALL.len()],
    pub(crate) would_refuse: [u64; Reason::ALL.len()],
}

/// What most admissions and releases do not touch.
#[derive(Debug, Default)]
pub(crate) struct Cold {
    pub(crate) pairs: Pairs,
    pub(crate) refused: Refused,
    pub(crate) exempt: u64,
}

#[derive(Debug)]
pub(crate) struct Shard {
    /// The settings in force. Read under the lock, so that they change between decisions, never inside one.
    pub(crate) settings: Arc<Settings>,
    pub(crate) clients: Clients,
    pub(crate) admitted: Admitted,
    /// What the `spent` of entries counts from, in microseconds since the start of the table.
    epoch: u64,
    /// The latest time that any decision brought: time never runs backwards here.
    latest: u64,
    pub(crate) cold: Box<Cold>,
}

#[cfg(not(any(loom, shuttle)))]
const _: () =
    assert!(size_of::<crate::sync::Mutex<Shard>>() <= 128, "a shard's lock and its shard are two cache lines");

impl Shard {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            clients: Clients::default(),
            admitted: Admitted::default(),
            epoch: 0,
            latest: 0,
            cold: Box::default(),
        }
    }

    /// Counts a refusal, and turns it into an admission in a dry run.
    pub(crate) fn refuse(&mut self, rejection: Rejection) -> Result<(), Rejection> {
        let Refused { refused, would_refuse } = &mut self.cold.refused;
        let enforce = self.settings.enforce;
        let counters = if enforce { refused } else { would_refuse };
        counters[rejection.reason.index()] += 1;
        if enforce { Err(rejection) } else { Ok(()) }
    }

    /// Lets time go on to `now`.
    #[inline]
    pub(crate) fn advance(&mut self, now: u64) {
        self.latest = self.latest.max(now);
        if self.age() > self.settings.span {
            self.move_epoch();
        }
    }

    /// Microseconds since the epoch.
    #[inline]
    pub(crate) fn age(&self) -> u64 {
        self.latest - self.epoch
    }

    /// Puts other settings in force. Clients keep the admissions that they have used up.
    pub(crate) fn adopt(&mut self, settings: &Arc<Settings>, now: u64) {
        self.advance(now);
        let (old, age) = (std::mem::replace(&mut self.settings, Arc::clone(settings)), self.age());
        let carry = |old: &Option<Rate>, new: &Option<Rate>, spent| Rate::carry(old.as_ref(), new.as_ref(), spent, age);
        self.clients.each(|key, (), usage| {
            usage.spent = carry(&old.client(key).rate, &settings.client(key).rate, usage.spent);
        });
        self.cold.pairs.each(|_, route, usage| {
            *usage = settings.route(route).adopted(old.route(route), *usage, age);
        });
        self.epoch = self.latest;
    }

    #[cold]
    fn move_epoch(&mut self) {
        let age = self.age();
        let passed = self.settings.ticks.passed(age);
        self.clients.each(|_, (), usage| usage.spent = usage.spent.saturating_sub(passed));
        self.cold.pairs.each(|_, route, usage| *usage = self.settings.route(route).rebased(*usage, age));
        self.epoch = self.latest;
    }

    /// Places of one hash table, used or not.
    pub(crate) fn places(&self, family: Family, of_pairs: bool) -> usize {
        if of_pairs { self.cold.pairs.places(family) } else { self.clients.places(family) }
    }

    /// Removes dead clients among some places of one family.
    pub(crate) fn sweep_clients(&mut self, hasher: &RandomState, family: Family, from: usize, places: usize) -> Swept {
        let passed = self.settings.ticks.passed(self.age());
        self.clients.sweep(hasher, family, from, places, |(), usage| is_idle(usage, passed))
    }

    /// Removes dead pairs among some places of one family.
    pub(crate) fn sweep_pairs(&mut self, hasher: &RandomState, family: Family, from: usize, places: usize) -> Swept {
        let (settings, age) = (&self.settings, self.age());
        self.cold.pairs.sweep(hasher, family, from, places, |route, usage| settings.route(route).is_idle(usage, age))
    }
}

/// Whether a client is as if it had never been seen.
pub(crate) fn is_idle(usage: &Usage, passed: u32) -> bool {
    usage.connections == 0 && usage.spent <= passed
}
