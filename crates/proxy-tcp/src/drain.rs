//! Telling every connection to finish, and waiting until they have.

use tokio::sync::watch;

/// The one who asks for the drain.
#[derive(Debug)]
pub struct Drain {
    signal: watch::Sender<bool>,
}

/// Held by everything that has work to finish.
#[derive(Clone, Debug)]
pub struct DrainWatch {
    signal: watch::Receiver<bool>,
}

impl Drain {
    /// A drain nobody has asked for yet.
    #[must_use]
    pub fn new() -> (Self, DrainWatch) {
        let (sender, receiver) = watch::channel(false);
        (Self { signal: sender }, DrainWatch { signal: receiver })
    }

    /// Asks everybody to finish.
    pub fn start(&self) {
        self.signal.send_replace(true);
    }

    /// Waits until every watch is dropped.
    pub async fn finished(&self) {
        self.signal.closed().await;
    }
}

impl DrainWatch {
    /// Whether the drain has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.signal.borrow()
    }

    /// Waits until the drain begins; for ever if it cannot begin any more. Cancel safe.
    pub async fn draining(&mut self) {
        if self.signal.wait_for(|&draining| draining).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
