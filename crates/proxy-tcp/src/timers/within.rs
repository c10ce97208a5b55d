//! A future that may take so long only.

use super::{TimedOut, Timer, Timers};
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::Instant;

pin_project! {
    /// What a future gives, unless it takes too long. Written out, so that it is not much larger than that future.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Within<'a, F> {
        #[pin]
        pub(super) future: F,
        pub(super) timers: &'a Timers,
        pub(super) end: Option<Instant>,
        pub(super) timer: Option<Timer>,
    }
}

impl<F: Future> Future for Within<'_, F> {
    type Output = Result<F::Output, TimedOut>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.future.poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            // What needs no waiting needs no timer.
            Poll::Pending => {
                let timer = this.timer.get_or_insert_with(|| this.timers.at(*this.end));
                timer.poll(context).map(|()| Err(TimedOut))
            }
        }
    }
}
