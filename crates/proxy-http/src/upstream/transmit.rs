//! One request over one connection.

use super::UpstreamError;
use super::connect::Speech;
use super::head::{for_http1, for_http2};
use super::outgoing::{Outgoing, Progress};
use super::pool::Lease;
use crate::body::RequestBody;
use http::uri::Scheme;
use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What became of a request over one connection.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was answered.
    Answered(Response<Incoming>),
    /// It can be sent again over another connection.
    Again(Request<Outgoing>),
    /// It was, or may have been, received, and there is no answer.
    Failed(UpstreamError),
}

/// Sends `request` and waits for the head of the response. `reused`: the connection has been idle and may have died.
pub(super) async fn transmit(
    lease: &mut Lease,
    mut request: Request<Outgoing>,
    speech: Speech<'_>,
    reused: bool,
    timeout: Option<Duration>,
) -> Outcome {
    match lease {
        Lease::Http1(_) => for_http1(&mut request),
        Lease::Http2(_) => {
            let scheme = if speech.is_encrypted() { Scheme::HTTPS } else { Scheme::HTTP };
            if for_http2(&mut request, scheme).is_err() {
                return Outcome::Failed(UpstreamError::BadRequest);
            }
        }
    }
    let spare = if reused { Spare::of(&request) } else { None };
    let progress = request.body().progress();
    let answered = match lease {
        Lease::Http1(sender) => in_time(sender.try_send_request(request), timeout, progress.as_deref()).await,
        Lease::Http2(stream) => {
            let mut sender = stream.sender();
            in_time(sender.try_send_request(request), timeout, progress.as_deref()).await
        }
    };
    match answered {
        None => Outcome::Failed(UpstreamError::TimedOut),
        Some(Ok(response)) => Outcome::Answered(response),
        Some(Err(error)) => after(error, spare, progress.as_deref()),
    }
}

fn after(mut error: TrySendError<Request<Outgoing>>, spare: Option<Spare>, progress: Option<&Progress>) -> Outcome {
    if let Some(unsent) = error.take_message() {
        return Outcome::Again(unsent);
    }
    let error = error.into_error();
    tracing::debug!(%error, "a backend did not answer");
    if progress.is_some_and(Progress::has_failed) || error.is_user() {
        return Outcome::Failed(UpstreamError::RequestBody);
    }
    if error.is_parse() {
        return Outcome::Failed(UpstreamError::Malformed);
    }
    match spare {
        Some(spare) => Outcome::Again(spare.into_request()),
        None => Outcome::Failed(UpstreamError::Lost),
    }
}

/// The answer, or `None` if the backend keeps us waiting for `timeout`.
async fn in_time<T>(
    answer: impl Future<Output = T>,
    timeout: Option<Duration>,
    progress: Option<&Progress>,
) -> Option<T> {
    let Some(timeout) = timeout else { return Some(answer.await) };
    let mut answer = pin!(answer);
    let mut deadline = Instant::now() + timeout;
    loop {
        if let Ok(answer) = timeout_at(deadline, answer.as_mut()).await {
            return Some(answer);
        }
        let since = progress.map(|progress| progress.waiting_since().unwrap_or_else(Instant::now));
        match since.map(|since| since + timeout) {
            Some(later) if later > deadline => deadline = later,
            _ => return None,
        }
    }
}

/// A copy of a request that may be sent twice: without body, with a method that may be repeated.
#[derive(Debug)]
struct Spare {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Spare {
    fn of(request: &Request<Outgoing>) -> Option<Self> {
        (request.body().is_empty() && request.method().is_idempotent()).then(|| Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
        })
    }

    fn into_request(self) -> Request<Outgoing> {
        let mut request = Request::new(Outgoing::new(RequestBody::Empty));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request
    }
}
