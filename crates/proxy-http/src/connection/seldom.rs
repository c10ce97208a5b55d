//! Asking what seldom has an answer only when it calls.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// A future that is polled only when it was woken, in a task that is woken by others all the time.
///
/// A connection wakes with every packet. What else it waits for, time-outs and the end of the process, would be asked as
/// often, and be silent all its life.
#[derive(Debug)]
pub(super) struct Seldom<F> {
    future: F,
    /// `None` before the first time.
    bell: Option<Arc<Bell>>,
}

/// Wakes the task, and says who did.
#[derive(Debug)]
struct Bell {
    task: Waker,
    rung: AtomicBool,
}

impl<F> Seldom<F> {
    pub(super) const fn new(future: F) -> Self {
        Self { future, bell: None }
    }

    /// The future, which is asked anew after this.
    pub(super) fn get_mut(&mut self) -> &mut F {
        // The same bell goes on: the future may be asked and yet not tell all who wake it of another one.
        if let Some(bell) = &self.bell {
            // Ordering: nobody else's work is told of.
            bell.rung.store(true, Ordering::Relaxed);
        }
        &mut self.future
    }
}

impl<F> Seldom<F> {
    /// Polls the future with `poll`, if it has called.
    pub(super) fn poll_by<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: impl FnOnce(&mut F, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let bell = match &self.bell {
            Some(bell) if bell.task.will_wake(context.waker()) => {
                // Ordering: acquires what whoever rang did before. Most often nobody has, and then a load is cheaper.
                if !bell.rung.load(Ordering::Relaxed) || !bell.rung.swap(false, Ordering::Acquire) {
                    return Poll::Pending;
                }
                bell
            }
            _ => self.bell.insert(Arc::new(Bell { task: context.waker().clone(), rung: AtomicBool::new(false) })),
        };
        let waker = Waker::from(Arc::clone(bell));
        poll(&mut self.future, &mut Context::from_waker(&waker))
    }
}

impl<F: Future + Unpin> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.get_mut().poll_by(context, |future, context| Pin::new(future).poll(context))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Ordering: releases what was done before to whoever asks the future because of it.
        self.rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker;
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::oneshot;

    /// Counts how often it wakes.
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_is_asked_once_until_it_calls() {
        let (sender, mut receiver) = oneshot::channel();
        let mut asked = 0;
        let mut seldom = Seldom::new(poll_fn(|context| {
            asked += 1;
            Pin::new(&mut receiver).poll(context)
        }));
        let task = Arc::new(Counting(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&task));
        let mut context = Context::from_waker(&waker);
        for _ in 0..10 {
            assert!(Pin::new(&mut seldom).poll(&mut context).is_pending());
        }
        sender.send(7).unwrap();
        assert_eq!(task.0.load(Ordering::Relaxed), 1, "the task is woken");
        assert_eq!(Pin::new(&mut seldom).poll(&mut context), Poll::Ready(Ok(7)));
        assert_eq!(asked, 2);
    }

    #[test]
    fn another_task_is_told_too() {
        let (sender, receiver) = oneshot::channel();
        let mut seldom = Seldom::new(receiver);
        let first = noop_waker();
        assert!(Pin::new(&mut seldom).poll(&mut Context::from_waker(&first)).is_pending());
        let task = Arc::new(Counting(AtomicUsize::new(0)));
        let second = Waker::from(Arc::clone(&task));
        assert!(Pin::new(&mut seldom).poll(&mut Context::from_waker(&second)).is_pending());
        sender.send(7).unwrap();
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        assert_eq!(Pin::new(&mut seldom).poll(&mut Context::from_waker(&second)), Poll::Ready(Ok(7)));
    }

    #[test]
    fn who_was_told_only_at_first_still_calls_after_it_was_asked_anew() {
        let caller = std::cell::OnceCell::new();
        let asked = std::cell::Cell::new(0);
        let mut seldom = Seldom::new(poll_fn(|context| {
            caller.get_or_init(|| context.waker().clone());
            asked.set(asked.get() + 1);
            Poll::<()>::Pending
        }));
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        let mut poll = |seldom: &mut Seldom<_>| assert!(Pin::new(seldom).poll(&mut context).is_pending());
        poll(&mut seldom);
        seldom.get_mut();
        poll(&mut seldom);
        caller.get().unwrap().wake_by_ref();
        poll(&mut seldom);
        assert_eq!(asked.get(), 3);
    }

    #[test]
    fn what_was_changed_is_asked_anew() {
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        let mut seldom = Seldom::new(Answers(Poll::Pending));
        assert!(Pin::new(&mut seldom).poll(&mut context).is_pending());
        seldom.get_mut().0 = Poll::Ready(7);
        assert_eq!(Pin::new(&mut seldom).poll(&mut context), Poll::Ready(7));
    }

    /// Gives this answer whenever it is asked.
    struct Answers(Poll<u8>);

    impl Future for Answers {
        type Output = u8;

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u8> {
            self.0
        }
    }
}
