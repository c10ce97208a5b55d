//! What a simulation ran into: a history in which a reason never occurs says nothing about it.

use crate::World;
use conn_tracker::Reason;
use std::collections::BTreeMap;

/// How often each thing happened.
#[derive(Debug, Default)]
pub(crate) struct Occurred {
    actions: BTreeMap<&'static str, u64>,
    reasons: BTreeMap<(&'static str, bool), u64>,
}

impl Occurred {
    pub(crate) fn add(&mut self, world: &World) {
        for (action, count) in &world.actions {
            *self.actions.entry(action).or_default() += count;
        }
        for (&(reason, _, enforced), count) in &world.reference.refused {
            *self.reasons.entry((reason.label(), enforced)).or_default() += count;
        }
    }

    pub(crate) fn print(&self) {
        for (name, count, share) in self.shares() {
            println!("{name:<24} {count:>12} {share:>6.2} %");
        }
    }

    /// Every action and every reason is at least half a percent of its kind, and every reason occurred in a dry run
    /// too. (A full table has a test of its own.)
    pub(crate) fn assert_none_is_rare(&self) {
        for reason in Reason::ALL.into_iter().filter(|&reason| reason != Reason::TableFull) {
            for enforced in [true, false] {
                assert!(self.reasons.contains_key(&(reason.label(), enforced)), "{reason} never occurred");
            }
        }
        for (name, _, share) in self.shares() {
            assert!(share >= 0.5, "{name} is only {share:.2} %");
        }
    }

    /// Name, count and percent of its kind.
    fn shares(&self) -> Vec<(&'static str, u64, f64)> {
        let mut reasons = BTreeMap::new();
        for (&(reason, _), count) in &self.reasons {
            *reasons.entry(reason).or_default() += count;
        }
        let mut shares = Vec::new();
        for kind in [&self.actions, &reasons] {
            let all = kind.values().sum::<u64>() as f64;
            shares.extend(kind.iter().map(|(&name, &count)| (name, count, count as f64 * 100.0 / all)));
        }
        shares
    }
}

/// A number from the environment, for longer runs than a test has time for.
pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, not a number"))
}
