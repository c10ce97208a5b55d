//! Taking the counts off the threads, and writing lines.

use crate::books::{Books, Fresh, Taken};
use crate::core::{CLOSED, Core, EPOCH, KindState};
use crate::counts::Count;
use crate::episode::Due;
use crate::keys::{OTHER, RouteOf};
use crate::sketch::Sample;
use crate::sync::{Ordering, set_then_look};
use crate::{Closing, Folding, Summary};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

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
        books.take_in(self.fresh());
        books.counted(kind)
    }

    /// Everything since the start, by kind, reason and route.
    pub(crate) fn counts(&self) -> Vec<Count> {
        let mut books = self.books.lock();
        books.take_in(self.fresh());
        let mut counts = Vec::new();
        for (kind, state) in self.kinds() {
            let mut tally = state.course.lock().written.clone();
            books.count_into(kind, &mut tally);
            counts.extend(tally.into_counts(kind));
        }
        counts
    }

    /// Cells since this was asked last.
    fn fresh(&self) -> Fresh {
        std::mem::take(&mut *self.fresh.lock())
    }

    fn sweep(&self, books: &mut Books, everything: bool) {
        books.take_in(self.fresh());
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
        for (key, count) in books.keys(index, taken) {
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
