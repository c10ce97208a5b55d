//! What a request holds while a backend may be at work for it.

use super::pool::Lease;
use conn_tracker::RequestPermit;
use std::sync::Arc;
use tokio::runtime::Handle;

/// A connection on which a request is under way, and the slots of that request.
///
/// Dropped before the request is over, it keeps the slots until the connection has ended: a client that gives up many
/// requests must not have more of them at the backend than it may.
#[derive(Debug)]
pub(super) struct UnderWay {
    /// `None` once the request is over.
    lease: Option<Lease>,
    slots: Option<Arc<RequestPermit>>,
}

impl UnderWay {
    pub(super) fn new(lease: Lease, slots: Option<&Arc<RequestPermit>>) -> Self {
        Self { lease: Some(lease), slots: slots.cloned() }
    }

    pub(super) fn lease(&mut self) -> &mut Lease {
        self.lease.as_mut().expect("the request is not over")
    }

    /// The request is over, or all but its body: what it held.
    pub(super) fn finish(mut self) -> (Lease, Option<Arc<RequestPermit>>) {
        (self.lease.take().expect("the request is not over"), self.slots.take())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // A stream of HTTP/2 ends with its handles. Without a runtime there is no connection either.
        let (Some(Lease::Http1(mut sender)), Some(slots)) = (self.lease.take(), self.slots.take()) else { return };
        if let (false, Ok(runtime)) = (sender.is_closed(), Handle::try_current()) {
            runtime.spawn(async move {
                // Closed, as nobody takes the response, or ready, if that has come whole: nothing is under way any more.
                _ = sender.ready().await;
                drop(slots);
            });
        }
    }
}
