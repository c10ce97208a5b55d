//! What health checks have found of one backend. Pure.

use parking_lot::Mutex;
use proxy_route::HealthCheck;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What health checks have found of one backend. One that was never checked counts as well.
#[derive(Debug, Default)]
pub struct Checked {
    down: AtomicBool,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    /// When the last check began.
    last: Option<Instant>,
    /// Results in a row that say other than what holds.
    contrary: u32,
    /// Why the last one failed.
    failure: Option<String>,
}

/// A backend whose health has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It gets no traffic from now on.
    Down,
    /// It gets traffic again.
    Up,
}

impl Checked {
    /// Whether checks say that it gets no traffic.
    #[must_use]
    pub fn is_down(&self) -> bool {
        // Ordering: a hint for balancing, nothing else is read because of it.
        self.down.load(Ordering::Relaxed)
    }

    /// Takes in the result of a check that began at `now`. The first one decides at once, later ones once enough of them
    /// in a row say the same.
    pub fn note(&self, check: &HealthCheck, now: Instant, result: Result<(), String>) -> Option<Change> {
        let mut found = self.found.lock();
        let first = found.last.replace(now).is_none();
        let (well, down) = (result.is_ok(), self.is_down());
        found.failure = result.err();
        if well != down {
            found.contrary = 0;
            return None;
        }
        found.contrary += 1;
        let enough = if down { check.healthy_threshold } else { check.unhealthy_threshold };
        if found.contrary < enough && !first {
            return None;
        }
        found.contrary = 0;
        // Ordering: see `is_down`; written under the lock alone.
        self.down.store(!well, Ordering::Relaxed);
        Some(if well { Change::Up } else { Change::Down })
    }

    /// When the last check began.
    #[must_use]
    pub fn last(&self) -> Option<Instant> {
        self.found.lock().last
    }

    /// Why the last check failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.found.lock().failure.clone()
    }

    /// Forgets everything: it is not checked any more.
    pub(super) fn forget(&self) {
        let mut found = self.found.lock();
        *found = Found::default();
        // Ordering: see `is_down`.
        self.down.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_as_many_in_a_row_as_are_asked_for() {
        let check = HealthCheck { unhealthy_threshold: 3, healthy_threshold: 2, ..HealthCheck::default() };
        let checked = Checked::default();
        let now = Instant::now();
        assert!(!checked.is_down() && checked.last().is_none());
        let results = "+--+---+-+++--";
        let changes = "......D...U...";
        let mut seen = String::new();
        for result in results.chars() {
            let outcome = if result == '+' { Ok(()) } else { Err("refused".to_owned()) };
            seen.push(match checked.note(&check, now, outcome) {
                None => '.',
                Some(Change::Down) => 'D',
                Some(Change::Up) => 'U',
            });
            assert_eq!(checked.failure().is_some(), result == '-', "that of the last one");
        }
        assert_eq!(seen, changes);
        assert_eq!(checked.last(), Some(now));
    }

    #[test]
    fn the_first_result_decides() {
        let check = HealthCheck::default();
        let checked = Checked::default();
        assert_eq!(checked.note(&check, Instant::now(), Err("refused".to_owned())), Some(Change::Down));
        assert!(checked.is_down());
        checked.forget();
        assert!(!checked.is_down() && checked.failure().is_none());
        assert_eq!(checked.note(&check, Instant::now(), Ok(())), None, "it was well before");
        assert_eq!(checked.note(&check, Instant::now(), Err("refused".to_owned())), None);
    }
}
