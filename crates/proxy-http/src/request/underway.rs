//! A request that was passed on to a backend, until its answer.

use super::forward::Ready;
use super::{Answering, InFlight, Serving};
use crate::HttpGeneration;
use crate::body::ResponseBody;
use crate::connection::Downstream;
use crate::message::Response;
use crate::upstream::{self, Search, Unanswered};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A request that was passed on to a backend, and all that its answer needs.
pub(super) struct Forwarded {
    pub(super) client: Arc<Downstream>,
    pub(super) newest: Arc<HttpGeneration>,
    pub(super) flight: Box<InFlight>,
    pub(super) ready: Box<Ready>,
    pub(super) h1: bool,
    pub(super) is_head: bool,
}

/// A request that is under way over a kept connection.
pub(crate) struct Underway {
    // First, so that the backend is rid of the request before its slots are free.
    upstream: upstream::Underway,
    forwarded: Forwarded,
}

/// The way of a request to a backend that has to be waited for.
pub(super) type Later = Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>>;

impl Underway {
    /// Sends a request on its way to a backend.
    pub(super) fn begin(mut forwarded: Forwarded) -> Answering {
        let Forwarded { client, newest, flight, ready, h1, .. } = &mut forwarded;
        match (Serving { client, flight, h1: *h1 }).begin(newest, ready) {
            Ok(upstream) => Answering::Underway(Some(Box::new(Self { upstream, forwarded }))),
            Err(search) => Answering::Later(forwarded.go_on(search)),
        }
    }

    /// Waits for the answer. If there is none over the kept connection, but may be over another one, that is what to wait
    /// for from then on.
    pub(super) fn poll(
        this: &mut Option<Box<Self>>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Response<ResponseBody>, Later>> {
        let underway = this.as_deref_mut().expect("it is answered once");
        let heard = ready!(underway.upstream.poll(&underway.forwarded.client.worker.timers, context));
        let Some(underway) = this.take() else { return Poll::Pending };
        let Self { upstream, mut forwarded } = *underway;
        let Forwarded { client, newest, flight, ready, h1, is_head } = &mut forwarded;
        let mut serving = Serving { client, flight, h1: *h1 };
        let (exchange, letter) = serving.exchange(newest, ready);
        let answer = match upstream.answered(heard, &client.worker.pools, &exchange, letter) {
            Ok(response) => Ok(response),
            Err(Unanswered::Failed(error)) => Err(error),
            Err(Unanswered::Again(search)) => return Poll::Ready(Err(forwarded.go_on(search))),
        };
        let answer = serving.conclude(newest, ready, answer);
        let is_head = *is_head;
        Poll::Ready(Ok(forwarded.flight.answered(answer, is_head)))
    }
}

impl Forwarded {
    #[inline(never)] // Apart from those who seldom need it, for its place on the stack.
    fn go_on(self, search: Search) -> Later {
        Box::pin(async move {
            let Self { client, newest, mut flight, mut ready, h1, is_head } = self;
            let answer = Serving { client: &client, flight: &mut flight, h1 }.send(&newest, &mut ready, search).await;
            flight.answered(answer, is_head)
        })
    }
}
