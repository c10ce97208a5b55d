//! How a backend does at work, and setting it aside for a while when it fails. Pure.

use parking_lot::Mutex;
use proxy_route::Ejection;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How one backend does at work.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// Whether it has failed since it last did well. As long as it has not, nobody takes the lock.
    doubted: AtomicBool,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    /// Failures in a row since it was set aside last.
    failures: u32,
    /// How often it was set aside since it last did well.
    times: u32,
    /// From when until when it was set aside last.
    aside: Option<(Instant, Instant)>,
}

impl Trust {
    /// Whether it was set aside at `now` by what had happened before.
    pub(super) fn is_aside(&self, now: Instant) -> bool {
        // Ordering: a hint for balancing; what is read because of it is read under the lock.
        self.doubted.load(Ordering::Relaxed)
            && self.record.lock().aside.is_some_and(|(since, until)| since < now && now < until)
    }

    /// It did its work.
    pub(super) fn succeeded(&self) {
        // Ordering: see `is_aside`.
        if self.doubted.load(Ordering::Relaxed) {
            let mut record = self.record.lock();
            *record = Record::default();
            // Ordering: see `is_aside`.
            self.doubted.store(false, Ordering::Relaxed);
        }
    }

    /// It failed; for how long it is set aside because of it.
    pub(super) fn failed(&self, rules: &Ejection, now: Instant) -> Option<Duration> {
        let mut record = self.record.lock();
        // Ordering: see `is_aside`.
        self.doubted.store(true, Ordering::Relaxed);
        if record.aside.is_some_and(|(_, until)| now < until) {
            // Those that were under way, and those that had no other choice.
            return None;
        }
        record.failures += 1;
        // At its return it is on probation.
        if record.times == 0 && record.failures < rules.after_failures {
            return None;
        }
        let factor = 1_u32.checked_shl(record.times).unwrap_or(u32::MAX);
        let hold = rules.hold.saturating_mul(factor).min(rules.max_hold);
        record.failures = 0;
        record.times = record.times.saturating_add(1);
        record.aside = Some((now, now.checked_add(hold)?));
        Some(hold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Ejection =
        Ejection { after_failures: 3, hold: Duration::from_secs(1), max_hold: Duration::from_secs(5) };

    #[test]
    fn it_is_set_aside_for_longer_each_time_that_it_fails_at_its_return() {
        let (trust, mut now) = (Trust::default(), Instant::now());
        let just = Duration::from_millis(1);
        assert_eq!(trust.failed(&RULES, now), None);
        trust.succeeded();
        assert_eq!((trust.failed(&RULES, now), trust.failed(&RULES, now)), (None, None), "it began anew");
        for (round, seconds) in [1, 2, 4, 5, 5].into_iter().enumerate() {
            let hold = Duration::from_secs(seconds);
            assert_eq!(trust.failed(&RULES, now), Some(hold), "round {round}");
            assert!(!trust.is_aside(now), "not for those who looked before");
            assert!(trust.is_aside(now + just) && trust.is_aside(now + hold - just));
            assert_eq!(trust.failed(&RULES, now + just), None, "it is aside already");
            now += hold;
            assert!(!trust.is_aside(now));
        }
        trust.succeeded();
        assert_eq!(trust.failed(&RULES, now), None, "all is forgiven");
        assert!(!trust.is_aside(now + just));
    }

    #[test]
    fn a_hold_does_not_overflow() {
        let (trust, now) = (Trust::default(), Instant::now());
        let rules = Ejection { after_failures: 1, ..RULES };
        let mut at = now;
        for _ in 0..100 {
            at += trust.failed(&rules, at).unwrap();
        }
        assert_eq!(at - now, Duration::from_secs(1 + 2 + 4 + 97 * 5));
    }
}
