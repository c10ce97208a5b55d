//! Every connection of one worker to backends, and requests over them.

use super::body::Work;
use super::connect::{ConnectError, Speech, connect};
use super::patience::Patience;
use super::pool::{Lease, Pool};
use super::search::{At, Search};
use super::transmit::{Outcome, transmit};
use super::underway::Underway;
use super::witness::Witness;
use super::{Exchange, Letter, UpstreamBody, UpstreamError, UpstreamResponse};
use ahash::RandomState;
use conn_tracker::Report;
use parking_lot::Mutex;
use proxy_tcp::{Backend, InFlight, TimedOut};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How many connections are kept, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    /// Idle HTTP/1.1 connections kept per backend, so that a load that comes in waves does not dial with each of them.
    pub(crate) idle_per_backend: usize,
    /// How many of those that no wave has needed between two looks are kept nevertheless.
    pub(crate) idle_at_rest: usize,
    /// Age at which an idle connection is dropped. They go within six fifths of it.
    pub(crate) idle_age: Duration,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { idle_per_backend: 1024, idle_at_rest: 64, idle_age: Duration::from_secs(50) }
    }
}

/// The connections of one worker to backends. Cloning is cheap; the connections end with the last clone and the last
/// response. Must be used on one runtime.
#[derive(Clone, Debug)]
pub(crate) struct Pools {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: PoolLimits,
    report: Arc<dyn Report>,
    pools: Mutex<HashMap<Key, Arc<Pool>, RandomState>>,
    sweeper: OnceLock<AbortHandle>,
}

/// A backend, by its place in memory, and the port dialled. A backend belongs to one route of one configuration, so this
/// also says what is spoken.
type Key = (usize, u16);

impl Pools {
    /// No connection yet. Failures of backends are told to `report`, each attempt once.
    pub(crate) fn new(limits: PoolLimits, report: Arc<dyn Report>) -> Self {
        let shared = Shared { limits, report, pools: Mutex::default(), sweeper: OnceLock::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Gives a request to a kept connection of the backend whose turn it is, if that can be said to have one of HTTP/1.1,
    /// without waiting for anything. If not, [`Pools::send`] goes on from what it answers.
    pub(crate) fn begin(&self, exchange: &Exchange<'_>, letter: &mut Letter) -> Result<Underway, Search> {
        let mut search = Search::default();
        let Some(cluster) = exchange.cluster() else { return Err(search) };
        let order = search.order.insert(cluster.order(exchange.client, exchange.began));
        let Some(backend) = order.next(cluster) else { return Err(search) };
        let Some(in_flight) = backend.count() else {
            search.full = true;
            return Err(search);
        };
        let home = self.home(backend, exchange);
        let kept = match &home {
            Some(pool) if !Speech::new(exchange).may_be_http2() => pool.idle(exchange.began.into()),
            _ => None,
        };
        let Some(mut connection) = kept else {
            search.at = Some(At { in_flight, kept_died: false });
            return Err(search);
        };
        letter.begin(&mut connection);
        let work = self.work(Lease::Http1(connection), home, in_flight, exchange, letter);
        Ok(Underway::new(work, search, Patience::new(exchange, true)))
    }

    /// Sends a request to the first backend that can be reached, in the order of the route, and waits for the head of
    /// the response. Dropping the future abandons the request.
    ///
    /// A kept connection that turns out to be dead is replaced once by a new one, if the request was not sent, or has no
    /// body and a method that may be repeated. If a new one breaks off before its answer, such a request goes to the next
    /// backend, so that each has it over one new connection at most. The time to the head of the response runs from the last moment at which
    /// the backend took a part of the request; while the client keeps us waiting for its body it does not run.
    ///
    /// # Errors
    /// If there is no response. Failures of backends have been reported.
    pub(crate) async fn send(
        &self,
        exchange: &Exchange<'_>,
        letter: &mut Letter,
        search: Search,
    ) -> Result<UpstreamResponse, UpstreamError> {
        let Search { order, mut at, mut full } = search;
        let (Some(cluster), Some(mut order)) = (exchange.cluster(), order) else {
            return Err(UpstreamError::Unreachable { timed_out: false });
        };
        let mut failure = None;
        let mut attempt = *exchange;
        loop {
            let At { in_flight, kept_died } = match at.take() {
                Some(at) => at,
                None => match order.next(cluster).map(Backend::count) {
                    Some(Some(in_flight)) => At { in_flight, kept_died: false },
                    Some(None) => {
                        full = true;
                        continue;
                    }
                    None => break,
                },
            };
            let backend = Arc::clone(in_flight.backend());
            let (error, reason) = match self.try_backend(in_flight, kept_died, &attempt, letter).await {
                Tried::Answered(response) => {
                    backend.succeeded();
                    return Ok(response);
                }
                Tried::Failed(error) => return Err(self.failed(&attempt, &backend, error)),
                Tried::Unreachable(error) => (UpstreamError::Unreachable { timed_out: error.timed_out }, error.reason),
                Tried::Lost => (UpstreamError::Lost, UpstreamError::Lost.label()),
            };
            // What this one has taken of its time is not for the next one to pay.
            attempt.began = std::time::Instant::now();
            self.witness(exchange).backend_failed(reason);
            cluster.failed(&backend, attempt.began, reason);
            failure = Some(error);
        }
        // Nobody was even tried.
        Err(failure.unwrap_or_else(|| {
            let error = if full { UpstreamError::Full } else { UpstreamError::NoneHealthy };
            self.witness(exchange).nobody_tried(error);
            error
        }))
    }

    /// Tells of a request that a backend has taken and not answered.
    pub(super) fn failed(&self, exchange: &Exchange<'_>, backend: &Backend, error: UpstreamError) -> UpstreamError {
        if let Some(reason) = error.reason() {
            self.witness(exchange).backend_failed(reason);
        }
        if error == UpstreamError::Lost
            && let Some(cluster) = exchange.cluster()
        {
            cluster.failed(backend, std::time::Instant::now(), error.label());
        }
        error
    }

    /// Sends a request to one backend: over a kept connection, unless such a one has just died of it, and over a new one if
    /// that is dead or there is none.
    async fn try_backend(
        &self,
        in_flight: InFlight,
        kept_died: bool,
        exchange: &Exchange<'_>,
        letter: &mut Letter,
    ) -> Tried {
        let speech = Speech::new(exchange);
        let backend = in_flight.backend();
        let home = self.home(backend, exchange);
        let mut kept = home.as_deref().filter(|_| !kept_died).and_then(|pool| pool.kept(speech, exchange.began.into()));
        loop {
            let reused = kept.is_some();
            let mut lease = match kept.take() {
                Some(lease) => lease,
                None => match dialling(home.as_deref(), backend, exchange, speech).await {
                    Ok(lease) => lease,
                    Err(error) => return Tried::Unreachable(error),
                },
            };
            let patience = Patience::new(exchange, reused);
            match transmit(&mut lease, letter, speech, exchange.timers, patience).await {
                Outcome::Answered(response) => {
                    let work = self.work(lease, home, in_flight, exchange, letter);
                    return Tried::Answered(response.map(|incoming| UpstreamBody::new(incoming, work)));
                }
                Outcome::Failed(error) => return Tried::Failed(error),
                Outcome::Again => {
                    lease.retire();
                    if !reused {
                        return Tried::Lost;
                    }
                }
            }
        }
    }

    fn work(
        &self,
        lease: Lease,
        home: Option<Arc<Pool>>,
        in_flight: InFlight,
        exchange: &Exchange<'_>,
        letter: &Letter,
    ) -> Box<Work> {
        let (slots, progress) = (exchange.slots.cloned(), letter.progress().cloned());
        Box::new(Work { lease, slots, home, in_flight, witness: self.witness(exchange), progress })
    }

    /// Where connections to a backend are kept; `None` if they speak for one client, as one with a PROXY header does.
    fn home(&self, backend: &Arc<Backend>, exchange: &Exchange<'_>) -> Option<Arc<Pool>> {
        backend.send_proxy.is_none().then(|| self.pool(backend, exchange))
    }

    fn witness(&self, exchange: &Exchange<'_>) -> Witness {
        Witness { report: Arc::clone(&self.shared.report), route: exchange.route.id, client: exchange.client }
    }

    fn pool(&self, backend: &Arc<Backend>, exchange: &Exchange<'_>) -> Arc<Pool> {
        let key = (Arc::as_ptr(backend).addr(), backend.port.resolve(exchange.listener_port));
        let mut pools = self.shared.pools.lock();
        let pool = pools.entry(key).or_insert_with(|| {
            self.shared.sweeper.get_or_init(|| {
                let sweeping = sweep(Arc::downgrade(&self.shared), self.shared.limits.idle_age / SWEEPS_PER_AGE);
                tokio::spawn(sweeping).abort_handle()
            });
            Arc::new(Pool::new(Arc::clone(backend), self.shared.limits))
        });
        Arc::clone(pool)
    }
}

/// What became of a request at one backend.
enum Tried {
    Answered(UpstreamResponse),
    /// It was not received; the next backend may have it.
    Unreachable(ConnectError),
    /// It broke off without an answer, which does no harm: the next backend may have it.
    Lost,
    Failed(UpstreamError),
}

impl Pool {
    /// The connection to take before any new one.
    fn kept(&self, speech: Speech<'_>, now: Instant) -> Option<Lease> {
        let stream = if speech.may_be_http2() { self.stream() } else { None };
        stream.or_else(|| if speech.must_be_http2() { None } else { self.idle(now).map(Lease::Http1) })
    }
}

/// [`dial`], apart from those who seldom need it: it is made on the stack, where it takes several pages.
#[inline(never)]
fn dialling<'a>(
    home: Option<&'a Pool>,
    backend: &'a Backend,
    exchange: &'a Exchange<'_>,
    speech: Speech<'a>,
) -> Pin<Box<dyn Future<Output = Result<Lease, ConnectError>> + Send + 'a>> {
    Box::pin(dial(home, backend, exchange, speech))
}

/// A new connection, or a stream of one that somebody else was just dialling.
async fn dial(
    home: Option<&Pool>,
    backend: &Backend,
    exchange: &Exchange<'_>,
    speech: Speech<'_>,
) -> Result<Lease, ConnectError> {
    let deadline = exchange.generation.settings.timeouts.connect.map(|timeout| Instant::now() + timeout);
    let Some(pool) = home else {
        return connect(backend, exchange, speech, deadline).await.map(Lease::alone);
    };
    let offered = speech.may_be_http2();
    let turn = if offered && pool.may_share() {
        let turn = exchange
            .timers
            .until(deadline, pool.dialling.lock())
            .await
            .map_err(|TimedOut| ConnectError { reason: "dial_timeout", timed_out: true })?;
        if let Some(lease) = pool.stream() {
            return Ok(lease);
        }
        // One who waited only to learn that nothing can be shared does not make others wait.
        pool.may_share().then_some(turn)
    } else {
        None
    };
    let vintage = pool.vintage();
    let lease = pool.adopt(connect(backend, exchange, speech, deadline).await?, offered, vintage);
    drop(turn);
    Ok(lease)
}

async fn sweep(shared: Weak<Shared>, pause: Duration) {
    let mut swept = Instant::now();
    loop {
        tokio::time::sleep(pause.min(LOOK)).await;
        let Some(shared) = shared.upgrade() else { return };
        let now = Instant::now();
        let mut pools = shared.pools.lock();
        pools.values().for_each(|pool| pool.look(now));
        if now.duration_since(swept) >= pause {
            swept = now;
            sweep_once(&mut pools, now);
        }
    }
}

fn sweep_once(pools: &mut HashMap<Key, Arc<Pool>, RandomState>, now: Instant) {
    // A pool in use by a request or a response is kept: its connection comes back to it.
    pools.retain(|_, pool| pool.sweep(now) || Arc::strong_count(pool) > 1);
}

#[cfg(test)]
impl Pools {
    /// What happens from time to time.
    pub(super) fn sweep(&self) {
        sweep_once(&mut self.shared.pools.lock(), Instant::now());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(sweeper) = self.sweeper.get() {
            sweeper.abort();
        }
    }
}

/// How often idle connections are looked at for having been closed by their backends: nobody else would notice.
const LOOK: Duration = Duration::from_millis(500);

/// How often idle connections are looked at while they grow old.
const SWEEPS_PER_AGE: u32 = 5;
