//! Telling every connection to finish, and waiting until they have.

use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// The one who asks for the drain.
#[derive(Debug)]
pub struct Drain {
    shared: Arc<Shared>,
}

/// Held by everything that has work to finish.
#[derive(Debug)]
pub struct DrainWatch {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    draining: AtomicBool,
    begun: Arc<Notify>,
    watches: AtomicUsize,
    unwatched: Notify,
}

impl Drain {
    /// A drain nobody has asked for yet.
    #[must_use]
    pub fn new() -> (Self, DrainWatch) {
        let shared = Arc::new(Shared {
            draining: AtomicBool::new(false),
            begun: Arc::default(),
            watches: AtomicUsize::new(1),
            unwatched: Notify::new(),
        });
        (Self { shared: Arc::clone(&shared) }, DrainWatch { shared })
    }

    /// Asks everybody to finish.
    pub fn start(&self) {
        // Ordering: who sees it does not go on to read anything else because of it.
        self.shared.draining.store(true, Ordering::SeqCst);
        self.shared.begun.notify_waiters();
    }

    /// Waits until every watch is dropped. Cancel safe.
    pub async fn finished(&self) {
        loop {
            // Made before the count is looked at, so that the last drop is not missed.
            let unwatched = self.shared.unwatched.notified();
            // Ordering: acquires what the holders of watches did before they dropped them.
            if self.shared.watches.load(Ordering::Acquire) == 0 {
                return;
            }
            unwatched.await;
        }
    }
}

impl DrainWatch {
    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        // Ordering: see `Drain::start`.
        self.shared.draining.load(Ordering::SeqCst)
    }

    /// Waits until the drain begins; for ever if it cannot begin any more. Holds no watch.
    pub fn draining(&self) -> Draining {
        // Made before the flag is looked at, so that the beginning is not missed.
        let begun = Arc::clone(&self.shared.begun).notified_owned();
        Draining { begun: (!self.is_draining()).then_some(begun) }
    }
}

impl Clone for DrainWatch {
    fn clone(&self) -> Self {
        // Ordering: there is one already, so the count cannot be zero meanwhile.
        self.shared.watches.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for DrainWatch {
    fn drop(&mut self) {
        // Ordering: releases what its holder did to the one who sees the count at zero.
        if self.shared.watches.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.unwatched.notify_waiters();
        }
    }
}

pin_project! {
    /// Ready once the drain has begun. Every idle connection has one, so it is written out to be small.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Draining {
        // `None` if it had begun before.
        #[pin]
        begun: Option<OwnedNotified>,
    }
}

impl Future for Draining {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.project().begun.as_pin_mut().map_or(Poll::Ready(()), |begun| begun.poll(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    fn poll(future: Pin<&mut impl Future>) -> bool {
        future.poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn everybody_hears_of_it_whenever_they_ask() {
        let (drain, watch) = Drain::new();
        let (mut polled, mut made) = (pin!(watch.draining()), pin!(watch.draining()));
        assert!(!poll(polled.as_mut()) && !watch.is_draining());
        drain.start();
        assert!(poll(polled) && poll(made.as_mut()) && poll(pin!(watch.draining())) && watch.is_draining());
    }

    #[test]
    fn it_is_finished_when_the_last_watch_is_gone() {
        let (drain, watch) = Drain::new();
        let other = watch.clone();
        let mut finished = pin!(drain.finished());
        assert!(!poll(finished.as_mut()));
        drop(watch);
        assert!(!poll(finished.as_mut()));
        drop(other);
        assert!(poll(finished) && poll(pin!(drain.finished())));
    }

    #[test]
    fn who_waits_for_it_is_small() {
        assert!(size_of::<Draining>() <= 72, "{}", size_of::<Draining>());
    }
}
