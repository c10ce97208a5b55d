//! Every route the process has ever known: its number, its key, its counts.

use crate::limits::LimitsError;
use crate::packed::Halves;
use crate::sync::{Counter, Mutex, OnceLock, Ordering};
use conn_tracker::{Reason, RouteId};
use crossbeam_utils::CachePadded;
use std::collections::HashMap;

const REASONS: usize = Reason::ALL.len();
/// The first chunk has this many routes, each further one twice as many as the one before.
const FIRST_CHUNK: u32 = if cfg!(any(loom, shuttle)) { 1 } else { 64 };
const CHUNKS: usize = (conn_tracker::MAX_ROUTES / FIRST_CHUNK).ilog2() as usize + 1;

/// The counts of one route.
#[derive(Debug, Default)]
pub(crate) struct RouteState {
    key: OnceLock<Box<str>>,
    /// Connections of the route, and those of them that are counted per client too.
    pub(crate) connections: Halves,
    /// Requests in flight, and those of them that are counted per client too.
    pub(crate) requests: Halves,
    /// Admitted, by [`RouteSlot`]: those of no client, those of clients.
    admitted: [[Counter; 2]; 2],
    /// By [`RouteSlot`] and reason.
    refused: [[Counter; REASONS]; 2],
    would_refuse: [[Counter; REASONS]; 2],
}

/// A slot of a route that can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteSlot {
    Connection,
    Request,
}

impl RouteState {
    pub(crate) fn held(&self, slot: RouteSlot) -> &Halves {
        match slot {
            RouteSlot::Connection => &self.connections,
            RouteSlot::Request => &self.requests,
        }
    }

    /// Counts one more that was admitted. The counters are statistics: nothing is read because of them.
    pub(crate) fn note_admitted(&self, slot: RouteSlot, of_client: bool) {
        self.admitted[slot as usize][usize::from(of_client)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_refused(&self, slot: RouteSlot, reason: Reason, enforced: bool) {
        let counters = if enforced { &self.refused } else { &self.would_refuse };
        counters[slot as usize][reason.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// All ever admitted, and those of them that were counted per client.
    pub(crate) fn admitted(&self, slot: RouteSlot) -> (u64, u64) {
        let [of_none, of_clients] = &self.admitted[slot as usize];
        let of_clients = of_clients.load(Ordering::Relaxed);
        (of_none.load(Ordering::Relaxed) + of_clients, of_clients)
    }

    pub(crate) fn refused(&self, slot: RouteSlot, reason: Reason, enforced: bool) -> u64 {
        let counters = if enforced { &self.refused } else { &self.would_refuse };
        counters[slot as usize][reason.index()].load(Ordering::Relaxed)
    }
}

/// The routes, readable without a lock while more are added.
#[derive(Debug)]
pub(crate) struct Routes {
    chunks: [OnceLock<Box<[CachePadded<RouteState>]>>; CHUNKS],
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    by_key: HashMap<Box<str>, RouteId>,
    in_force: Vec<RouteId>,
}

impl Routes {
    pub(crate) fn new() -> Self {
        Self { chunks: [const { OnceLock::new() }; CHUNKS], names: Mutex::default() }
    }

    /// The state of a route that [`Routes::name`] has numbered.
    pub(crate) fn state(&self, route: RouteId) -> Option<&RouteState> {
        let (chunk, place) = locate(route);
        let state = &**self.chunks[chunk].get()?.get(place)?;
        state.key.get().is_some().then_some(state)
    }

    pub(crate) fn key(&self, route: RouteId) -> Option<&str> {
        self.state(route)?.key.get().map(|key| &**key)
    }

    pub(crate) fn id(&self, key: &str) -> Option<RouteId> {
        self.names.lock().by_key.get(key).copied()
    }

    pub(crate) fn in_force(&self) -> Vec<RouteId> {
        self.names.lock().in_force.clone()
    }

    /// Every route ever numbered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RouteId, &RouteState)> {
        (0..conn_tracker::MAX_ROUTES).map_while(|index| {
            let route = RouteId::new(index)?;
            Some((route, self.state(route)?))
        })
    }

    /// Numbers `keys`: those known already keep their number. All of them are in force from now on, no others.
    pub(crate) fn name<'a>(&self, keys: impl Iterator<Item = &'a str>) -> Result<Vec<RouteId>, LimitsError> {
        let mut names = self.names.lock();
        let ids = keys.map(|key| self.name_one(&mut names, key)).collect::<Result<Vec<_>, _>>()?;
        names.in_force.clone_from(&ids);
        Ok(ids)
    }

    fn name_one(&self, names: &mut Names, key: &str) -> Result<RouteId, LimitsError> {
        if let Some(&known) = names.by_key.get(key) {
            return Ok(known);
        }
        let next = u32::try_from(names.by_key.len()).ok().and_then(RouteId::new).ok_or(LimitsError::TooManyRoutes)?;
        let (chunk, place) = locate(next);
        let states = self.chunks[chunk].get_or_init(|| (0..chunk_len(chunk)).map(|_| CachePadded::default()).collect());
        states[place].key.set(key.into()).expect("a number is used once");
        names.by_key.insert(key.into(), next);
        Ok(next)
    }
}

fn chunk_len(chunk: usize) -> usize {
    (FIRST_CHUNK as usize) << chunk
}

fn locate(route: RouteId) -> (usize, usize) {
    let shifted = route.index() + FIRST_CHUNK;
    let chunk = (shifted / FIRST_CHUNK).ilog2() as usize;
    (chunk, shifted as usize - chunk_len(chunk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_dense_and_distinct() {
        let mut expected = (0, 0);
        for index in 0..10_000 {
            assert_eq!(locate(RouteId::new(index).unwrap()), expected);
            expected.1 += 1;
            if expected.1 == chunk_len(expected.0) {
                expected = (expected.0 + 1, 0);
            }
        }
        let (chunk, place) = locate(RouteId::new(conn_tracker::MAX_ROUTES - 1).unwrap());
        assert!(chunk < CHUNKS && place < chunk_len(chunk));
    }

    #[test]
    fn a_number_is_for_one_key_for_ever() {
        let routes = Routes::new();
        let first = routes.name(["a", "b"].into_iter()).unwrap();
        let second = routes.name(["c", "a"].into_iter()).unwrap();
        assert_eq!(second[1], first[0]);
        assert!(!first.contains(&second[0]));
        assert_eq!(routes.in_force(), second);
        assert_eq!(routes.key(first[1]), Some("b"));
        assert_eq!(routes.id("b"), Some(first[1]));
        assert_eq!(routes.iter().count(), 3);
        assert!(routes.state(RouteId::new(3).unwrap()).is_none());
        assert!(routes.state(RouteId::new(conn_tracker::MAX_ROUTES - 1).unwrap()).is_none());
    }
}
