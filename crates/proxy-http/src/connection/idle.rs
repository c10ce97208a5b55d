//! Which connections of a worker are idle, and since when: where a route that is full may find a slot.

use super::Downstream;
use conn_tracker::RouteId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Weak};

/// The idle connections of one worker, while `idleReclaim` is on. Each is there once, with the routes that it is bound to.
#[derive(Default)]
pub(crate) struct Idle(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    /// Numbers are given out in the order of becoming idle.
    last: u64,
    connections: BTreeMap<u64, (Weak<Downstream>, Vec<RouteId>)>,
    by_route: HashMap<RouteId, BTreeSet<u64>>,
}

/// A connection that seems idle may have begun a request of which not all is read: so many of them are passed over.
const MOST_PASSED_OVER: usize = 16;

impl Idle {
    /// Puts a connection at the end of the queue; answers its number, which is never 0.
    pub(crate) fn enter(&self, client: &Arc<Downstream>, routes: Vec<RouteId>) -> u64 {
        let mut queue = self.0.lock();
        queue.last += 1;
        let number = queue.last;
        for route in &routes {
            queue.by_route.entry(*route).or_default().insert(number);
        }
        queue.connections.insert(number, (Arc::downgrade(client), routes));
        number
    }

    /// Takes a connection out.
    pub(crate) fn leave(&self, number: u64) {
        let mut queue = self.0.lock();
        let Some((_, routes)) = queue.connections.remove(&number) else { return };
        for route in routes {
            if let Some(numbers) = queue.by_route.get_mut(&route) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    queue.by_route.remove(&route);
                }
            }
        }
    }

    /// Takes the slot of `route` from the connection that has been idle longest; whether there was one.
    pub(crate) fn take_slot(&self, route: RouteId) -> bool {
        let longest: Vec<_> = {
            let queue = self.0.lock();
            let numbers = queue.by_route.get(&route).into_iter().flatten().take(MOST_PASSED_OVER);
            numbers.filter_map(|number| queue.connections[number].0.upgrade()).collect()
        };
        // Dropped without the lock: it may be the last that is left of a connection.
        longest.iter().any(|client| client.activity.is_idle() && client.unbind(route))
    }
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").field("connections", &self.0.lock().connections.len()).finish()
    }
}
