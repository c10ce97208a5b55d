//! One of the many parts of the address table: everything of some clients, under one lock.

use crate::capacity::Family;
use crate::entry::{Clients, PairUsage, Pairs, Swept, Usage};
use crate::rate::Rate;
use crate::settings::Settings;
use crate::sync::Arc;
use conn_tracker::{Reason, Rejection, Slots};

/// What happened under one shard's lock since the start, in the scopes of no route.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) global: u64,
    pub(crate) pending: u64,
    pub(crate) client: u64,
    pub(crate) exempt: u64,
    pub(crate) refused: [u64; Reason::ALL.len()],
    pub(crate) would_refuse: [u64; Reason::ALL.len()],
    /// Connections open now that are counted per client.
    pub(crate) client_connections: u64,
}

impl Tally {
    pub(crate) fn note_opened(&mut self, slots: Slots) {
        self.global += 1;
        self.pending += u64::from(slots.has(Slots::PENDING));
    }

    pub(crate) fn note_client(&mut self) {
        self.client += 1;
        self.client_connections += 1;
    }

    /// Counts a refusal, and turns it into an admission in a dry run.
    pub(crate) fn refuse(&mut self, rejection: Rejection, enforce: bool) -> Result<(), Rejection> {
        let counters = if enforce { &mut self.refused } else { &mut self.would_refuse };
        counters[rejection.reason.index()] += 1;
        if enforce { Err(rejection) } else { Ok(()) }
    }
}

#[derive(Debug)]
pub(crate) struct Shard {
    /// The settings in force. Read under the lock, so that they change between decisions, never inside one.
    pub(crate) settings: Arc<Settings>,
    pub(crate) clients: Clients,
    pub(crate) pairs: Pairs,
    pub(crate) tally: Tally,
    /// What the `spent` of entries counts from, in microseconds since the start of the table.
    epoch: u64,
    /// The latest time that any decision brought: time never runs backwards here.
    latest: u64,
}

impl Shard {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            clients: Clients::default(),
            pairs: Pairs::default(),
            tally: Tally::default(),
            epoch: 0,
            latest: 0,
        }
    }

    /// Lets time go on to `now`.
    pub(crate) fn advance(&mut self, now: u64) {
        self.latest = self.latest.max(now);
        if self.age() > self.settings.span {
            self.move_epoch();
        }
    }

    /// Microseconds since the epoch.
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
        self.pairs.each(|_, route, usage| {
            usage.spent = carry(&old.route(route).request_rate, &settings.route(route).request_rate, usage.spent);
        });
        self.epoch = self.latest;
    }

    fn move_epoch(&mut self) {
        let age = self.age();
        let passed = self.settings.ticks.passed(age);
        self.clients.each(|_, (), usage| usage.spent = usage.spent.saturating_sub(passed));
        self.pairs.each(|_, route, usage| {
            usage.spent = usage.spent.saturating_sub(self.settings.route_ticks(route).passed(age));
        });
        self.epoch = self.latest;
    }

    /// Places of one hash table, used or not.
    pub(crate) fn places(&self, family: Family, of_pairs: bool) -> usize {
        if of_pairs { self.pairs.places(family) } else { self.clients.places(family) }
    }

    /// Removes dead clients among some places of one family.
    pub(crate) fn sweep_clients(&mut self, family: Family, from: usize, places: usize) -> Swept {
        let passed = self.settings.ticks.passed(self.age());
        self.clients.sweep(family, from, places, |(), usage| is_idle(usage, passed))
    }

    /// Removes dead pairs among some places of one family.
    pub(crate) fn sweep_pairs(&mut self, family: Family, from: usize, places: usize) -> Swept {
        let (settings, age) = (&self.settings, self.age());
        self.pairs
            .sweep(family, from, places, |route, usage| is_idle_pair(usage, settings.route_ticks(route).passed(age)))
    }
}

/// Whether a client is as if it had never been seen.
pub(crate) fn is_idle(usage: &Usage, passed: u32) -> bool {
    usage.connections == 0 && usage.spent <= passed
}

/// Whether a client is, on a route, as if it had never been seen there.
pub(crate) fn is_idle_pair(usage: &PairUsage, passed: u32) -> bool {
    usage.connections == 0 && usage.requests == 0 && usage.spent <= passed
}
