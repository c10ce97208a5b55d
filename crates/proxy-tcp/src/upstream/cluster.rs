//! The backends of one route, and which of them is next.

use super::Backend;
use proxy_route::{Algorithm, Ejection, Forward};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// The backends of one route. Shared by all workers.
#[derive(Debug)]
pub struct Cluster {
    route: String,
    algorithm: Algorithm,
    /// Whether health checks decide who gets traffic.
    checks: bool,
    ejection: Option<Ejection>,
    backends: Vec<Arc<Backend>>,
    next: AtomicUsize,
}

impl Cluster {
    /// The backends of a forwarding route; `route` is its name in logs.
    #[must_use]
    pub fn new(route: &str, forward: &Forward) -> Self {
        Self::with_known(route, forward, &[])
    }

    /// The same, with backends that are `known` already taken from there, each once.
    pub(crate) fn with_known(route: &str, forward: &Forward, known: &[Arc<Backend>]) -> Self {
        let mut known = known.to_vec();
        let checks = forward.health_check.is_some();
        let backends = forward.targets.iter().map(|target| {
            let Some(place) = known.iter().position(|backend| backend.is_of(target)) else {
                return Arc::new(Backend::new(target));
            };
            let backend = known.remove(place);
            backend.set_limit(target.max_connections);
            if !checks {
                backend.checked.forget();
            }
            backend
        });
        Self {
            route: route.to_owned(),
            algorithm: forward.algorithm,
            checks,
            ejection: forward.ejection,
            backends: backends.collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// Every backend, as configured.
    #[must_use]
    pub fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// Whether a backend gets traffic, as far as health checks say.
    #[must_use]
    pub fn is_up(&self, backend: &Backend) -> bool {
        !self.checks || !backend.checked.is_down()
    }

    /// The backends in the order in which to try them for this client: the chosen one first, then the others, and last
    /// those that are set aside at `now`. Those that health checks say are down are left out.
    ///
    /// One that was aside for long enough comes before all others, for one client at a time: as long as the answer lives, it
    /// is on trial.
    #[must_use]
    pub fn order(&self, client: IpAddr, now: Instant) -> Order {
        let count = self.backends.len();
        // Without another one it is chosen, and tried, in any case.
        let (first, tried) = match count {
            0 | 1 => (0, None),
            _ => {
                let first = self.first(client, now);
                (first, self.trial(client, now, self.ring(first).filter(|index| self.is_up(&self.backends[*index]))))
            }
        };
        Order { now, first, tried, step: 0, aside: Vec::new() }
    }

    /// The places of all, from one of them on.
    fn ring(&self, first: usize) -> impl Iterator<Item = usize> {
        (first..self.backends.len()).chain(0..first)
    }

    /// The backend whose time aside is over, if it is for this client to try it. Clients that have a backend of their own
    /// try no other.
    fn trial(&self, client: IpAddr, now: Instant, mut up: impl Iterator<Item = usize>) -> Option<(usize, Trial)> {
        let own = (self.algorithm == Algorithm::IpHash).then(|| self.hashed(client));
        up.find_map(|index| {
            let backend = &self.backends[index];
            let due = own.is_none_or(|own| own == index) && backend.trust.begin_trial(now);
            due.then(|| (index, Trial(Arc::clone(backend))))
        })
    }

    /// The place of the chosen one, among two or more.
    fn first(&self, client: IpAddr, now: Instant) -> usize {
        let count = self.backends.len();
        let is_sound = |backend: &Backend| self.is_up(backend) && !backend.is_ejected(now);
        // Turns are among those that are sound, or the one after a hole would have twice its share.
        let in_turn = || {
            let sound = || (0..count).filter(|index| is_sound(&self.backends[*index]));
            let turn = self.turn();
            match sound().count() {
                0 => turn % count,
                some => sound().nth(turn % some).unwrap_or(0),
            }
        };
        match self.algorithm {
            // Whoever comes next takes the clients of one that is not sound; all others keep theirs.
            Algorithm::IpHash => self.hashed(client),
            Algorithm::LeastConnections => {
                let start = in_turn();
                let load = |offset: &usize| {
                    let backend = &self.backends[(start + offset) % count];
                    (!is_sound(backend), backend.in_flight())
                };
                (start + (0..count).min_by_key(load).unwrap_or(0)) % count
            }
            Algorithm::RoundRobin => in_turn(),
        }
    }

    /// The place of the one that a client has for itself.
    fn hashed(&self, client: IpAddr) -> usize {
        let mut hasher = DefaultHasher::new();
        client.hash(&mut hasher);
        usize::try_from(hasher.finish() % self.backends.len() as u64).expect("below a length")
    }

    fn turn(&self) -> usize {
        // Ordering: only the number itself matters, and two alike would do no harm.
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// One of the backends failed at work for `reason`: it could not be dialled, or broke off without an answer. After
    /// some failures in a row it is set aside.
    pub fn failed(&self, backend: &Backend, now: Instant, reason: &str) {
        let Some(hold) = self.ejection.and_then(|rules| backend.trust.failed(&rules, now)) else { return };
        tracing::warn!(route = self.route, %backend, reason, "a backend fails and is set aside for {hold:?}");
    }
}

/// The one try of a backend that was set aside, until it drops. Others pass the backend over meanwhile.
#[derive(Debug)]
struct Trial(Arc<Backend>);

impl Drop for Trial {
    fn drop(&mut self) {
        self.0.trust.end_trial();
    }
}

/// The order in which to try the backends of a cluster. Kept while one is tried.
#[derive(Debug)]
pub struct Order {
    now: Instant,
    /// The place of the chosen one.
    first: usize,
    /// The one that is on trial as long as this lives, which comes first.
    tried: Option<(usize, Trial)>,
    /// How many steps were taken: one for that, one round for those that are sound, and one for those passed over in it.
    step: usize,
    /// The places of those that were set aside when they were passed over. They may have done well by the time it is their turn.
    aside: Vec<usize>,
}

impl Order {
    /// The next one of the cluster that it is the order of.
    pub fn next<'a>(&mut self, cluster: &'a Cluster) -> Option<&'a Arc<Backend>> {
        let backends = &cluster.backends[..];
        let on_trial = self.tried.as_ref().map(|(index, _)| *index);
        loop {
            let step = self.step;
            self.step += 1;
            if step == 0 {
                if let Some(index) = on_trial {
                    return backends.get(index);
                }
                continue;
            }
            let round = step - 1;
            let index = match round.checked_sub(backends.len()) {
                None => self.first + round,
                Some(place) => *self.aside.get(place)?,
            };
            let index = if index < backends.len() { index } else { index - backends.len() };
            let backend = &backends[index];
            if Some(index) == on_trial || !cluster.is_up(backend) {
                continue;
            }
            if round < backends.len() && backend.is_ejected(self.now) {
                self.aside.push(index);
                continue;
            }
            return Some(backend);
        }
    }
}

#[cfg(test)]
mod tests;
