//! In which order the connections of a worker write, of those that something has come for at once.

use parking_lot::Mutex;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// In which order the connections of a worker write, of those that something has come for at once: when all of them have
/// read it, first those that write to backends, then those that write to clients.
///
/// So requests, and responses, are written one right behind the other. Whoever gets them is woken for some at once, where a
/// pause after each would let it fall asleep, and to wake costs the sender. Written by turns, they would wake each other's
/// receivers where these share a processor.
#[derive(Debug, Default)]
pub(crate) struct Turn(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    to_backends: Vec<Waker>,
    to_clients: Vec<Waker>,
    /// Whether somebody is to wake them.
    led: bool,
}

/// To whom a connection has something to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Backend,
    Client,
}

/// The duty of the first one to wait: to wake the others. Dropped, it does.
#[derive(Debug)]
pub(crate) struct Lead {
    turn: Arc<Turn>,
    to: To,
}

impl Turn {
    /// Has the task woken when it is its turn to write. The first one is woken behind all who have been woken already, and has
    /// to [wake the others](Lead::poll_turn) then.
    pub(crate) fn wait(self: &Arc<Self>, to: To, context: &Context<'_>) -> Option<Lead> {
        let mut waiting = self.0.lock();
        if !std::mem::replace(&mut waiting.led, true) {
            context.waker().wake_by_ref();
            return Some(Lead { turn: Arc::clone(self), to });
        }
        let queue = match to {
            To::Backend => &mut waiting.to_backends,
            To::Client => &mut waiting.to_clients,
        };
        queue.push(context.waker().clone());
        None
    }
}

impl Waiting {
    const fn is_empty(&self) -> bool {
        self.to_backends.is_empty() && self.to_clients.is_empty()
    }

    /// Wakes all, one behind the other.
    fn wake(&mut self) {
        self.to_backends.drain(..).chain(self.to_clients.drain(..)).for_each(Waker::wake);
    }

    /// Takes the memory of those who have been woken, unless others wait by now.
    fn reuse(&mut self, woken: Self) {
        if self.is_empty() {
            (self.to_backends, self.to_clients) = (woken.to_backends, woken.to_clients);
        }
    }
}

impl Lead {
    /// Wakes the others, now that all have read. Ready if the leader is the first to write; else it is woken as the last.
    pub(crate) fn poll_turn(self, context: &Context<'_>) -> Poll<()> {
        if self.to == To::Backend || self.turn.0.lock().is_empty() {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        let mut waiting = std::mem::take(&mut *self.turn.0.lock());
        // Without the lock: who is woken may wait anew before the call is back.
        waiting.wake();
        self.turn.0.lock().reuse(waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Wake;
    use tokio::task::JoinSet;

    const ALL: [To; 4] = [To::Client, To::Backend, To::Client, To::Backend];

    /// Waits once, noting when it has read and when it writes.
    async fn connection(turn: Arc<Turn>, to: To, noted: Arc<Mutex<Vec<(bool, To)>>>) {
        let (mut waited, mut lead) = (false, None);
        poll_fn(|context| {
            if lead.take().is_some_and(|lead: Lead| lead.poll_turn(context).is_pending()) {
                return Poll::Pending;
            }
            noted.lock().push((waited, to));
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            lead = turn.wait(to, context);
            Poll::Pending
        })
        .await;
    }

    #[tokio::test]
    async fn all_read_before_any_writes_and_requests_leave_before_responses() {
        let (turn, noted) = (Arc::new(Turn::default()), Arc::new(Mutex::new(Vec::new())));
        for all in [&ALL[..], &ALL[1..], &ALL[..1]] {
            let mut tasks = JoinSet::new();
            for to in all {
                tasks.spawn(connection(Arc::clone(&turn), *to, Arc::clone(&noted)));
            }
            tasks.join_all().await;
            let of = |writes: bool, kind: To| all.iter().filter(move |to| **to == kind).map(move |to| (writes, *to));
            let read = all.iter().map(|to| (false, *to));
            let expected: Vec<_> = read.chain(of(true, To::Backend)).chain(of(true, To::Client)).collect();
            assert_eq!(std::mem::take(&mut *noted.lock()), expected);
        }
    }

    #[tokio::test]
    async fn who_leads_and_leaves_wakes_the_others() {
        let (turn, noted) = (Arc::new(Turn::default()), Arc::new(Mutex::new(Vec::new())));
        let lead = turn.wait(To::Client, &Context::from_waker(Waker::noop()));
        let other = tokio::spawn(connection(Arc::clone(&turn), To::Backend, Arc::clone(&noted)));
        while noted.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        drop(lead.expect("it is the first"));
        other.await.unwrap();
        assert!(turn.wait(To::Backend, &Context::from_waker(Waker::noop())).is_some(), "the next one is the first");
    }

    /// Waits anew as soon as it is woken.
    struct Eager(Arc<Turn>, To);

    impl Wake for Eager {
        fn wake(self: Arc<Self>) {
            let waits = self.0.wait(self.1, &Context::from_waker(Waker::noop()));
            assert!(waits.is_some(), "nobody leads any more");
        }
    }

    #[test]
    fn who_is_woken_may_wait_anew_at_once() {
        let turn = Arc::new(Turn::default());
        let lead = turn.wait(To::Client, &Context::from_waker(Waker::noop()));
        for to in ALL {
            let waker = Waker::from(Arc::new(Eager(Arc::clone(&turn), to)));
            assert!(turn.wait(to, &Context::from_waker(&waker)).is_none(), "somebody leads");
        }
        drop(lead.expect("it is the first"));
        assert!(turn.0.lock().is_empty());
    }
}
