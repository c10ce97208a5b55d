//! From an `Instant` to the microseconds since a table was made.
//!
//! The subtraction of the standard library is not inlined: with what is around it, it takes 57 instructions, a sixth of an
//! admission and its release. But what an `Instant` consists of it tells every hasher: seconds, then nanoseconds. It does not
//! promise to, so each clock tries once whether it is so, and subtracts if not. Both ways give the same.

use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// The start in nanoseconds, as hashing tells them.
    told: i64,
    /// How many nanoseconds after it what hashing tells is so; 0: never.
    told_for: u64,
}

impl Clock {
    pub(crate) fn starting(started: Instant) -> Self {
        let start = told(started);
        let is_told = |later: Duration| {
            let passed =
                started.checked_add(later).and_then(told).zip(start).map(|(then, start)| then.wrapping_sub(start));
            passed.map(i128::from) == i128::try_from(later.as_nanos()).ok()
        };
        let told_for = if TRIED.into_iter().all(is_told) { i64::MAX as u64 } else { 0 };
        Self { started, told: start.unwrap_or(0), told_for }
    }

    /// Whole microseconds; 0 before the start.
    #[inline(always)]
    pub(crate) fn micros(&self, now: Instant) -> u64 {
        let passed = told(now).map(|then| then.wrapping_sub(self.told) as u64);
        match passed.filter(|passed| *passed < self.told_for) {
            Some(passed) => passed / 1_000,
            None => self.subtracted(now),
        }
    }

    #[cold]
    fn subtracted(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_micros()).unwrap_or(u64::MAX)
    }
}

/// What is tried: less than a second, across one, and days.
const TRIED: [Duration; 6] = [
    Duration::from_nanos(1),
    Duration::from_nanos(499_999_999),
    Duration::from_nanos(999_999_999),
    Duration::from_secs(1),
    Duration::from_nanos(1_500_000_001),
    Duration::from_secs(1_000_000),
];

/// An instant in nanoseconds since one that only the system knows, if hashing tells it. They wrap after 584 years.
#[inline(always)]
fn told(instant: Instant) -> Option<i64> {
    let mut parts = Parts { seconds: None, nanos: None };
    instant.hash(&mut parts);
    Some(parts.seconds?.wrapping_mul(1_000_000_000).wrapping_add(i64::from(parts.nanos?)))
}

/// Hears what is hashed.
struct Parts {
    seconds: Option<i64>,
    nanos: Option<u32>,
}

impl Hasher for Parts {
    #[inline]
    fn write_i64(&mut self, seconds: i64) {
        self.seconds = Some(seconds);
    }

    #[inline]
    fn write_u64(&mut self, seconds: u64) {
        self.seconds = Some(seconds as i64);
    }

    #[inline]
    fn write_u32(&mut self, nanos: u32) {
        self.nanos = Some(nanos);
    }

    fn write(&mut self, _other: &[u8]) {
        // Something else: what is tried will not fit.
        self.seconds = None;
    }

    fn finish(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_ways_give_the_same(start in 0..4_000_000_000_u64, nanos in 0..20_000_000_000_000_000_u64, is_before: bool) {
            let started = Instant::now() + Duration::from_nanos(start);
            let clock = Clock::starting(started);
            let after = Duration::from_nanos(nanos);
            let now = if is_before { started.checked_sub(after) } else { started.checked_add(after) };
            let now = now.unwrap_or(started);
            prop_assert_eq!(clock.micros(now), clock.subtracted(now));
        }
    }

    #[test]
    fn a_hash_that_tells_something_else_is_not_used() {
        let started = Instant::now();
        let clock = Clock { started, told: 0, told_for: 0 };
        assert_eq!(clock.micros(started + Duration::from_nanos(7_000_999)), 7_000);
        assert_eq!(clock.micros(started.checked_sub(Duration::from_nanos(1)).unwrap_or(started)), 0);
    }
}
