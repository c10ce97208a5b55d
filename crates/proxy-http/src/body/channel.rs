//! The body of a request between the HTTP/1.1 connection that reads it and whoever sends it on.
//!
//! Only the connection's task reads from the client, and it reads no further than it was asked for. The taker is most often
//! a part of the same task; then neither wakes the other, as the connection looks at both in one turn.

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A body of `length` bytes, or of as many as come: the end of the connection, and that of the taker.
pub(crate) fn channel(length: Option<u64>) -> (Sender, Receiver) {
    let shared = Arc::new(Mutex::new(Shared::default()));
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared, left: length, asked: false })
}

/// The end of the connection. Dropped before the end of the body, it breaks off.
#[derive(Debug)]
pub(crate) struct Sender {
    shared: Arc<Mutex<Shared>>,
}

/// The end of whoever takes the body.
#[derive(Debug)]
pub(crate) struct Receiver {
    shared: Arc<Mutex<Shared>>,
    /// How many bytes were not taken, if it is known how many there are.
    left: Option<u64>,
    /// Whether it was asked for.
    asked: bool,
}

/// Why there is no more of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The client broke off.
    Off,
    /// It is no body.
    Malformed,
}

/// What whoever takes the body wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The next piece.
    More,
    /// Nothing any more.
    Nothing,
}

#[derive(Debug, Default)]
struct Shared {
    /// What was given and not taken.
    piece: Option<Frame<Bytes>>,
    /// What comes behind it.
    end: Option<Result<(), Broken>>,
    /// Whether the taker waits.
    wanted: bool,
    /// Whether the taker is gone.
    left: bool,
    taker: Option<Waker>,
    giver: Option<Waker>,
}

impl Sender {
    /// Waits until there is a wish.
    pub(crate) fn poll_wish(&self, context: &mut Context<'_>) -> Poll<Wish> {
        let mut shared = self.shared.lock();
        if shared.left {
            return Poll::Ready(Wish::Nothing);
        }
        // Also where there is a wish: the taker may go before the client sends anything.
        if !shared.giver.as_ref().is_some_and(|giver| giver.will_wake(context.waker())) {
            shared.giver = Some(context.waker().clone());
        }
        if shared.wanted && shared.piece.is_none() { Poll::Ready(Wish::More) } else { Poll::Pending }
    }

    /// Whether nobody takes anything any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.lock().left
    }

    /// Gives a piece; the one before must have been taken.
    pub(crate) fn give(&self, piece: Frame<Bytes>, context: &Context<'_>) {
        let mut shared = self.shared.lock();
        debug_assert!(shared.piece.is_none(), "a piece is lost");
        shared.piece = Some(piece);
        shared.tell(Some(context.waker()));
    }

    /// Says what comes behind the last piece: the end, or nothing any more.
    pub(crate) fn end(&self, end: Result<(), Broken>, context: &Context<'_>) {
        let mut shared = self.shared.lock();
        shared.end.get_or_insert(end);
        shared.tell(Some(context.waker()));
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut shared = self.shared.lock();
        if shared.end.is_none() {
            // What is cut short must not look whole.
            shared.end = Some(Err(Broken::Off));
            shared.tell(None);
        }
    }
}

impl Shared {
    /// Wakes the taker, unless it belongs to the task of this waker, which will ask it by itself.
    fn tell(&mut self, own: Option<&Waker>) {
        self.wanted = false;
        if let Some(taker) = self.taker.take().filter(|taker| !own.is_some_and(|own| taker.will_wake(own))) {
            taker.wake();
        }
    }
}

impl Receiver {
    pub(crate) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.asked = true;
        let mut shared = self.shared.lock();
        if let Some(piece) = shared.piece.take() {
            let count = piece.data_ref().map_or(0, Bytes::len) as u64;
            self.left = self.left.map(|left| left.saturating_sub(count));
            return Poll::Ready(Some(Ok(piece)));
        }
        if let Some(end) = shared.end {
            return Poll::Ready(end.err().map(Err));
        }
        shared.taker = Some(context.waker().clone());
        shared.wanted = true;
        if let Some(giver) = shared.giver.take().filter(|giver| !giver.will_wake(context.waker())) {
            giver.wake();
        }
        Poll::Pending
    }

    /// Whether it is known that nothing is left to take.
    pub(crate) fn is_end_stream(&self) -> bool {
        match self.left {
            Some(left) => left == 0,
            // Whether all of it has come by chance makes no other request of it.
            None if !self.asked => false,
            None => {
                let shared = self.shared.lock();
                shared.piece.is_none() && shared.end == Some(Ok(()))
            }
        }
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut shared = self.shared.lock();
        shared.left = true;
        shared.piece = None;
        if let Some(giver) = shared.giver.take() {
            giver.wake();
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "the client broke off in the middle of its request",
            Self::Malformed => "the body of the request is malformed",
        })
    }
}

impl std::error::Error for Broken {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Task {
        fn woken(&self) -> usize {
            self.0.swap(0, Ordering::SeqCst)
        }
    }

    fn taken(receiver: &mut Receiver, task: &Arc<Task>) -> Poll<Option<Result<Bytes, Broken>>> {
        let waker = Waker::from(Arc::clone(task));
        let polled = receiver.poll_frame(&mut Context::from_waker(&waker));
        polled.map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().expect("data"))))
    }

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(text.into())
    }

    #[test]
    fn each_piece_is_asked_for_and_two_tasks_wake_each_other() {
        let (sender, mut receiver) = channel(Some(5));
        let (connection, other) = (Arc::new(Task::default()), Arc::new(Task::default()));
        let waker = Waker::from(Arc::clone(&connection));
        let mut context = Context::from_waker(&waker);
        assert!(sender.poll_wish(&mut context).is_pending(), "nobody has asked");
        assert!(taken(&mut receiver, &other).is_pending());
        assert_eq!((connection.woken(), sender.poll_wish(&mut context)), (1, Poll::Ready(Wish::More)));
        sender.give(data("hel"), &context);
        assert_eq!(other.woken(), 1);
        assert!(sender.poll_wish(&mut context).is_pending(), "there is a piece");
        assert_eq!(taken(&mut receiver, &other), Poll::Ready(Some(Ok("hel".into()))));
        assert!(sender.poll_wish(&mut context).is_pending(), "it was taken, and no other asked for");
        assert_eq!(receiver.size_hint().exact(), Some(2));
        sender.give(data("lo"), &context);
        sender.end(Ok(()), &context);
        assert!(!receiver.is_end_stream());
        assert_eq!(taken(&mut receiver, &other), Poll::Ready(Some(Ok("lo".into()))));
        assert!(receiver.is_end_stream());
        assert_eq!(taken(&mut receiver, &other), Poll::Ready(None));
        assert_eq!(connection.woken(), 0);
        drop(receiver);
        assert_eq!((connection.woken(), sender.poll_wish(&mut context)), (1, Poll::Ready(Wish::Nothing)));
    }

    #[test]
    fn one_task_does_not_wake_itself() {
        let (sender, mut receiver) = channel(None);
        let task = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&task));
        let mut context = Context::from_waker(&waker);
        assert!(sender.poll_wish(&mut context).is_pending());
        assert!(taken(&mut receiver, &task).is_pending());
        sender.give(data("a"), &context);
        assert_eq!(taken(&mut receiver, &task), Poll::Ready(Some(Ok("a".into()))));
        assert!(taken(&mut receiver, &task).is_pending() && !receiver.is_end_stream());
        sender.end(Ok(()), &context);
        assert!(receiver.is_end_stream() && task.woken() == 0);
    }

    #[test]
    fn that_all_of_a_body_has_come_is_known_to_nobody_who_has_not_asked() {
        let (sender, mut receiver) = channel(None);
        sender.end(Ok(()), &Context::from_waker(Waker::noop()));
        assert!(!receiver.is_end_stream());
        assert_eq!(taken(&mut receiver, &Arc::default()), Poll::Ready(None));
        assert!(receiver.is_end_stream());
    }

    #[test]
    fn a_taker_that_goes_is_missed_by_a_connection_that_waits_for_bytes() {
        let (sender, mut receiver) = channel(None);
        let (connection, other) = (Arc::new(Task::default()), Arc::new(Task::default()));
        let waker = Waker::from(Arc::clone(&connection));
        assert!(taken(&mut receiver, &other).is_pending());
        assert_eq!(sender.poll_wish(&mut Context::from_waker(&waker)), Poll::Ready(Wish::More));
        drop(receiver);
        assert_eq!(connection.woken(), 1);
    }

    #[test]
    fn what_is_cut_short_does_not_look_whole() {
        for (end, expected) in [(None, Broken::Off), (Some(Err(Broken::Malformed)), Broken::Malformed)] {
            let (sender, mut receiver) = channel(None);
            let task = Arc::new(Task::default());
            assert!(taken(&mut receiver, &task).is_pending());
            let context = Context::from_waker(Waker::noop());
            sender.give(data("a"), &context);
            end.into_iter().for_each(|end| sender.end(end, &context));
            drop(sender);
            assert_eq!(task.woken(), 1);
            assert_eq!(taken(&mut receiver, &task), Poll::Ready(Some(Ok("a".into()))));
            assert!(!receiver.is_end_stream());
            assert_eq!(taken(&mut receiver, &task), Poll::Ready(Some(Err(expected))));
        }
    }
}
