//! What a stream of HTTP/2 runs, so that a panic ends the stream and not its connection.
//!
//! The stream gets an error in its place, for which it is reset with INTERNAL_ERROR. What it held drops with it.

use crate::body::{BodyError, ResponseBody};
use crate::message::Response;
use crate::request::{Answering, Dropped};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// An answer, or its body, on a stream. Nothing is asked of it again that has panicked.
#[derive(Debug)]
pub(super) struct Confined<T>(T);

/// Begins to answer a request.
pub(super) fn confined(answer: impl FnOnce() -> Answering) -> Confined<Answering> {
    Confined(catch(answer).unwrap_or(Answering::Now(Some(Err(Dropped)))))
}

/// What it gives; `None` if it panics. What is shared with others bears that: it bears tasks that are cancelled, too.
fn catch<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}

impl Future for Confined<Answering> {
    type Output = Result<Response<Confined<ResponseBody>>, Dropped>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = catch(|| Pin::new(&mut self.0).poll(context)).unwrap_or(Poll::Ready(Err(Dropped)));
        polled.map(|answer| answer.map(|response| response.map(Confined)))
    }
}

impl Body for Confined<ResponseBody> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        catch(|| Pin::new(&mut self.0).poll_frame(context))
            .unwrap_or_else(|| Poll::Ready(Some(Err("the answer broke off".into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
