//! When lines of one kind are due: pure, with the time as an argument.

use crate::Folding;
use std::time::Duration;

/// One kind between the first event after a quiet time and the next quiet time.
///
/// Lines keep to a grid of intervals that begins with the episode: of each interval there is at most one. An early line
/// takes the place of that at the interval's end, and the ones after it come an interval apart again.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Episode {
    /// Events written as they were; 0 while the kind is quiet.
    written: u32,
    /// The first event, and the begin of the grid.
    began: Duration,
    /// From when on events are counted for the next line.
    since: Duration,
    /// When the next line is due.
    due: Duration,
    /// The place on the grid of the last line, in intervals.
    place: Option<u64>,
    /// Events a second in the interval before.
    rate: f64,
    /// Events that lines have told of, those written as they were included.
    total: u64,
    /// The last event that a line has told of.
    last: Duration,
    lines: u32,
}

/// What is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing.
    Nothing,
    /// A summary of what was counted.
    Summary,
    /// That it is over: how long it took, and how many events there were.
    Close(Duration, u64),
    /// Nothing, but it is over.
    Quiet,
}

impl Episode {
    /// Takes note of an event; whether it is to be written as it is.
    pub(crate) fn claim(&mut self, now: Duration, folding: &Folding) -> bool {
        if self.written >= folding.burst {
            return false;
        }
        if self.written == 0 {
            *self = Self { began: now, since: now, due: now + folding.interval, ..Self::default() };
        }
        self.written += 1;
        self.total += 1;
        self.last = self.last.max(now);
        true
    }

    /// Whether all further events are counted.
    pub(crate) fn folds(&self, folding: &Folding) -> bool {
        self.written >= folding.burst
    }

    /// What to write now that `count` events were counted since the last line.
    pub(crate) fn due(&self, now: Duration, count: u64, folding: &Folding) -> Due {
        match (self.written, count) {
            (0, _) => Due::Nothing,
            (_, 0) if now < self.due => Due::Nothing,
            (_, 0) if self.lines == 0 => Due::Quiet,
            (_, 0) => Due::Close(self.last.saturating_sub(self.began), self.total),
            _ if now >= self.due || self.rises(now, count, folding) => Due::Summary,
            _ => Due::Nothing,
        }
    }

    /// A line told of `count` events, the last of them at `last`.
    pub(crate) fn told(&mut self, now: Duration, count: u64, last: Duration, folding: &Folding) {
        self.rate = rate(count, now.saturating_sub(self.since));
        self.total += count;
        self.last = self.last.max(last);
        self.lines = self.lines.saturating_add(1);
        // Where the line belongs, not when somebody came to write it; lines that nobody came for are left out.
        let late = now.saturating_sub(self.due);
        let missed = u32::try_from(late.as_nanos() / folding.interval.as_nanos()).unwrap_or(u32::MAX);
        let at = now.min(self.due + folding.interval.saturating_mul(missed));
        self.place = Some(self.place_of(at, folding));
        (self.since, self.due) = (now, at + folding.interval);
    }

    /// Events were counted after the kind had become quiet: the next line tells of them.
    pub(crate) fn reopen(&mut self, now: Duration, folding: &Folding) {
        *self = Self { began: now, since: now, due: now + folding.interval, last: now, ..Self::default() };
        self.written = folding.burst;
    }

    /// The kind is quiet from now on.
    pub(crate) fn close(&mut self) {
        self.written = 0;
    }

    /// Goes by another interval from now on.
    pub(crate) fn adjust(&mut self, old: &Folding, new: &Folding) {
        if old.interval != new.interval {
            // The grid begins anew where the last line was.
            let line = self.due.saturating_sub(old.interval);
            (self.due, self.place) = (line + new.interval, None);
        }
        // Who was folding goes on folding.
        if self.written >= old.burst {
            self.written = self.written.max(new.burst);
        }
    }

    /// From when on events are counted for the next line.
    pub(crate) fn since(&self) -> Duration {
        self.since
    }

    /// When somebody should long have come to write the next line; never while the kind is quiet.
    pub(crate) fn overdue(&self, folding: &Folding) -> Duration {
        if self.written == 0 { Duration::MAX } else { self.due + (folding.interval / 4).max(PATIENCE) }
    }

    fn rises(&self, now: Duration, count: u64, folding: &Folding) -> bool {
        let rate = rate(count, now.saturating_sub(self.since));
        folding.rise > 0
            && count >= LEAST_RISE
            && rate >= LEAST_RISE as f64
            && rate >= self.rate * f64::from(folding.rise)
            && self.place != Some(self.place_of(now, folding))
    }

    /// Which interval of the grid a time belongs to: the end of one is part of it, its begin is not.
    fn place_of(&self, at: Duration, folding: &Folding) -> u64 {
        let nanos = at.saturating_sub(self.began).as_nanos();
        u64::try_from(nanos.div_ceil(folding.interval.as_nanos())).unwrap_or(u64::MAX)
    }
}

fn rate(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(0.001)
}

/// As long as a thread that ticks may well be held up.
const PATIENCE: Duration = Duration::from_secs(1);
/// Events, and events a second, below which a rise is nothing to hurry for.
const LEAST_RISE: u64 = 100;

#[cfg(test)]
mod tests;
