//! A request that a kept connection was given at once.

use super::body::Work;
use super::http1::HeadError;
use super::patience::Patience;
use super::pool::Lease;
use super::search::{At, Search};
use super::transmit::unanswered;
use super::{Exchange, Letter, Pools, UpstreamBody, UpstreamError, UpstreamResponse};
use crate::message::Response;
use proxy_tcp::Timers;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A request that is under way over a kept connection of HTTP/1.1. Most requests are nothing else, so this is no future of
/// futures, which would move the answer from one to the next.
#[derive(Debug)]
pub(crate) struct Underway {
    work: Box<Work>,
    /// Where to go on if the connection turns out to be dead.
    search: Search,
    patience: Patience,
}

/// Why there is no answer over a kept connection.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// It was dead, and the request can be sent again: [`Pools::send`] goes on from here.
    Again(Search),
    /// There is no other way. It has been reported.
    Failed(UpstreamError),
}

/// What came of the connection: the head of the response, or why there is none. `None`: nothing, for too long.
#[derive(Debug)]
pub(crate) struct Heard(Option<Result<Response<()>, HeadError>>);

impl Underway {
    pub(super) fn new(work: Box<Work>, search: Search, patience: Patience) -> Self {
        Self { work, search, patience }
    }

    /// Sends the request, and waits for the head of the response.
    pub(crate) fn poll(&mut self, timers: &Timers, context: &mut Context<'_>) -> Poll<Heard> {
        let Work { lease: Lease::Http1(connection), progress, .. } = &mut *self.work else {
            // Never: `Pools::begin` makes it of a connection of HTTP/1.1. A type of its own for that would have to be moved into
            // the work with each answer.
            return Poll::Ready(Heard(None));
        };
        match connection.poll_head(context) {
            Poll::Ready(head) => Poll::Ready(Heard(Some(head))),
            Poll::Pending => {
                ready!(self.patience.poll(timers, progress.as_deref(), context));
                Poll::Ready(Heard(None))
            }
        }
    }

    /// The response, once the head of it was heard; or why there is none.
    pub(crate) fn answered(
        self,
        heard: Heard,
        pools: &Pools,
        exchange: &Exchange<'_>,
        letter: &Letter,
    ) -> Result<UpstreamResponse, Unanswered> {
        let Self { work, mut search, .. } = self;
        let error = match heard.0 {
            Some(Ok(head)) => {
                work.in_flight.backend().succeeded();
                return Ok(head.map(|()| UpstreamBody::new(None, work)));
            }
            None => Some(UpstreamError::TimedOut),
            Some(Err(error)) => unanswered(error, letter),
        };
        let Some(error) = error else {
            let Work { lease, in_flight, .. } = *work;
            drop(lease);
            search.at = Some(At { in_flight, kept_died: true });
            return Err(Unanswered::Again(search));
        };
        let backend = Arc::clone(work.in_flight.backend());
        drop(work);
        Err(Unanswered::Failed(pools.failed(exchange, &backend, error)))
    }
}
