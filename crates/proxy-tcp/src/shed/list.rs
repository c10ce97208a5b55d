//! Who is shed: the decisions, without a clock, a socket or a lock.

use conn_tracker::{ClientKey, Reason};
use std::collections::BTreeMap;
use std::time::Instant;

/// The clients that are shed, in the order of their keys.
#[derive(Debug, Default)]
pub(crate) struct List {
    clients: BTreeMap<ClientKey, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    until: Instant,
    /// Why it would be refused; see [`List::review`].
    reason: Reason,
}

impl List {
    pub(crate) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// The clients, sorted.
    pub(crate) fn clients(&self) -> Vec<ClientKey> {
        self.clients.keys().copied().collect()
    }

    /// Sheds a client until `until`, unless there are `most` already; whether it is shed from now on.
    pub(crate) fn add(&mut self, client: ClientKey, reason: Reason, until: Instant, most: usize) -> bool {
        if self.clients.len() >= most || self.clients.contains_key(&client) {
            return false;
        }
        self.clients.insert(client, Entry { until, reason });
        true
    }

    /// Lifts whoever was shed long enough, or would be let in: `verdict` says why one would be refused, and
    /// `may_be_shed` whether it may be on the list at all. Answers whether anybody was lifted.
    ///
    /// Whoever came too fast is not let in earlier because a token has come back, which would be some milliseconds
    /// later: a slot that is free is worth looking for, a rate is kept best by not counting.
    pub(crate) fn review(
        &mut self,
        now: Instant,
        may_be_shed: impl Fn(ClientKey) -> bool,
        verdict: impl Fn(ClientKey) -> Option<Reason>,
    ) -> bool {
        let before = self.clients.len();
        self.clients.retain(|client, entry| {
            if entry.until <= now || !may_be_shed(*client) {
                return false;
            }
            match verdict(*client) {
                None => entry.reason == Reason::ClientRate,
                // It came too fast, and by now it lacks a slot: from here on that is what it waits for.
                Some(reason) => {
                    if reason != Reason::ClientRate {
                        entry.reason = reason;
                    }
                    true
                }
            }
        });
        self.clients.len() < before
    }

    pub(crate) fn contains(&self, client: ClientKey) -> bool {
        self.clients.contains_key(&client)
    }

    /// Keeps the first `most`; whether there were more.
    pub(crate) fn cut(&mut self, most: usize) -> bool {
        let first = self.clients.keys().nth(most).copied();
        first.is_some_and(|first| !self.clients.split_off(&first).is_empty())
    }

    /// Lifts everybody; whether there was anybody.
    pub(crate) fn clear(&mut self) -> bool {
        !std::mem::take(&mut self.clients).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Reason::{ClientLimit, ClientRate};
    use std::time::Duration;

    const A: ClientKey = ClientKey::V4(1);
    const B: ClientKey = ClientKey::V4(2);

    fn of(reason: Reason) -> (List, Instant) {
        let now = Instant::now();
        let mut list = List::default();
        assert!(list.add(A, reason, now + Duration::from_secs(10), 10));
        (list, now)
    }

    #[test]
    fn a_free_slot_lifts() {
        let (mut list, now) = of(ClientLimit);
        assert!(!list.review(now, |_| true, |_| Some(ClientLimit)));
        assert!(list.review(now, |_| true, |_| None));
        assert!(list.is_empty());
    }

    #[test]
    fn a_token_that_came_back_does_not_but_a_slot_it_waited_for_since_does() {
        let (mut list, now) = of(ClientRate);
        assert!(!list.review(now, |_| true, |_| None));
        assert!(!list.review(now, |_| true, |_| Some(ClientRate)));
        assert!(!list.review(now, |_| true, |_| Some(ClientLimit)));
        assert!(!list.review(now, |_| true, |_| Some(ClientRate)), "the slot is free, but not for one so fast");
        assert!(list.review(now, |_| true, |_| None));
    }

    #[test]
    fn time_lifts_and_so_does_becoming_one_who_may_not_be_shed() {
        for (passed, may, lifted) in [(9_999, true, false), (10_000, true, true), (0, false, true)] {
            let (mut list, now) = of(ClientRate);
            let now = now + Duration::from_millis(passed);
            assert_eq!(list.review(now, |_| may, |_| Some(ClientRate)), lifted, "{passed} ms, {may}");
        }
    }

    #[test]
    fn there_is_an_end_to_it() {
        let (mut list, now) = of(ClientLimit);
        assert!(!list.add(A, ClientLimit, now, 10), "it is shed already");
        assert!(!list.add(B, ClientLimit, now, 1));
        assert!(list.add(B, ClientLimit, now, 2));
        assert_eq!(list.clients(), [A, B]);
        assert!(!list.cut(2) && list.cut(1));
        assert_eq!(list.clients(), [A]);
        assert!(list.clear() && !list.clear());
    }
}
