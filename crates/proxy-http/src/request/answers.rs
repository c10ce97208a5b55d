//! Answers of the proxy itself.

use super::Answer;
use super::id;
use super::target::Target;
use crate::body::Source;
use crate::fields::{Fields, Value};
use crate::headers::X_REQUEST_ID;
use crate::message::Response;
use bytes::Bytes;
use conn_tracker::Rejection;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, LOCATION, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use proxy_route::{Redirect, Respond};
use std::time::Duration;

/// A status, and its name as the body; for errors with the id of the request, by which logs tell more.
pub(super) fn text(status: StatusCode, id: &Value) -> Answer {
    let reason = status.canonical_reason().unwrap_or("error");
    let body = match status.is_client_error() || status.is_server_error() {
        true => format!("{} {reason} (request id {})\n", status.as_u16(), id::text(id)),
        false => format!("{} {reason}\n", status.as_u16()),
    };
    let mut answer = fixed(status, body.into(), id);
    answer.fields.set(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// The answer to what a limit refused: 429 where the client itself is over a limit of its own, else 503.
pub(super) fn refused(rejection: &Rejection, id: &Value) -> Answer {
    let own = rejection.reason.is_clients_own();
    let mut answer = text(if own { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::SERVICE_UNAVAILABLE }, id);
    come_back(&mut answer, rejection.retry_after());
    answer
}

/// Tells the client when to come back: as soon as there may be room, if that is known.
pub(super) fn come_back(answer: &mut Answer, after: Option<Duration>) {
    answer.fields.set(RETRY_AFTER, HeaderValue::from(proxy_tcp::retry_after(after)));
}

/// Puts another text into an answer.
pub(super) fn say(answer: &mut Answer, text: &str) {
    answer.fields.set(CONTENT_LENGTH, HeaderValue::from(text.len()));
    answer.body = Source::Fixed(Bytes::copy_from_slice(text.as_bytes()));
}

/// The answer of a redirecting route.
pub(super) fn redirect(redirect: &Redirect, target: &Target<'_>, port: u16, id: &Value) -> Answer {
    let location = redirect
        .to
        .replace("{domain}", target.domain())
        .replace("{port}", &port.to_string())
        .replace("{path}", target.path_and_query());
    let Ok(location) = HeaderValue::from_str(&location) else { return text(StatusCode::INTERNAL_SERVER_ERROR, id) };
    let mut answer = text(StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::FOUND), id);
    answer.fields.set(LOCATION, location);
    answer
}

/// The answer of a route that answers by itself.
pub(super) fn respond(respond: &Respond, id: &Value) -> Answer {
    let status = StatusCode::from_u16(respond.status).unwrap_or(StatusCode::OK);
    let mut answer = fixed(status, Bytes::copy_from_slice(respond.body.as_bytes()), id);
    for (name, value) in &respond.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            answer.fields.push(name, value);
        }
    }
    answer
}

/// An answer after which an HTTP/1.1 connection ends.
pub(super) fn close(answer: &mut Answer) {
    answer.fields.set(CONNECTION, HeaderValue::from_static("close"));
}

/// Fields that most answers of the proxy itself have: the id, length, type, and one that says what to do.
const MOST_OWN: usize = 4;

fn fixed(status: StatusCode, body: Bytes, id: &Value) -> Answer {
    let bodiless = status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if bodiless { Bytes::new() } else { body };
    let length = body.len();
    let mut fields = Fields::with_capacity(MOST_OWN);
    fields.push(X_REQUEST_ID, id.clone());
    if !bodiless {
        fields.push(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response { status, fields, body: Source::Fixed(body) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conn_tracker::Reason;

    const ID: Value = Value::Shared(HeaderValue::from_static("7f"));

    #[test]
    fn pitfall_35_refused_clients_are_told_when_to_come_back() {
        let cases = [
            (Rejection::full(Reason::RouteLimit, 3), 503, 1..=3),
            (Rejection::full(Reason::RouteClientLimit, 3), 429, 1..=3),
            (Rejection::too_fast(Reason::RequestRate, 3, Duration::from_millis(4200)), 429, 5..=7),
        ];
        for (rejection, status, range) in cases {
            let answer = refused(&rejection, &ID);
            assert_eq!(answer.status.as_u16(), status);
            let after: u64 = answer.fields.value(&RETRY_AFTER).unwrap().to_str().unwrap().parse().unwrap();
            assert!(range.contains(&after), "{after} is not in {range:?}");
        }
    }

    #[test]
    fn placeholders_stand_for_the_request() {
        let (head, ()) =
            http::Request::builder().uri("/a?b=c").header("host", "shop.test:8080").body(()).unwrap().into_parts();
        let rule = Redirect { to: "https://{domain}:{port}{path}".into(), status: 308 };
        let answer = redirect(&rule, &Target::of(&head.into(), false).unwrap(), 81, &ID);
        assert_eq!(answer.status, StatusCode::PERMANENT_REDIRECT);
        assert_eq!(answer.fields.value(&LOCATION).unwrap(), "https://shop.test:81/a?b=c");
    }

    #[test]
    fn some_statuses_have_no_body() {
        for (status, has_length) in [(204, false), (304, false), (200, true)] {
            let answer = respond(&Respond { status, headers: vec![], body: "text".into() }, &ID);
            assert_eq!(answer.fields.has(&CONTENT_LENGTH), has_length, "{status}");
        }
    }
}
