//! What a connection is about, told by its bytes and its requests to its task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// What a connection is about, told by its IO and its requests to its task.
///
/// Written and read within one task, but for `busy`, which the body of a request may lower from elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Requests, request bodies and tunnels that are not over.
    busy: AtomicUsize,
    /// Requests ever begun, wrapping.
    requests: AtomicUsize,
    /// Whether the head of a request has begun to come and is not whole.
    in_head: AtomicBool,
    /// Whether written bytes wait to be flushed.
    unflushed: AtomicBool,
    /// Whether the last read found nothing.
    drained: AtomicBool,
    /// How often bytes came or went, wrapping.
    pub(super) moves: AtomicUsize,
    /// How often bytes went, wrapping.
    pub(super) writes: AtomicUsize,
    /// Streams of HTTP/2 that the client has opened, wrapping.
    pub(super) opened: AtomicUsize,
    /// Whether the client kept us busy with nothing.
    pub(super) flooding: AtomicBool,
    /// Whether the connection is over, for tunnels that were streams of it.
    over: AtomicBool,
}

/// Since when a connection has been busy without a byte in either direction.
#[derive(Debug)]
pub(crate) struct Standstill {
    since: Instant,
    moves: usize,
}

impl Standstill {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), moves: 0 }
    }

    /// Looks at a connection: whether it has been at a standstill for `limit`.
    pub(crate) fn is_too_long(&mut self, activity: &Activity, limit: Option<Duration>) -> bool {
        // Ordering: read by the task that writes it.
        let moves = activity.moves.load(Ordering::Relaxed);
        if moves != self.moves || !activity.is_busy() {
            *self = Self { since: Instant::now(), moves };
        }
        limit.is_some_and(|limit| self.since.elapsed() >= limit)
    }
}

/// Since when a client has taken nothing of what waits for it.
#[derive(Debug)]
pub(crate) struct Unread {
    limit: Option<Duration>,
    since: Option<(Instant, usize)>,
}

impl Unread {
    /// A client that may take nothing for `limit`.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { limit, since: None }
    }

    pub(crate) fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// Looks at a connection: whether its client has taken nothing for too long.
    pub(crate) fn is_too_long(&mut self, activity: &Activity) -> bool {
        // Ordering: read by the task that writes them.
        let waiting = activity.unflushed.load(Ordering::Relaxed);
        let writes = activity.writes.load(Ordering::Relaxed);
        if !waiting || self.since.is_none_or(|(_, before)| before != writes) {
            self.since = waiting.then(|| (Instant::now(), writes));
        }
        self.limit.zip(self.since).is_some_and(|(limit, (since, _))| since.elapsed() >= limit)
    }
}

/// Since when the head of one request has been coming.
#[derive(Debug)]
pub(crate) struct Begun {
    limit: Option<Duration>,
    /// And how many requests there had been.
    since: Option<(Instant, usize)>,
}

impl Begun {
    /// A head that may take `limit`. The first, if one comes at once, has come from now on.
    pub(crate) fn new(limit: Option<Duration>, activity: &Activity, now: Instant) -> Self {
        Self { limit, since: Some((now, activity.requests())) }
    }

    pub(crate) fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// Looks at a connection: whether one head has been coming for too long.
    pub(crate) fn is_too_long(&mut self, activity: &Activity, now: Instant) -> bool {
        let requests = activity.requests();
        if !activity.is_in_head() {
            self.since = None;
        } else if self.since.is_none_or(|(_, before)| before != requests) {
            // A busy client may be within another one whenever it is looked at.
            self.since = Some((now, requests));
        }
        self.limit.zip(self.since).is_some_and(|(limit, (since, _))| now - since >= limit)
    }
}

impl Activity {
    /// Counts a request whose head is read.
    pub(crate) fn begin_request(&self) {
        // Ordering: read by the task that writes it.
        raise(&self.requests);
    }

    /// Takes note of a write.
    pub(super) fn wrote(&self) {
        // Ordering: read by the task that writes them.
        raise(&self.moves);
        raise(&self.writes);
    }

    /// Takes note of whether the head of a request has begun to come and is not whole.
    pub(crate) fn set_in_head(&self, in_head: bool) {
        // Ordering: read by the task that writes it.
        self.in_head.store(in_head, Ordering::Relaxed);
    }

    /// Keeps the connection busy until the answer drops.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.begin();
        Busy { activity: Arc::clone(self) }
    }

    /// The connection is busy with one thing more, until that is [over](Self::rest).
    pub(crate) fn begin(&self) {
        // Ordering: raised by the connection's task, which is the one to look at it.
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    /// It is busy with one thing less.
    pub(crate) fn rest(&self) {
        // Ordering: releases what was done to the task that sees the count at zero.
        self.busy.fetch_sub(1, Ordering::Release);
    }

    /// How many requests were ever begun, wrapping.
    pub(crate) fn requests(&self) -> usize {
        // Ordering: read by the task that writes it.
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether nothing is under way, not even the head of a request.
    pub(crate) fn is_idle(&self) -> bool {
        // Ordering: acquires what the body of a request did before it let go.
        !self.is_busy() && !self.is_in_head()
    }

    /// Whether a request, the body of one or a tunnel is not over.
    pub(crate) fn is_busy(&self) -> bool {
        // Ordering: see `is_idle`.
        self.busy.load(Ordering::Acquire) > 0
    }

    /// Whether nothing is under way and nothing is left to be read or written: the socket tells of whatever comes.
    pub(crate) fn can_park(&self) -> bool {
        // Ordering: read by the task that writes them.
        self.is_idle() && !self.unflushed.load(Ordering::Relaxed) && self.drained.load(Ordering::Relaxed)
    }

    /// Whether the connection is not read from although more may have come, be it its end.
    pub(crate) fn is_deaf(&self) -> bool {
        // Ordering: read by the task that writes it.
        self.is_busy() && !self.drained.load(Ordering::Relaxed)
    }

    pub(super) fn read(&self, any: bool) {
        // Ordering: written and read by the connection's task.
        self.drained.store(!any, Ordering::Relaxed);
        if any {
            raise(&self.moves);
        }
    }

    /// Whether the head of a request has begun to come and is not whole.
    pub(crate) fn is_in_head(&self) -> bool {
        // Ordering: read by the task that writes it.
        self.in_head.load(Ordering::Relaxed)
    }

    /// How many streams that the client has opened have not become requests.
    pub(crate) fn unserved(&self) -> usize {
        // Ordering: read by the task that writes it.
        let unserved = self.opened.load(Ordering::Relaxed).wrapping_sub(self.requests());
        // A request that is told of before its bytes were followed would make it negative.
        if unserved > usize::MAX / 2 { 0 } else { unserved }
    }

    /// The connection is over.
    pub(crate) fn end(&self) {
        // Ordering: it stands for itself.
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether the connection is over.
    pub(crate) fn is_over(&self) -> bool {
        // Ordering: see `end`.
        self.over.load(Ordering::Relaxed)
    }

    /// Whether the client was stopped for keeping us busy with nothing.
    pub(crate) fn is_flooding(&self) -> bool {
        // Ordering: read by the task that writes it.
        self.flooding.load(Ordering::Relaxed)
    }

    /// How often bytes went, wrapping, and whether more wait to go.
    pub(crate) fn writes(&self) -> (usize, bool) {
        // Ordering: the streams of a connection are tasks of its thread.
        (self.writes.load(Ordering::Relaxed), self.unflushed.load(Ordering::Relaxed))
    }

    pub(super) fn unflushed(&self, unflushed: bool) {
        // Ordering: written and read by the connection's task.
        self.unflushed.store(unflushed, Ordering::Relaxed);
    }
}

/// Keeps a connection busy until it drops.
#[derive(Debug)]
pub(crate) struct Busy {
    activity: Arc<Activity>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.activity.rest();
    }
}

/// Counts one more, wrapping.
fn raise(count: &AtomicUsize) {
    // Ordering: written and read by one task, so that a load and a store are as good as an addition, and cheaper.
    count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_head_has_its_own_time() {
        let (activity, begin) = (Activity::default(), Instant::now());
        let mut begun = Begun::new(Some(Duration::from_secs(10)), &activity, begin);
        let mut looks = |seconds| begun.is_too_long(&activity, begin + Duration::from_secs(seconds));
        activity.set_in_head(true);
        assert!(!looks(1) && !looks(9) && looks(10), "the first");
        activity.begin_request();
        assert!(!looks(11) && !looks(20), "the second, though it was never seen that there was none");
        assert!(looks(21));
        activity.set_in_head(false);
        assert!(!looks(22));
        activity.set_in_head(true);
        assert!(!looks(23) && !looks(32) && looks(33), "the third");
        assert!(!Begun::new(None, &activity, begin).is_too_long(&activity, begin + Duration::from_secs(1000)));
    }
}
