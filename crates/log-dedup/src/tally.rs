//! The counts of one kind of event over one interval.

use crate::distinct::Distinct;
use crate::foremost::Foremost;
use ahash::RandomState;
use std::collections::HashMap;
use std::net::IpAddr;

/// Reasons are few and fixed in the program; what exceeds this is a programming error and counted as `other`.
const MAX_REASONS: usize = 32;

/// The counts of one kind of event. Exact but for the sources, and of bounded size.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) reasons: Vec<(&'static str, u64)>,
    pub(crate) other_reasons: u64,
    pub(crate) routes: HashMap<u32, u64, RandomState>,
    pub(crate) other_routes: u64,
    pub(crate) distinct: Distinct,
    pub(crate) foremost: Foremost,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            count: 0,
            reasons: Vec::with_capacity(MAX_REASONS),
            other_reasons: 0,
            routes: HashMap::with_capacity_and_hasher(16, RandomState::new()),
            other_routes: 0,
            distinct: Distinct::new(),
            foremost: Foremost::new(),
        }
    }

    /// Counts one event. `source` comes with its hash.
    pub(crate) fn add(
        &mut self,
        reason: &'static str,
        route: Option<u32>,
        source: Option<(IpAddr, u64)>,
        max_keys: usize,
    ) {
        self.count += 1;
        self.add_reason(reason, 1);
        if let Some(route) = route {
            self.add_route(route, 1, max_keys);
        }
        if let Some((address, hash)) = source {
            self.distinct.add(hash);
            self.foremost.add(address, hash);
        }
    }

    fn add_reason(&mut self, reason: &'static str, count: u64) {
        // Almost always the very same literal; the same text at another address is the same reason, too.
        let known = self.reasons.iter().position(|(known, _)| std::ptr::eq(*known, reason));
        let known = known.or_else(|| self.reasons.iter().position(|(known, _)| *known == reason));
        match known {
            Some(index) => self.reasons[index].1 += count,
            None if self.reasons.len() < MAX_REASONS => self.reasons.push((reason, count)),
            None => self.other_reasons += count,
        }
    }

    fn add_route(&mut self, route: u32, count: u64, max_keys: usize) {
        if let Some(known) = self.routes.get_mut(&route) {
            *known += count;
        } else if self.routes.len() < max_keys {
            self.routes.insert(route, count);
        } else {
            self.other_routes += count;
        }
    }

    /// Forgets the counts and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.count = 0;
        self.reasons.clear();
        self.other_reasons = 0;
        self.routes.clear();
        self.other_routes = 0;
        self.distinct.clear();
        self.foremost.clear();
    }
}

/// The counts of one kind, taken off all cells.
#[derive(Debug)]
pub(crate) struct Total {
    /// Everything but the foremost sources.
    pub(crate) counts: Tally,
    /// Sources, with the number of events that are certainly their own.
    pub(crate) sources: HashMap<IpAddr, u64, RandomState>,
}

impl Total {
    pub(crate) fn new() -> Self {
        Self { counts: Tally::new(), sources: HashMap::default() }
    }

    pub(crate) fn merge(&mut self, cell: &Tally, max_keys: usize) {
        let counts = &mut self.counts;
        counts.count += cell.count;
        for (reason, count) in &cell.reasons {
            counts.add_reason(reason, *count);
        }
        counts.other_reasons += cell.other_reasons;
        for (route, count) in &cell.routes {
            counts.add_route(*route, *count, max_keys);
        }
        counts.other_routes += cell.other_routes;
        counts.distinct.merge(&cell.distinct);
        for (source, at_least) in cell.foremost.at_least() {
            *self.sources.entry(source).or_default() += at_least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_the_bounds_is_counted_as_other() {
        let mut tally = Tally::new();
        for route in 0..10 {
            tally.add("full", Some(route), None, 4);
        }
        tally.add("full", Some(0), None, 4);
        assert_eq!((tally.routes.len(), tally.other_routes, tally.count), (4, 6, 11));
        assert_eq!(tally.routes[&0], 2);

        let names: Vec<&'static str> = (0..40).map(|index| &*format!("reason{index}").leak()).collect();
        tally.clear();
        for name in &names {
            tally.add(name, None, None, 4);
        }
        assert_eq!((tally.reasons.len(), tally.other_reasons, tally.count), (MAX_REASONS, 8, 40));
    }

    #[test]
    fn a_reason_is_its_text() {
        let mut tally = Tally::new();
        let copy: &'static str = String::from("full").leak();
        tally.add("full", None, None, 4);
        tally.add(copy, None, None, 4);
        assert_eq!(tally.reasons, [("full", 2)]);
    }
}
