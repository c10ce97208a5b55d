//! Asking backends at intervals whether they are well.
//!
//! One [`check_health`] for the process. What it finds is kept in the backends, which all workers share.

mod probe;

use crate::HttpGeneration;
use probe::probe;
use proxy_route::{Action, HealthCheck};
use proxy_tcp::{Backend, Change, chance};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Checks the backends of the newest configuration, for ever. Each has a pace of its own that a reload does not change.
///
/// **Cost.** At most 64 checks at one time, each with one connection. **Called.** Once per process, on a runtime that
/// carries no traffic.
pub async fn check_health(mut newest: watch::Receiver<Arc<HttpGeneration>>) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let generation = Arc::clone(&newest.borrow_and_update());
        let mut watching = JoinSet::new();
        for watch in all(&generation) {
            watching.spawn(watch.run(Arc::clone(&turns)));
        }
        drop(generation);
        // The set ends its tasks when it drops; a check that was under way is made again.
        if newest.changed().await.is_err() {
            return;
        }
    }
}

/// One backend that is checked.
struct Watch {
    generation: Arc<HttpGeneration>,
    route: usize,
    check: HealthCheck,
    backend: Arc<Backend>,
}

fn all(generation: &Arc<HttpGeneration>) -> Vec<Watch> {
    let mut watches = Vec::new();
    for route in generation.generation.table.routes() {
        let Action::Forward(forward) = &route.action else { continue };
        let (Some(check), Some(cluster)) = (&forward.health_check, &generation.generation.clusters[route.index]) else {
            continue;
        };
        watches.extend(cluster.backends().iter().map(|backend| Watch {
            generation: Arc::clone(generation),
            route: route.index,
            check: check.clone(),
            backend: Arc::clone(backend),
        }));
    }
    watches
}

impl Watch {
    async fn run(self, turns: Arc<Semaphore>) {
        let Self { backend, check, .. } = &self;
        if let Some(last) = backend.checked.last() {
            let next = last.checked_add(check.interval).unwrap_or(last);
            tokio::time::sleep(next.saturating_duration_since(Instant::now())).await;
        } else {
            // All targets of a new configuration at once would be a burst.
            tokio::time::sleep(check.interval.min(SPREAD).mul_f64(chance())).await;
        }
        loop {
            let Ok(turn) = turns.acquire().await else { return };
            let began = Instant::now();
            let result = match tokio::time::timeout(check.timeout, self.once()).await {
                Ok(result) => result,
                Err(_) => Err(format!("no answer within {:?}", check.timeout)),
            };
            drop(turn);
            self.note(began, result);
            let pause = check.interval.mul_f64(0.9 + 0.2 * chance());
            tokio::time::sleep(pause.saturating_sub(began.elapsed())).await;
        }
    }

    async fn once(&self) -> Result<(), String> {
        let route = &self.generation.generation.table.routes()[self.route];
        probe(&self.backend, route, &self.generation.backends, &self.check).await
    }

    fn note(&self, began: Instant, result: Result<(), String>) {
        let route = &self.generation.generation.table.routes()[self.route].name;
        let backend = &*self.backend;
        let why = result.as_ref().err().cloned().unwrap_or_default();
        match backend.checked.note(&self.check, began, result) {
            Some(Change::Down) => tracing::warn!(route, %backend, reason = %why, "a backend is down"),
            Some(Change::Up) => tracing::info!(route, %backend, "a backend is up again"),
            None => {}
        }
    }
}

/// Checks at one time.
const AT_ONCE: usize = 64;
/// Over how much time the first checks are spread, at most.
const SPREAD: std::time::Duration = std::time::Duration::from_millis(500);

#[cfg(test)]
mod tests;
