//! What the handles share: the kinds and where each of them stands, the settings, the keys.

use crate::books::{Books, Fresh};
use crate::builder::{Builder, Names};
use crate::cell::Cell;
use crate::clock::Clock;
use crate::counts::{Tally, Totals};
use crate::episode::Episode;
use crate::keys::{Key, Keys, OTHER};
use crate::kind::MOST_KINDS;
use crate::local::Local;
use crate::origin::{Origin, number_of};
use crate::sync::{Arc, AtomicU64, Counter, Mutex, Ordering, Share, count_then_read, hasher};
use crate::{Folding, Kind, Settings, Sink};
use ahash::RandomState;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

/// What the handles share.
pub(crate) struct Core {
    pub(crate) id: u64,
    /// Alive as long as this is.
    alive: Arc<()>,
    kinds: Box<[OnceLock<KindState>]>,
    /// How many of `kinds` are set; locked to set another.
    known: Mutex<usize>,
    pub(crate) targets: Vec<(String, usize)>,
    settings: Mutex<Settings>,
    /// The generation of keys that threads are to use.
    generation: AtomicU64,
    keys: Mutex<Arc<Keys>>,
    /// Cells that no sweep has seen yet, each with its keys.
    pub(crate) fresh: Mutex<Fresh>,
    pub(crate) books: Mutex<Books>,
    pub(crate) spare: Mutex<Option<Local>>,
    pub(crate) hashes: RandomState,
    pub(crate) names: Names,
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) sink: Box<dyn Sink>,
}

/// One kind, and where it stands.
pub(crate) struct KindState {
    pub(crate) kind: Kind,
    /// [`FOLDING`], [`CLOSED`], and the epoch of samples from [`EPOCH`] on.
    pub(crate) word: AtomicU64,
    /// When somebody should have written a line, in seconds.
    overdue: AtomicU64,
    pub(crate) course: Mutex<Course>,
}

/// The slowly changing part of a kind.
pub(crate) struct Course {
    pub(crate) episode: Episode,
    pub(crate) folding: Folding,
    /// Whether `folding` is the kind's own.
    own: bool,
    /// Events written as they were.
    pub(crate) written: Tally,
}

/// Events are counted; without it their course is asked first.
pub(crate) const FOLDING: u64 = 1;
/// Nobody sweeps any more: events are written as they are.
pub(crate) const CLOSED: u64 = 2;
pub(crate) const EPOCH: u64 = 4;

impl Core {
    pub(crate) fn new(builder: Builder) -> Arc<Self> {
        let Builder { settings, kinds, targets, names, clock, sink } = builder;
        assert!(kinds.len() <= MOST_KINDS, "there are more than {MOST_KINDS} kinds");
        let keys = Arc::new(Keys::new(0, settings.max_keys));
        let slots: Box<[OnceLock<KindState>]> = (0..MOST_KINDS).map(|_| OnceLock::new()).collect();
        let known = kinds.len();
        for (slot, kind) in slots.iter().zip(kinds) {
            slot.get_or_init(|| KindState::new(kind, settings.folding));
        }
        Arc::new(Self {
            id: next_id(),
            alive: Arc::default(),
            kinds: slots,
            known: Mutex::new(known),
            targets,
            settings: Mutex::new(settings),
            generation: AtomicU64::new(0),
            keys: Mutex::new(keys),
            fresh: Mutex::new(Vec::new()),
            books: Mutex::new(Books::default()),
            spare: Mutex::new(None),
            hashes: hasher(),
            names,
            clock,
            sink,
        })
    }

    pub(crate) fn origin(&self, source: IpAddr) -> Origin {
        let address = number_of(source);
        Origin { address: Some(address), hash: self.hashes.hash_one(address) }
    }

    /// # Panics
    /// If there is no such kind.
    pub(crate) fn kind(&self, kind: usize) -> &KindState {
        self.kinds[kind].get().expect("kinds are numbered from 0 on, in their order")
    }

    /// The kinds that are known, with their numbers.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (usize, &KindState)> {
        self.kinds.iter().map_while(OnceLock::get).enumerate()
    }

    /// The number of the kind with this name; a new one if there is none.
    pub(crate) fn kind_named(&self, name: &str) -> usize {
        let named = |name: &str| self.kinds().find(|(_, state)| state.kind.name == name).map(|(index, _)| index);
        if let Some(index) = named(name) {
            return index;
        }
        let mut known = self.known.lock();
        if let Some(index) = named(name) {
            return index;
        }
        let Some(slot) = self.kinds.get(*known) else { return MOST_KINDS - 1 };
        // The last one takes the rest.
        let name = if *known == MOST_KINDS - 1 { OTHER } else { name };
        slot.get_or_init(|| KindState::new(Kind::new(name.to_owned()), self.settings().folding));
        *known += 1;
        *known - 1
    }

    pub(crate) fn settings(&self) -> Settings {
        *self.settings.lock()
    }

    pub(crate) fn configure(&self, settings: Settings, kinds: &[Kind]) {
        let before = std::mem::replace(&mut *self.settings.lock(), settings);
        // With this lock no line is about to be written by the old settings.
        let _books = self.books.lock();
        for (_, state) in self.kinds() {
            let named = kinds.iter().find(|kind| kind.name == state.kind.name);
            state.configure(named.map(|kind| kind.folding), settings.folding);
        }
        if before.max_keys != settings.max_keys {
            self.renew();
        }
    }

    /// Begins a new generation of keys: threads take new cells, and the old ones go once they are read.
    pub(crate) fn renew(&self) {
        let mut keys = self.keys.lock();
        let generation = keys.generation + 1;
        *keys = Arc::new(Keys::new(generation, self.settings().max_keys));
        // Ordering: who sees it takes the lock for the keys.
        self.generation.store(generation, Ordering::Relaxed);
    }

    pub(crate) fn generation(&self) -> u64 {
        // Ordering: see `renew`.
        self.generation.load(Ordering::Relaxed)
    }

    /// What a thread needs to count: a cell, which sweeps will look at, and the keys that its counts are of.
    pub(crate) fn local(&self) -> Local {
        let keys = Arc::clone(&self.keys.lock());
        let cell = Share::new(Cell::new(MOST_KINDS));
        self.fresh.lock().push((Arc::clone(&keys), Share::clone(&cell)));
        Local::new(self.id, Arc::downgrade(&self.alive), keys, cell, self.hashes.clone())
    }

    pub(crate) fn totals(&self, kind: usize) -> Totals {
        let written = self.kind(kind).course.lock().written.sum();
        Totals { written, folded: self.counted(kind) }
    }

    pub(crate) fn name(&self, route: u32) -> String {
        (self.names)(route).unwrap_or_else(|| format!("#{route}"))
    }
}

impl KindState {
    fn new(kind: Kind, folding: Folding) -> Self {
        let own = kind.folding.is_some();
        let folding = kind.folding.unwrap_or(folding).sound();
        Self {
            kind,
            word: AtomicU64::new(0),
            overdue: AtomicU64::new(u64::MAX),
            course: Mutex::new(Course { episode: Episode::default(), folding, own, written: Tally::default() }),
        }
    }

    pub(crate) fn word(&self) -> u64 {
        // Ordering: an old value is harmless. Without `FOLDING` the course is asked; with it the event is counted, and
        // counts are told of whatever the state of their kind. Of `CLOSED`, `count` makes sure.
        self.word.load(Ordering::Relaxed)
    }

    /// Whether the event at hand is to be written as it is.
    pub(crate) fn claim(&self, now: Duration, key: impl FnOnce() -> Key) -> bool {
        let mut course = self.course.lock();
        let Course { episode, folding, written, .. } = &mut *course;
        let closed = self.word() & CLOSED != 0;
        if !closed && !episode.claim(now, folding) {
            return false;
        }
        if !closed {
            self.settle(episode, folding);
        }
        written.add(&key(), 1);
        true
    }

    /// Counts one event; the word as it was afterwards.
    pub(crate) fn count(&self, cell: &Cell, kind: usize, number: u32, now: Duration, origin: Option<Origin>) -> u64 {
        cell.sample(kind, self.word() / EPOCH, now, origin);
        count_then_read(cell.count(number), &self.word)
    }

    /// Makes the word say what the episode says. Under the lock of the course.
    pub(crate) fn settle(&self, episode: &Episode, folding: &Folding) {
        // Ordering: see `word`.
        if episode.folds(folding) && self.word() & CLOSED == 0 {
            self.word.fetch_or(FOLDING, Ordering::Relaxed);
        } else {
            self.word.fetch_and(!FOLDING, Ordering::Relaxed);
        }
        let overdue = episode.overdue(folding).as_secs();
        // Ordering: a hint.
        self.overdue.store(overdue, Ordering::Relaxed);
    }

    pub(crate) fn is_overdue(&self, now: Duration) -> bool {
        // Ordering: a hint.
        now.as_secs() > self.overdue.load(Ordering::Relaxed)
    }

    /// `named` is what the new settings say of this kind in particular, if they do.
    fn configure(&self, named: Option<Option<Folding>>, general: Folding) {
        let mut course = self.course.lock();
        let folding = match named {
            Some(own) => {
                course.own = own.is_some();
                own.unwrap_or(general)
            }
            None if course.own => return,
            None => general,
        };
        let folding = folding.sound();
        let Course { episode, folding: before, .. } = &mut *course;
        episode.adjust(before, &folding);
        *before = folding;
        self.settle(episode, &folding);
    }
}

fn next_id() -> u64 {
    static NEXT: Counter = Counter::new(0);
    // Ordering: only that the numbers differ matters.
    NEXT.fetch_add(1, Ordering::Relaxed)
}
