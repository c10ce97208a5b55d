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
    /// Since when it is set aside, and until when it is not even tried.
    aside: Option<(Instant, Instant)>,
    /// Whether somebody tries it to see whether it is well again.
    on_trial: bool,
}

impl Trust {
    /// Whether it was set aside by what had happened before `now`, and has not done well since.
    pub(super) fn is_aside(&self, now: Instant) -> bool {
        // Ordering: a hint for balancing; what is read because of it is read under the lock.
        self.doubted.load(Ordering::Relaxed) && self.record.lock().aside.is_some_and(|(since, _)| since < now)
    }

    /// Whether to try it again: it is aside, its time is over at `now` and nobody else tries it. Whoever does says when
    /// that [has ended](Self::end_trial).
    pub(super) fn begin_trial(&self, now: Instant) -> bool {
        // Ordering: see `is_aside`.
        if !self.doubted.load(Ordering::Relaxed) {
            return false;
        }
        let mut record = self.record.lock();
        let due = record.aside.is_some_and(|(_, until)| until <= now) && !record.on_trial;
        record.on_trial |= due;
        due
    }

    /// Nobody tries it any more.
    pub(super) fn end_trial(&self) {
        self.record.lock().on_trial = false;
    }

    /// It did its work.
    pub(super) fn succeeded(&self) {
        // Ordering: see `is_aside`.
        if self.doubted.load(Ordering::Relaxed) {
            let mut record = self.record.lock();
            *record = Record { on_trial: record.on_trial, ..Record::default() };
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
        // Once it was set aside, one failure is enough.
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
            assert!(trust.is_aside(now), "until it does well");
        }
        trust.succeeded();
        assert_eq!(trust.failed(&RULES, now), None, "all is forgiven");
        assert!(!trust.is_aside(now + just));
    }

    #[test]
    fn one_at_a_time_may_try_it_once_its_time_is_over() {
        let (trust, now) = (Trust::default(), Instant::now());
        assert!(!trust.begin_trial(now), "nothing is wrong with it");
        let rules = Ejection { after_failures: 1, ..RULES };
        let hold = trust.failed(&rules, now).unwrap();
        assert!(!trust.begin_trial(now + hold / 2));
        let over = now + hold;
        assert!(trust.begin_trial(over));
        assert!(!trust.begin_trial(over), "somebody tries it");
        trust.end_trial();
        assert!(trust.begin_trial(over), "that one has learnt nothing");
        assert_eq!(trust.failed(&rules, over), Some(2 * hold));
        trust.end_trial();
        assert!(!trust.begin_trial(over + hold), "it is aside again, for longer");
        assert!(trust.begin_trial(over + 2 * hold));
        trust.succeeded();
        assert!(!trust.is_aside(over + 2 * hold) && !trust.begin_trial(over + 2 * hold));
        trust.end_trial();
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
