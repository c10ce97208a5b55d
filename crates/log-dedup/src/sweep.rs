//! Taking the counts off the threads, and writing lines.

use crate::cell::Cell;
use crate::core::{CLOSED, Core, EPOCH, KindState, MOST_KINDS};
use crate::counts::Tally;
use crate::episode::Due;
use crate::keys::{Key, Keys, OTHER, RouteOf};
use crate::sketch::Sample;
use crate::sync::{Arc, Ordering, Share, look, set_then_look};
use crate::{Closing, Folding, Summary};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// What was told of already. Locked by who sweeps, so that there is one at a time and lines of a kind are in order.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// One per generation of keys that still has cells; the newest is last.
    ledgers: Vec<Ledger>,
    /// Events of ledgers that are gone, by kind.
    gone: Vec<Tally>,
}

/// The counts of one generation of keys.
#[derive(Debug)]
struct Ledger {
    keys: Arc<Keys>,
    cells: Vec<Share<Cell>>,
    /// By kind.
    rows: Vec<Vec<Row>>,
}

/// One key's counts.
#[derive(Debug)]
struct Row {
    number: u32,
    key: Arc<Key>,
    /// Counted by threads that are gone.
    retired: u64,
    /// Counted by all, as far as lines have told.
    told: u64,
}

/// What one line tells of: the ledger, row and count of each part.
#[derive(Debug, Default)]
struct Taken {
    count: u64,
    parts: Vec<(usize, usize, u64)>,
}

impl Core {
    /// Writes the lines that are due.
    pub(crate) fn tick(&self) {
        let mut books = self.books.lock();
        self.sweep(&mut books, false);
    }

    /// The same, unless somebody is at it.
    pub(crate) fn tick_if_free(&self) {
        if let Some(mut books) = self.books.try_lock() {
            self.sweep(&mut books, false);
        }
    }

    /// Writes a summary of everything that was counted.
    pub(crate) fn flush(&self) {
        let mut books = self.books.lock();
        self.sweep(&mut books, true);
    }

    /// From now on events are written as they are; everything counted before is summed up.
    pub(crate) fn close(&self) {
        let mut books = self.books.lock();
        for (_, state) in self.kinds() {
            let course = state.course.lock();
            set_then_look(&state.word, CLOSED);
            state.settle(&course.episode, &course.folding);
        }
        self.sweep(&mut books, true);
    }

    /// Events are folded again, if they were not any more.
    pub(crate) fn open(&self) {
        let _books = self.books.lock();
        for (_, state) in self.kinds() {
            let course = state.course.lock();
            // Ordering: who sees it late writes an event more.
            state.word.fetch_and(!CLOSED, Ordering::Relaxed);
            state.settle(&course.episode, &course.folding);
        }
    }

    /// Events of a kind that were counted since the start.
    pub(crate) fn counted(&self, kind: usize) -> u64 {
        let mut books = self.books.lock();
        books.take_in(self);
        books.counted(kind)
    }

    fn sweep(&self, books: &mut Books, everything: bool) {
        books.take_in(self);
        let now = self.clock.now();
        for (index, state) in self.kinds() {
            self.sweep_kind(books, index, state, now, everything);
        }
        books.retire(self.generation(), |cell| self.kinds().all(|(index, state)| cell.is_spent(index, epoch(state))));
    }

    fn sweep_kind(&self, books: &mut Books, index: usize, state: &KindState, now: Duration, everything: bool) {
        let mut taken = books.take(index);
        let (due, folding, since) = {
            let mut course = state.course.lock();
            let folding = course.folding;
            let episode = &mut course.episode;
            let mut due = episode.due(now, taken.count, &folding);
            if taken.count > 0 && due == Due::Nothing {
                if everything {
                    due = Due::Summary;
                } else if !episode.folds(&folding) {
                    // Counted by a thread that had not heard yet that the kind is quiet.
                    episode.reopen(now, &folding);
                }
            }
            if matches!(due, Due::Close(..) | Due::Quiet) {
                episode.close();
            }
            state.settle(episode, &folding);
            (due, folding, episode.since())
        };
        match due {
            Due::Nothing | Due::Quiet => {}
            Due::Close(lasted, total) => self.sink.closing(&Closing { kind: state.kind.clone(), lasted, total }),
            Due::Summary => {
                // Ordering: an event of a thread that has not heard of the new epoch may miss in the sample.
                let epoch = state.word.fetch_add(EPOCH, Ordering::AcqRel) / EPOCH;
                // Again, so that what is in the sample is in the counts.
                taken = books.take(index);
                let sample = books.sample(index, epoch);
                let summary = self.summarise(books, (index, state), &taken, &sample, (now, since), &folding);
                self.sink.summary(&summary);
                // Not before it is written: if that panics, the events are still to be told of.
                books.tell(index, &taken);
                let last = sample.span().map_or(now, |(_, last)| last);
                let mut course = state.course.lock();
                course.episode.told(now, taken.count, last, &folding);
                state.settle(&course.episode, &folding);
                drop(course);
                if books.overflowed() {
                    self.renew();
                }
            }
        }
    }

    fn summarise(
        &self,
        books: &Books,
        (index, state): (usize, &KindState),
        taken: &Taken,
        sample: &Sample,
        (now, since): (Duration, Duration),
        folding: &Folding,
    ) -> Summary {
        let (mut reasons, mut routes) = (BTreeMap::<&str, u64>::new(), BTreeMap::<RouteOf<&str>, u64>::new());
        for (ledger, row, count) in &taken.parts {
            let key = &books.ledgers[*ledger].rows[index][*row].key;
            *reasons.entry(&key.reason).or_default() += count;
            *routes.entry(key.route.borrowed()).or_default() += count;
        }
        let mut other_reasons = reasons.remove(OTHER).unwrap_or(0);
        let (reasons, fewer) = ranked(reasons.into_iter().collect(), MOST_REASONS);
        other_reasons += fewer;
        routes.remove(&RouteOf::None);
        let mut other_routes = routes.remove(&RouteOf::Other).unwrap_or(0);
        let (routes, fewer) = ranked(routes.into_iter().collect(), folding.top_sources);
        other_routes += fewer;
        let name = |route| match route {
            RouteOf::Number(number) => self.name(number),
            RouteOf::Name(name) => str::to_owned(name),
            RouteOf::None | RouteOf::Other => OTHER.to_owned(),
        };
        let reasons = reasons.into_iter().map(|(reason, count)| (reason.to_owned(), count));
        let routes = routes.into_iter().map(|(route, count)| (name(route), count));
        let wall = self.clock.wall();
        let of_day = |at: Duration| wall.checked_sub(now.saturating_sub(at)).unwrap_or(SystemTime::UNIX_EPOCH);
        Summary {
            kind: state.kind.clone(),
            count: taken.count,
            elapsed: now.saturating_sub(since),
            span: sample.span().map(|(first, last)| (of_day(first), of_day(last))),
            sources: sample.distinct(),
            reasons: with_other(reasons.collect(), other_reasons),
            routes: with_other(routes.collect(), other_routes),
            top: sample.top(folding.top_sources, taken.count, |address| self.hashes.hash_one(address)),
            gauge: state.kind.gauge.as_ref().map(|gauge| (gauge.name, (gauge.read)())),
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Books {
    /// Learns of new cells.
    pub(crate) fn take_in(&mut self, core: &Core) {
        for (keys, cell) in std::mem::take(&mut *core.fresh.lock()) {
            let same = |ledger: &&mut Ledger| ledger.keys.generation == keys.generation;
            match self.ledgers.iter_mut().find(same) {
                Some(ledger) => ledger.cells.push(cell),
                None => self.ledgers.push(Ledger { keys, cells: vec![cell], rows: Vec::new() }),
            }
        }
    }

    /// What was counted of a kind and not told of yet.
    fn take(&mut self, kind: usize) -> Taken {
        let mut taken = Taken::default();
        for (place, ledger) in self.ledgers.iter_mut().enumerate() {
            ledger.learn(kind);
            for (index, row) in ledger.rows[kind].iter().enumerate() {
                let count = ledger.count(row) - row.told;
                if count > 0 {
                    taken.count += count;
                    taken.parts.push((place, index, count));
                }
            }
        }
        taken
    }

    fn tell(&mut self, kind: usize, taken: &Taken) {
        for (ledger, row, count) in &taken.parts {
            self.ledgers[*ledger].rows[kind][*row].told += count;
        }
    }

    fn counted(&mut self, kind: usize) -> u64 {
        let mut count = self.gone.get(kind).map_or(0, Tally::sum);
        for ledger in &mut self.ledgers {
            ledger.learn(kind);
            count += ledger.rows[kind].iter().map(|row| ledger.count(row)).sum::<u64>();
        }
        count
    }

    /// Adds what was counted of a kind since the start.
    pub(crate) fn count_into(&mut self, kind: usize, tally: &mut Tally) {
        if let Some(gone) = self.gone.get(kind) {
            tally.merge(gone);
        }
        for ledger in &mut self.ledgers {
            ledger.learn(kind);
            for row in &ledger.rows[kind] {
                tally.add(&row.key, ledger.count(row));
            }
        }
    }

    fn sample(&self, kind: usize, epoch: u64) -> Sample {
        let mut sample = Sample::default();
        for cell in self.ledgers.iter().flat_map(|ledger| &ledger.cells) {
            if !cell.read(kind, epoch, &mut sample) {
                sample.torn();
            }
        }
        sample
    }

    /// Whether the newest keys exceeded their bound.
    fn overflowed(&self) -> bool {
        self.ledgers.last().is_some_and(|ledger| ledger.keys.overflowed())
    }

    /// Cells whose counts have not moved to the books yet.
    #[cfg(test)]
    pub(crate) fn cells(&self) -> usize {
        self.ledgers.iter().map(|ledger| ledger.cells.len()).sum()
    }

    /// Lets go of the cells whose thread has ended, and of keys that nobody uses any more.
    fn retire(&mut self, generation: u64, is_spent: impl Fn(&Cell) -> bool) {
        for ledger in &mut self.ledgers {
            ledger.retire(&is_spent);
        }
        let gone = &mut self.gone;
        self.ledgers.retain(|ledger| {
            let stays = ledger.keys.generation == generation || !ledger.is_told();
            for (kind, rows) in ledger.rows.iter().enumerate().filter(|_| !stays) {
                gone.resize(gone.len().max(kind + 1), Tally::default());
                rows.iter().for_each(|row| gone[kind].add(&row.key, row.told));
            }
            stays
        });
    }
}

impl Ledger {
    /// Makes rows for the keys of a kind that have none yet.
    fn learn(&mut self, kind: usize) {
        while self.rows.len() <= kind {
            let number = Keys::other(self.rows.len());
            self.rows.push(vec![Row { number, key: Arc::new(Key::other()), retired: 0, told: 0 }]);
        }
        let rows = &mut self.rows[kind];
        let fresh = self.keys.beyond(kind, rows.len() - 1);
        rows.extend(fresh.into_iter().map(|(number, key)| Row { number, key, retired: 0, told: 0 }));
    }

    fn count(&self, row: &Row) -> u64 {
        let counts = self.cells.iter().filter_map(|cell| cell.peek(row.number));
        row.retired + counts.map(look).sum::<u64>()
    }

    fn retire(&mut self, is_spent: impl Fn(&Cell) -> bool) {
        let mut place = 0;
        while let Some(cell) = self.cells.get_mut(place) {
            // Whoever has the only handle sees everything that the thread did before it let go of its own.
            if Share::get_mut(cell).is_none_or(|cell| !is_spent(cell)) {
                place += 1;
                continue;
            }
            for kind in 0..MOST_KINDS.min(self.keys.kinds().max(self.rows.len())) {
                self.learn(kind);
            }
            let cell = self.cells.swap_remove(place);
            for row in self.rows.iter_mut().flatten() {
                row.retired += cell.peek(row.number).map_or(0, look);
            }
        }
    }

    /// Whether lines have told of all there is and can be.
    fn is_told(&self) -> bool {
        self.cells.is_empty() && self.rows.iter().flatten().all(|row| row.retired == row.told)
    }
}

fn epoch(state: &KindState) -> u64 {
    // Ordering: only who sweeps begins epochs.
    state.word.load(Ordering::Relaxed) / EPOCH
}

/// The `most` largest, largest first, and the sum of the others. Equal counts are ordered by name.
fn ranked<T: Ord>(mut parts: Vec<(T, u64)>, most: usize) -> (Vec<(T, u64)>, u64) {
    parts.sort_unstable_by(|(left, many), (right, more)| more.cmp(many).then_with(|| left.cmp(right)));
    let others = parts.iter().skip(most).map(|(_, count)| count).sum();
    parts.truncate(most);
    (parts, others)
}

fn with_other(mut parts: Vec<(String, u64)>, other: u64) -> Vec<(String, u64)> {
    if other > 0 {
        parts.push((OTHER.to_owned(), other));
    }
    parts
}

/// Reasons that a summary names.
const MOST_REASONS: usize = 16;
