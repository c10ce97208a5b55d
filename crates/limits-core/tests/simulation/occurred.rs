//! What a simulation ran into: a history in which a reason never occurs says nothing about it.

use crate::World;
use conn_tracker::Reason;
use std::collections::BTreeMap;

/// How often each thing happened.
#[derive(Debug, Default)]
pub(crate) struct Occurred {
    actions: BTreeMap<&'static str, u64>,
    /// Enforced, and in a dry run.
    reasons: [BTreeMap<&'static str, u64>; 2],
    pressure: BTreeMap<&'static str, u64>,
    steps: u64,
}

/// Of all actions, all reasons and all steps: below it a thing is too rare to be tested.
const LEAST_PERCENT: f64 = 0.5;

impl Occurred {
    /// What happened in a history of so many steps.
    pub(crate) fn add(&mut self, world: &World, steps: u64) {
        self.steps += steps;
        for (action, count) in &world.actions {
            *self.actions.entry(action).or_default() += count;
        }
        for (state, count) in &world.pressure {
            *self.pressure.entry(state).or_default() += count;
        }
        for (&(reason, _, enforced, _), count) in &world.reference.refused {
            *self.reasons[usize::from(!enforced)].entry(reason.label()).or_default() += count;
        }
    }

    /// What happened in other histories too.
    pub(crate) fn merge(&mut self, other: Self) {
        self.steps += other.steps;
        let [enforced, dry] = &mut self.reasons;
        let [also_enforced, also_dry] = other.reasons;
        for (sums, more) in [
            (&mut self.actions, other.actions),
            (&mut self.pressure, other.pressure),
            (enforced, also_enforced),
            (dry, also_dry),
        ] {
            for (name, count) in more {
                *sums.entry(name).or_default() += count;
            }
        }
    }

    /// Every action, reason and state of pressure, with its share.
    pub(crate) fn print(&self) {
        for (kind, name, count, share) in self.shares() {
            println!("{kind:<9} {name:<38} {count:>12} {share:>6.2} %");
        }
    }

    /// Fails if one of them is rare, or a reason or state never occurred.
    pub(crate) fn assert_none_is_rare(&self) {
        for reason in Reason::ALL {
            let occurred = self.reasons.iter().all(|reasons| reasons.contains_key(reason.label()));
            assert!(occurred, "{reason} never occurred, enforced or in a dry run");
        }
        assert_eq!(self.pressure.len(), 9, "a state of pressure never occurred: {:?}", self.pressure.keys());
        for (kind, name, _, share) in self.shares() {
            assert!(share >= LEAST_PERCENT, "the {kind} \"{name}\" is only {share:.2} %");
        }
    }

    /// Kind, name, count and percent of its kind.
    fn shares(&self) -> Vec<(&'static str, &'static str, u64, f64)> {
        let mut reasons = BTreeMap::new();
        for (&reason, count) in self.reasons.iter().flatten() {
            *reasons.entry(reason).or_default() += count;
        }
        let sum = |counts: &BTreeMap<_, u64>| counts.values().sum::<u64>();
        let mut shares = Vec::new();
        for (kind, counts, all) in [
            ("action", &self.actions, sum(&self.actions)),
            ("reason", &reasons, sum(&reasons)),
            ("pressure", &self.pressure, self.steps),
        ] {
            shares.extend(
                counts.iter().map(|(&name, &count)| (kind, name, count, count as f64 * 100.0 / all.max(1) as f64)),
            );
        }
        shares
    }
}

/// A number from the environment, for longer runs than a test has time for.
pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, not a number"))
}
