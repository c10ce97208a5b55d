//! How many TLS handshakes go on at one time, and who is next.

use conn_tracker::ClientKey;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;

/// The handshakes of the process, over workers and reloads.
///
/// Those that may not begin yet wait, each client in a queue of its own, and the queues take turns: however many
/// handshakes one client begins, another one waits for one of them at most. One client has at most a quarter of all turns
/// at one time, so that handshakes which it does not finish leave room for others.
#[derive(Debug, Default)]
pub struct Handshakes {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    active: u32,
    waiting: usize,
    clients: HashMap<ClientKey, Share>,
    /// Clients that wait, in the order of their turns.
    order: VecDeque<ClientKey>,
}

/// What one client has.
#[derive(Debug, Default)]
struct Share {
    active: u32,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// Leave to shake hands, until it drops.
#[derive(Debug)]
#[must_use = "dropping it ends the turn at once"]
pub(crate) struct Turn {
    handshakes: Arc<Handshakes>,
    client: ClientKey,
    limit: u32,
}

impl Handshakes {
    /// Handshakes that go on, and handshakes that wait.
    #[must_use]
    pub fn counts(&self) -> (u32, usize) {
        let state = self.state.lock();
        (state.active, state.waiting)
    }

    /// Waits for a turn. With a `limit` of 0 there is always one.
    pub(crate) async fn turn(self: &Arc<Self>, client: ClientKey, limit: u32) -> Turn {
        let limit = if limit == 0 { u32::MAX } else { limit };
        let (sender, mut turn) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if state.waiting == 0 && state.may_begin(client, limit) {
                state.begin(client);
                return Turn { handshakes: Arc::clone(self), client, limit };
            }
            state.wait(client, sender);
        }
        // Its own may be the first that can begin, and a raised limit may let several.
        self.grant(limit);
        match turn.try_recv() {
            Ok(turn) => turn,
            Err(_) => Waiting { handshakes: self, client, turn }.granted(limit).await,
        }
    }

    /// Gives turns to those who wait, as far as there are any.
    fn grant(self: &Arc<Self>, limit: u32) {
        loop {
            let Some((client, sender)) = self.state.lock().next(limit) else { return };
            // Whoever has gone meanwhile drops the turn, which grants the next.
            drop(sender.send(Turn { handshakes: Arc::clone(self), client, limit }));
        }
    }
}

impl State {
    fn may_begin(&self, client: ClientKey, limit: u32) -> bool {
        let own = self.clients.get(&client).map_or(0, |share| share.active);
        self.active < limit && own < limit.div_ceil(SHARE)
    }

    fn begin(&mut self, client: ClientKey) {
        self.active += 1;
        self.clients.entry(client).or_default().active += 1;
    }

    fn wait(&mut self, client: ClientKey, sender: oneshot::Sender<Turn>) {
        self.waiting += 1;
        let share = self.clients.entry(client).or_default();
        if share.waiting.is_empty() {
            self.order.push_back(client);
        }
        share.waiting.push_back(sender);
    }

    /// Takes the next one who may begin out of the queues, and counts it as begun.
    fn next(&mut self, limit: u32) -> Option<(ClientKey, oneshot::Sender<Turn>)> {
        for _ in 0..self.order.len() {
            if self.active >= limit {
                return None;
            }
            let client = self.order.pop_front()?;
            let may = self.may_begin(client, limit);
            let share = self.clients.get_mut(&client)?;
            let gone = share.waiting.iter().take_while(|waiting| waiting.is_closed()).count();
            share.waiting.drain(..gone);
            self.waiting -= gone;
            let granted = if may { share.waiting.pop_front() } else { None };
            if !share.waiting.is_empty() {
                self.order.push_back(client);
            }
            if let Some(sender) = granted {
                self.waiting -= 1;
                self.begin(client);
                return Some((client, sender));
            }
            self.forget(client);
        }
        None
    }

    fn forget(&mut self, client: ClientKey) {
        if self.clients.get(&client).is_some_and(|share| share.active == 0 && share.waiting.is_empty()) {
            self.clients.remove(&client);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut state = self.handshakes.state.lock();
            state.active -= 1;
            if let Some(share) = state.clients.get_mut(&self.client) {
                share.active -= 1;
            }
            state.forget(self.client);
            if state.waiting == 0 {
                return;
            }
        }
        Arc::clone(&self.handshakes).grant(self.limit);
    }
}

/// One that waits. Dropped before its turn, it makes place in the queue.
struct Waiting<'a> {
    handshakes: &'a Arc<Handshakes>,
    client: ClientKey,
    turn: oneshot::Receiver<Turn>,
}

impl Waiting<'_> {
    async fn granted(mut self, limit: u32) -> Turn {
        match (&mut self.turn).await {
            Ok(turn) => turn,
            // Those who wait are never dropped by others; if they were, nobody should wait for ever.
            Err(_) => {
                self.handshakes.state.lock().begin(self.client);
                Turn { handshakes: Arc::clone(self.handshakes), client: self.client, limit }
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turn.close();
        let mut state = self.handshakes.state.lock();
        let state = &mut *state;
        let Some(share) = state.clients.get_mut(&self.client) else { return };
        let before = share.waiting.len();
        share.waiting.retain(|waiting| !waiting.is_closed());
        state.waiting -= before - share.waiting.len();
        if share.waiting.is_empty() {
            state.order.retain(|client| *client != self.client);
        }
        state.forget(self.client);
    }
}

/// One client has at most one in so many of all turns.
const SHARE: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    type Pending<'a> = Pin<Box<dyn Future<Output = Turn> + 'a>>;

    fn client(number: u32) -> ClientKey {
        ClientKey::V4(number)
    }

    fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn now(handshakes: &Arc<Handshakes>, number: u32, limit: u32) -> Option<Turn> {
        match pin!(handshakes.turn(client(number), limit)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    fn is_empty(handshakes: &Handshakes) -> bool {
        let state = handshakes.state.lock();
        (state.active, state.waiting) == (0, 0) && state.clients.is_empty() && state.order.is_empty()
    }

    #[test]
    fn there_are_never_more_than_the_limit_and_never_more_of_one_client_than_its_share() {
        let handshakes = Arc::new(Handshakes::default());
        let own: Vec<_> = (0..10).filter_map(|_| now(&handshakes, 1, 8)).collect();
        assert_eq!(own.len(), 2, "a quarter");
        let others: Vec<_> = (2..20).filter_map(|number| now(&handshakes, number, 8)).collect();
        assert_eq!((own.len() + others.len(), handshakes.counts()), (8, (8, 0)), "those who gave up do not wait");
        assert!(now(&handshakes, 30, 0).is_some(), "0 is unlimited");
        drop((own, others));
        assert!(is_empty(&handshakes));
        assert!(now(&handshakes, 1, 1).is_some(), "a share is never nothing");
        assert!(is_empty(&handshakes));
    }

    #[test]
    fn one_who_comes_late_waits_for_one_turn_of_a_crowd() {
        let handshakes = Arc::new(Handshakes::default());
        let mut held: Vec<_> = (0..4).map(|number| now(&handshakes, number, 4).unwrap()).collect();
        let mut crowd: Vec<Pending<'_>> = (0..1000).map(|_| Box::pin(handshakes.turn(client(7), 4)) as _).collect();
        assert!(crowd.iter_mut().all(|one| poll(one).is_pending()));
        let mut late: Pending<'_> = Box::pin(handshakes.turn(client(8), 4));
        assert!(poll(&mut late).is_pending());
        assert_eq!(handshakes.counts(), (4, 1001));
        drop(held.pop());
        let first = crowd.iter_mut().position(|one| poll(one).is_ready());
        assert_eq!(first, Some(0), "they came first; the turn is given back at once");
        assert!(poll(&mut late).is_ready(), "and this one is next");
        drop(late);
        drop(held);
        // Futures that are done must not be polled again.
        let mut rest = crowd.split_off(1);
        let mut turns = 0;
        while let Some(mut one) = rest.pop() {
            turns += u32::from(poll(&mut one).is_ready());
        }
        assert!(turns > 0);
        drop((crowd, rest));
        assert!(is_empty(&handshakes), "{handshakes:?}");
    }

    #[test]
    fn who_leaves_the_queue_or_drops_a_turn_unseen_is_not_counted() {
        let handshakes = Arc::new(Handshakes::default());
        let held = now(&handshakes, 1, 1).unwrap();
        let mut waiting: Vec<Pending<'_>> =
            (0..6).map(|number| Box::pin(handshakes.turn(client(number % 3), 1)) as _).collect();
        assert!(waiting.iter_mut().all(|one| poll(one).is_pending()));
        drop(waiting.remove(1));
        drop(waiting.remove(0));
        assert_eq!(handshakes.counts(), (1, 4));
        // The turn goes to one of them, who drops it without having looked.
        drop(held);
        assert_eq!(handshakes.counts(), (1, 3));
        drop(waiting.remove(0));
        assert_eq!(handshakes.counts().0, 1, "the next one has it");
        drop(waiting);
        assert!(is_empty(&handshakes), "{handshakes:?}");
    }

    #[test]
    fn a_raised_limit_is_used_by_those_who_wait() {
        let handshakes = Arc::new(Handshakes::default());
        let held = now(&handshakes, 1, 1).unwrap();
        let mut waiting: Pending<'_> = Box::pin(handshakes.turn(client(2), 1));
        assert!(poll(&mut waiting).is_pending());
        let third = now(&handshakes, 3, 8);
        assert!(third.is_some() && poll(&mut waiting).is_ready());
        drop((held, third));
    }

    #[test]
    fn threads_end_with_nothing_left() {
        let handshakes = Arc::new(Handshakes::default());
        let most = Arc::new(std::sync::atomic::AtomicU32::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let (handshakes, most) = (&handshakes, &most);
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async {
                        let mut tasks = tokio::task::JoinSet::new();
                        for number in 0..500_u32 {
                            let (handshakes, most) = (Arc::clone(handshakes), Arc::clone(most));
                            tasks.spawn(async move {
                                let turn = handshakes.turn(client((thread + number) % 5), 6);
                                // Every seventh gives up at a moment of chance.
                                let turn = if number % 7 == 0 {
                                    let soon = std::time::Duration::from_micros(u64::from(number));
                                    tokio::time::timeout(soon, turn).await.ok()
                                } else {
                                    Some(turn.await)
                                };
                                most.fetch_max(handshakes.counts().0, std::sync::atomic::Ordering::SeqCst);
                                tokio::task::yield_now().await;
                                drop(turn);
                            });
                        }
                        tasks.join_all().await;
                    });
                });
            }
        });
        assert!(is_empty(&handshakes), "{handshakes:?}");
        let most = most.load(std::sync::atomic::Ordering::SeqCst);
        assert!((2..=6).contains(&most), "{most} at one time");
    }
}
