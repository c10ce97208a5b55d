//! The body of a request while a backend takes it.

use crate::body::RequestBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// The body of a request while a backend takes it; watched, unless it is empty.
#[derive(Debug)]
pub(super) struct Outgoing {
    body: RequestBody,
    progress: Option<Arc<Progress>>,
}

/// How far the body of a request is.
#[derive(Debug)]
pub(super) struct Progress {
    state: Mutex<(State, Instant)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The client sends nothing.
    WaitsForClient,
    /// The backend takes nothing, or everything is sent.
    WaitsForBackend,
    /// The client broke off.
    Failed,
}

impl Outgoing {
    pub(super) fn new(body: RequestBody) -> Self {
        if body.is_end_stream() {
            return Self { body: RequestBody::Empty, progress: None };
        }
        let progress = Progress { state: Mutex::new((State::WaitsForBackend, Instant::now())) };
        Self { body, progress: Some(Arc::new(progress)) }
    }

    pub(super) fn progress(&self) -> Option<Arc<Progress>> {
        self.progress.clone()
    }
}

impl Progress {
    /// Since when the backend keeps us waiting; `None` while the client does.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let (state, at) = *self.state.lock();
        (state != State::WaitsForClient).then_some(at)
    }

    /// Whether the client broke off.
    pub(super) fn has_failed(&self) -> bool {
        self.state.lock().0 == State::Failed
    }

    fn note(&self, state: State) {
        *self.state.lock() = (state, Instant::now());
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = <RequestBody as Body>::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        if let Some(progress) = &this.progress {
            progress.note(match &polled {
                Poll::Pending => State::WaitsForClient,
                Poll::Ready(Some(Err(_))) => State::Failed,
                Poll::Ready(_) => State::WaitsForBackend,
            });
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
