//! A request on its way to whichever backend takes it.

use super::http1::Http1;
use super::outgoing::{Outgoing, Progress};
use crate::body::RequestBody;
use crate::headers::Stamp;
use crate::message::Head;
use http::header::HOST;
use http::{HeaderValue, Request};
use std::sync::Arc;

/// A request on its way to whichever backend takes it. It stays where it is while one after the other is tried.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(super) head: Box<Head>,
    /// What the head says besides its own fields.
    pub(super) stamp: Option<Stamp>,
    /// `None` once it was taken, or if there is none.
    body: Option<Outgoing>,
    progress: Option<Arc<Progress>>,
}

impl Letter {
    /// What is sent: `head`, with what `stamp` adds to its fields, and `body`.
    pub(crate) fn new(head: Box<Head>, stamp: Option<Stamp>, body: RequestBody) -> Self {
        let body = Outgoing::new(body);
        let progress = body.progress();
        Self { head, stamp, body: progress.is_some().then_some(body), progress }
    }

    /// Whether there is no body, so that the head is the whole request.
    pub(super) fn is_empty(&self) -> bool {
        self.progress.is_none()
    }

    /// Whether it may be sent twice: it has no body, and a method that may be repeated.
    pub(super) fn is_repeatable(&self) -> bool {
        self.is_empty() && self.head.method.is_idempotent()
    }

    /// Gives it to a connection, which sends it as it is asked for the answer.
    pub(super) fn begin(&mut self, connection: &mut Http1) {
        let body = self.take_body();
        connection.begin(&self.head, self.stamp.as_ref(), body);
    }

    /// How far the body is; `None` if there is none.
    pub(super) fn progress(&self) -> Option<&Arc<Progress>> {
        self.progress.as_ref()
    }

    /// The body, once.
    pub(super) fn take_body(&mut self) -> Outgoing {
        self.body.take().unwrap_or_else(|| Outgoing::new(RequestBody::Empty))
    }

    /// Puts the stamp among the fields, for those who read them there.
    pub(super) fn stamp(&mut self) {
        if let Some(stamp) = self.stamp.take() {
            let host = self.head.fields.value(&HOST).or_else(|| {
                let authority = self.head.uri.authority()?;
                HeaderValue::from_str(authority.as_str()).ok()
            });
            stamp.insert(host.as_ref(), &mut self.head.fields);
        }
    }

    /// Takes back what was not sent.
    pub(super) fn put_back(&mut self, request: Request<Outgoing>) {
        let (head, body) = request.into_parts();
        *self.head = head.into();
        self.body = self.progress.is_some().then_some(body);
    }
}
