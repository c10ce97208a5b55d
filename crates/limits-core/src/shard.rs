//! One of the many parts of the address table: everything of some clients, under one lock.

use crate::capacity::Family;
use crate::entry::{Clients, Pairs, Swept};
use crate::secret::Secret;
use crate::settings::Settings;
use crate::sync::Arc;
use conn_tracker::{Reason, Rejection};

/// What was admitted under one shard's lock since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Admitted {
    /// Connections of clients.
    pub(crate) direct: u64,
    /// Connections of trusted peers.
    pub(crate) anonymous: u64,
    /// Of these, the ones whose client was named later.
    pub(crate) named: u64,
    /// Of both, the ones whose route was to be found.
    pub(crate) pending: u64,
    /// Slots of clients that were given back.
    pub(crate) released: u64,
}

impl Admitted {
    /// All connections.
    pub(crate) fn global(&self) -> u64 {
        self.direct + self.anonymous
    }

    /// Connections that were counted per client.
    pub(crate) fn client(&self) -> u64 {
        self.direct + self.named
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

/// Microseconds since the start of the table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Time {
    /// What the `spent` of entries counts from.
    epoch: u64,
    /// The latest time that any decision brought: time never runs backwards here.
    latest: u64,
}

impl Time {
    /// Microseconds since the epoch.
    #[inline]
    pub(crate) fn age(self) -> u64 {
        self.latest - self.epoch
    }

    fn begin_anew(&mut self) {
        self.epoch = self.latest;
    }
}

#[derive(Debug)]
pub(crate) struct Shard {
    /// The settings in force. Read under the lock, so that they change between decisions, never inside one.
    pub(crate) settings: Arc<Settings>,
    pub(crate) clients: Clients,
    pub(crate) admitted: Admitted,
    pub(crate) time: Time,
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
            time: Time::default(),
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
        if self.note_time(now) > self.settings.span {
            self.move_epoch();
        }
    }

    /// Lets time go on to `now` and answers the microseconds since the epoch, which may be over.
    #[inline]
    pub(crate) fn note_time(&mut self, now: u64) -> u64 {
        self.time.latest = self.time.latest.max(now);
        self.age()
    }

    /// Microseconds since the epoch.
    #[inline]
    pub(crate) fn age(&self) -> u64 {
        self.time.age()
    }

    /// Puts other settings in force. Clients keep the admissions that they have used up.
    pub(crate) fn adopt(&mut self, settings: &Arc<Settings>, now: u64) {
        self.advance(now);
        let (old, age) = (std::mem::replace(&mut self.settings, Arc::clone(settings)), self.age());
        self.clients.each(|key, (), usage| {
            *usage = settings.client(key).adopted(old.client(key), *usage, age);
        });
        self.cold.pairs.each(|_, route, usage| {
            *usage = settings.route(route).adopted(old.route(route), *usage, age);
        });
        self.time.begin_anew();
    }

    #[cold]
    fn move_epoch(&mut self) {
        let age = self.age();
        let passed = self.settings.ticks.passed(age);
        self.clients.each(|_, (), usage| usage.spent = usage.spent.saturating_sub(passed));
        self.cold.pairs.each(|_, route, usage| *usage = self.settings.route(route).rebased(*usage, age));
        self.time.begin_anew();
    }

    /// Places of one hash table, used or not.
    pub(crate) fn places(&self, family: Family, of_pairs: bool) -> usize {
        if of_pairs { self.cold.pairs.places(family) } else { self.clients.places(family) }
    }

    /// Removes dead clients among some places of one family.
    pub(crate) fn sweep_clients(&mut self, secret: &Secret, family: Family, from: usize, places: usize) -> Swept {
        let passed = self.settings.ticks.passed(self.age());
        self.clients.sweep(secret, family, from, places, |(), usage| usage.is_idle(|| passed))
    }

    /// Removes dead pairs among some places of one family.
    pub(crate) fn sweep_pairs(&mut self, secret: &Secret, family: Family, from: usize, places: usize) -> Swept {
        let (settings, age) = (&self.settings, self.age());
        self.cold.pairs.sweep(secret, family, from, places, |route, usage| settings.route(route).is_idle(*usage, age))
    }
}
