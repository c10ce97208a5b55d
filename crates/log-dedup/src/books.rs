//! What the threads have counted, and how much of it lines have told of.

use crate::cell::Cell;
use crate::counts::Tally;
use crate::keys::{Key, Keys};
use crate::kind::MOST_KINDS;
use crate::sketch::Sample;
use crate::sync::{Arc, Share, look};

/// Cells that nobody has looked at yet, each with its keys.
pub(crate) type Fresh = Vec<(Arc<Keys>, Share<Cell>)>;

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
pub(crate) struct Taken {
    pub(crate) count: u64,
    parts: Vec<(usize, usize, u64)>,
}

impl Books {
    /// Learns of new cells.
    pub(crate) fn take_in(&mut self, fresh: Fresh) {
        for (keys, cell) in fresh {
            let same = |ledger: &&mut Ledger| ledger.keys.generation == keys.generation;
            match self.ledgers.iter_mut().find(same) {
                Some(ledger) => ledger.cells.push(cell),
                None => self.ledgers.push(Ledger { keys, cells: vec![cell], rows: Vec::new() }),
            }
        }
    }

    /// What was counted of a kind and not told of yet.
    pub(crate) fn take(&mut self, kind: usize) -> Taken {
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

    /// What was taken, by key.
    pub(crate) fn keys(&self, kind: usize, taken: &Taken) -> impl Iterator<Item = (&Key, u64)> {
        taken.parts.iter().map(move |&(ledger, row, count)| (&*self.ledgers[ledger].rows[kind][row].key, count))
    }

    /// Lines have told of what was taken.
    pub(crate) fn tell(&mut self, kind: usize, taken: &Taken) {
        for (ledger, row, count) in &taken.parts {
            self.ledgers[*ledger].rows[kind][*row].told += count;
        }
    }

    /// Events of a kind since the start.
    pub(crate) fn counted(&mut self, kind: usize) -> u64 {
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

    /// What all threads know of the events of an epoch.
    pub(crate) fn sample(&self, kind: usize, epoch: u64) -> Sample {
        let mut sample = Sample::default();
        for cell in self.ledgers.iter().flat_map(|ledger| &ledger.cells) {
            if !cell.read(kind, epoch, &mut sample) {
                sample.torn();
            }
        }
        sample
    }

    /// Whether the newest keys exceeded their bound.
    pub(crate) fn overflowed(&self) -> bool {
        self.ledgers.last().is_some_and(|ledger| ledger.keys.overflowed())
    }

    /// Cells whose counts have not moved to the books yet.
    #[cfg(test)]
    pub(crate) fn cells(&self) -> usize {
        self.ledgers.iter().map(|ledger| ledger.cells.len()).sum()
    }

    /// Lets go of the cells whose thread has ended, and of keys that nobody uses any more.
    pub(crate) fn retire(&mut self, generation: u64, is_spent: impl Fn(&Cell) -> bool) {
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
