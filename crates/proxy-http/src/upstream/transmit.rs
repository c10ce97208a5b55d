//! One request over one connection.

use super::UpstreamError;
use super::connect::Speech;
use super::head::for_http2;
use super::http1::HeadError;
use super::letter::Letter;
use super::outgoing::Outgoing;
use super::patience::Patience;
use super::pool::{Lease, Stream};
use crate::message::{Head, Response};
use http::Request;
use http::uri::Scheme;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use proxy_tcp::Timers;
use std::future::{Future, poll_fn};
use std::pin::Pin;

/// What became of a request over one connection.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was answered; in HTTP/1.1 the body is taken from the connection itself.
    Answered(Response<Option<Incoming>>),
    /// It can be sent again over another connection: all of it is where it was.
    Again,
    /// It was, or may have been, received, and there is no answer.
    Failed(UpstreamError),
}

/// Sends a request and waits for the head of the response.
pub(super) async fn transmit(
    lease: &mut Lease,
    letter: &mut Letter,
    speech: Speech<'_>,
    timers: &Timers,
    patience: Patience,
) -> Outcome {
    let stream = match lease {
        Lease::Http2(stream) => stream,
        Lease::Http1(connection) => {
            letter.begin(connection);
            let answer = poll_fn(|context| connection.poll_head(context));
            return match patience.with(timers, answer, letter.progress().map(AsRef::as_ref)).await {
                None => Outcome::Failed(UpstreamError::TimedOut),
                Some(Ok(head)) => Outcome::Answered(head.map(|()| None)),
                Some(Err(error)) => unanswered(error, letter).map_or(Outcome::Again, Outcome::Failed),
            };
        }
    };
    over_http2_apart(stream, letter, speech, timers, patience).await
}

/// Why there is no answer over a connection of HTTP/1.1; `None` if the request can be sent again.
pub(super) fn unanswered(error: HeadError, letter: &Letter) -> Option<UpstreamError> {
    match error {
        HeadError::RequestBody => Some(UpstreamError::RequestBody),
        HeadError::Malformed => Some(UpstreamError::Malformed),
        HeadError::Lost { untouched } if letter.is_repeatable() || untouched && letter.is_empty() => None,
        HeadError::Lost { .. } => Some(UpstreamError::Lost),
    }
}

/// [`over_http2`], apart from those who do without: it is made on the stack, where it takes much place.
#[inline(never)]
fn over_http2_apart<'a>(
    stream: &'a Stream,
    letter: &'a mut Letter,
    speech: Speech<'a>,
    timers: &'a Timers,
    patience: Patience,
) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
    Box::pin(over_http2(stream, letter, speech, timers, patience))
}

async fn over_http2(
    stream: &Stream,
    letter: &mut Letter,
    speech: Speech<'_>,
    timers: &Timers,
    patience: Patience,
) -> Outcome {
    letter.stamp();
    let body = letter.take_body();
    let spare = letter.is_repeatable().then(|| letter.head.clone());
    let mut request = std::mem::take(&mut *letter.head).with_body(body);
    let scheme = if speech.is_encrypted() { Scheme::HTTPS } else { Scheme::HTTP };
    if for_http2(&mut request, scheme).is_err() {
        return Outcome::Failed(UpstreamError::BadRequest);
    }
    let mut sender = stream.sender();
    let answer = sender.try_send_request(request);
    match patience.with(timers, answer, letter.progress().map(AsRef::as_ref)).await {
        None => Outcome::Failed(UpstreamError::TimedOut),
        Some(Ok(response)) => Outcome::Answered(Response::from(response).map(Some)),
        Some(Err(error)) => after(error, spare, letter),
    }
}

fn after(mut error: TrySendError<Request<Outgoing>>, spare: Option<Box<Head>>, letter: &mut Letter) -> Outcome {
    if let Some(unsent) = error.take_message() {
        letter.put_back(unsent);
        return Outcome::Again;
    }
    let error = error.into_error();
    tracing::debug!(%error, "a backend did not answer");
    if letter.progress().is_some_and(|progress| progress.has_failed()) || error.is_user() {
        return Outcome::Failed(UpstreamError::RequestBody);
    }
    if error.is_parse() {
        return Outcome::Failed(UpstreamError::Malformed);
    }
    let Some(spare) = spare else { return Outcome::Failed(UpstreamError::Lost) };
    letter.head = spare;
    Outcome::Again
}
