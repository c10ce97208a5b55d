//! One request: which route, whether it may, and what answers it.

mod admit;
mod answers;
mod auth;
mod certificate;
mod entry;
mod forward;
mod id;
mod misdirected;
mod target;
mod underway;
mod websocket;

pub(crate) use entry::Entry;
pub(crate) use id::Ids;

use crate::HttpGeneration;
use crate::body::{ResponseBody, Source};
use crate::connection::{self, Downstream};
use crate::fields::Value;
use crate::headers::{self, Lookup};
use crate::message::{Head, Request, Response};
use auth::Credentials;
use conn_tracker::{EventKind, RequestOutcome, RequestPermit, RouteId};
use entry::Outcome;
use forward::Ready;
use http::header::AUTHORIZATION;
use http::{Method, StatusCode};
use proxy_route::{Action, RequestFacts, RoutedRoute};
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use target::Target;
use underway::{Forwarded, Later, Underway};

/// A response whose request may still be in flight.
type Answer = Response<Source>;

/// The connection is to end without an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request gets no answer")
    }
}

impl std::error::Error for Dropped {}

/// Answers a request. Counts it before anything else, so that its connection is not idle from here on.
///
/// All that can be done without waiting is done at once. What is left is boxed: it is moved.
pub(crate) fn answer(client: Arc<Downstream>, request: Request) -> Answering {
    client.activity.begin_request();
    client.wakes();
    let newest = client.worker.current();
    let mut flight = Box::new(InFlight::new(Arc::clone(&client), &request.head, &newest));
    let is_head = request.head.method == Method::HEAD;
    let h1 = Downstream::speaks_h1(request.head.version);
    match (Serving { client: &client, flight: &mut flight, h1 }).serve(&newest, request) {
        Err(dropped) => Answering::Now(Some(Err(dropped))),
        Ok(Served::Answered(response)) => Answering::Now(Some(Ok(Box::new(flight.answered(*response, is_head))))),
        Ok(Served::Ready(ready)) => Underway::begin(Forwarded { client, newest, flight, ready, h1, is_head }),
    }
}

/// The answer to a request, or the way to it.
pub(crate) enum Answering {
    /// `None` once it was taken.
    Now(Option<Result<Box<Response<ResponseBody>>, Dropped>>),
    /// Over a kept connection; `None` once it was answered.
    Underway(Option<Box<Underway>>),
    Later(Later),
}

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Now(_) => "Now",
            Self::Underway(_) => "Underway",
            Self::Later(_) => "Later",
        })
    }
}

impl Future for Answering {
    type Output = Result<Response<ResponseBody>, Dropped>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let polled = loop {
            match this {
                Self::Now(answer) => break Poll::Ready(answer.take().expect("it is taken once").map(|answer| *answer)),
                Self::Underway(underway) => match Underway::poll(underway, context) {
                    Poll::Pending => break Poll::Pending,
                    Poll::Ready(Ok(answer)) => break Poll::Ready(Ok(answer)),
                    Poll::Ready(Err(later)) => *this = Self::Later(later),
                },
                Self::Later(answer) => break answer.as_mut().poll(context).map(Ok),
            }
        };
        if polled.is_ready() {
            connection::moves();
        } else {
            connection::waits();
        }
        polled
    }
}

/// What became of a request without waiting.
enum Served {
    Answered(Box<Answer>),
    /// A backend is to answer it.
    Ready(Box<Ready>),
}

impl From<Answer> for Served {
    fn from(answer: Answer) -> Self {
        Self::Answered(Box::new(answer))
    }
}

/// A request that is not over. Reported when it drops, at the last byte of the response or the end of the tunnel.
#[derive(Debug)]
pub(crate) struct InFlight {
    client: Arc<Downstream>,
    began: Instant,
    route: Option<RouteId>,
    /// Whom it is for.
    for_whom: IpAddr,
    /// The status sent.
    status: Option<u16>,
    id: Value,
    entry: Option<Arc<Entry>>,
    /// Shared with whatever is under way to a backend.
    permit: Option<Arc<RequestPermit>>,
    tunnel: bool,
    over: bool,
}

/// What is reported of a request whose client went away before there was a status.
const CLIENT_GONE: u16 = 499;

impl InFlight {
    fn new(client: Arc<Downstream>, head: &Head, newest: &HttpGeneration) -> Self {
        let worker = &client.worker;
        let id = worker.ids.id(&head.fields, || newest.generation.balancers.contains(client.client()));
        let entry = worker.report.wants_access().then(|| Arc::new(Entry::new(head)));
        Self::with(client, id, entry)
    }

    fn with(client: Arc<Downstream>, id: Value, entry: Option<Arc<Entry>>) -> Self {
        client.activity.begin();
        Self {
            began: Instant::now(),
            route: None,
            for_whom: client.client(),
            status: None,
            id,
            entry,
            permit: None,
            tunnel: false,
            over: false,
            client,
        }
    }

    /// What the access log will say of it, if there is one.
    pub(crate) const fn entry(&self) -> Option<&Arc<Entry>> {
        self.entry.as_ref()
    }

    fn ends(&self, end: &'static str) {
        if let Some(entry) = &self.entry {
            entry.ends(end);
        }
    }

    /// Hands the request over to whatever goes on with it. What is left behind is over, and says nothing.
    fn hand_over(&mut self) -> Self {
        let rest = Self::with(Arc::clone(&self.client), self.id.clone(), None);
        let mut flight = std::mem::replace(self, rest);
        self.over = true;
        self.tunnel = true;
        flight.tunnel = false;
        flight
    }

    fn answered(mut self: Box<Self>, mut response: Answer, is_head: bool) -> Response<ResponseBody> {
        if is_head || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            // The length stays, the bytes do not, whatever a backend makes of it.
            response.body = Source::Fixed(bytes::Bytes::new());
        }
        self.status = Some(response.status.as_u16());
        let request = (!self.tunnel).then_some(self);
        response.map(|source| ResponseBody::new(source, request))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.permit = None;
        self.client.rests();
        if !self.over {
            let Self { route, status, for_whom, .. } = *self;
            let (report, elapsed) = (&*self.client.worker.report, self.began.elapsed());
            report.request(RequestOutcome { route, status: status.unwrap_or(CLIENT_GONE), elapsed });
            if let Some(entry) = &self.entry {
                let (id, port) = (&self.id, self.client.port);
                entry.tell(report, Outcome { route, client: for_whom, port, id, status, elapsed });
            }
        }
        self.client.activity.rest();
    }
}

/// A request on its way to an answer.
struct Serving<'a> {
    client: &'a Arc<Downstream>,
    flight: &'a mut InFlight,
    h1: bool,
}

impl Serving<'_> {
    fn serve(&mut self, newest: &HttpGeneration, mut request: Request) -> Result<Served, Dropped> {
        let client = self.client;
        if !self.h1 {
            headers::join_cookies(&mut request.head.fields);
        }
        let for_whom = headers::client(&request.head.fields, client.client(), &newest.generation.balancers);
        self.flight.for_whom = for_whom;
        let most = newest.generation.settings.max_request_header_bytes;
        if !self.h1 && headers::is_too_large(&request.head.fields, most) {
            self.event(EventKind::BadRequest, "header_too_large", for_whom);
            return Ok(self.text(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE).into());
        }
        target::complete(&mut request.head);
        let target = match Target::of(&request.head, request.tunnel.is_some()) {
            Ok(target) => target,
            Err(status) => {
                self.event(EventKind::BadRequest, "request_malformed", for_whom);
                return Ok(self.final_answer(self.text(status)).into());
            }
        };
        if misdirected::is(newest, client, &target) {
            self.event(EventKind::BadRequest, "misdirected", for_whom);
            return Ok(self.unbound_answer(self.text(StatusCode::MISDIRECTED_REQUEST)).into());
        }
        let Some(route) = self.route(newest, &request.head, &target, for_whom) else {
            self.event(EventKind::BadRequest, "no_route", for_whom);
            return Ok(self.unbound_answer(self.text(StatusCode::NOT_FOUND)).into());
        };
        self.flight.route = Some(route.id);
        if let Some(reason) = refusal(newest, route, client.client(), for_whom) {
            self.event(EventKind::Blocked, reason, for_whom);
            return Ok(self.unbound_answer(self.text(StatusCode::FORBIDDEN)).into());
        }
        if let Some(auth) = &route.client_auth
            && let Err((status, kind, reason)) = certificate::judge(auth, client.certificate.as_deref())
        {
            self.event(kind, reason, for_whom);
            return Ok(self.unbound_answer(self.text(status)).into());
        }
        if let Some(refused) = self.admit(newest, route, for_whom) {
            return refused.map(Served::from);
        }
        // After the limits, so that guessing is limited too.
        if let Some(users) = &route.security.basic_auth {
            match auth::credentials(users, &request.head.fields) {
                Credentials::Right => request.head.fields.remove(&AUTHORIZATION),
                Credentials::Missing => return Ok(auth::challenge(users, &self.flight.id).into()),
                Credentials::Wrong => {
                    self.event(EventKind::Blocked, "basic_auth", for_whom);
                    return Ok(auth::challenge(users, &self.flight.id).into());
                }
            }
        }
        Ok(match &route.action {
            Action::Forward(rules) => match self.prepare(newest, route, rules, request, for_whom) {
                Ok(ready) => Served::Ready(ready),
                Err(answer) => Served::Answered(answer),
            },
            Action::Redirect(redirect) => {
                answers::redirect(redirect, &Target::seen(&request.head), client.port, &self.flight.id).into()
            }
            Action::Respond(respond) => answers::respond(respond, &self.flight.id).into(),
            Action::Block => {
                self.event(EventKind::Blocked, "block_route", for_whom);
                self.text(StatusCode::FORBIDDEN).into()
            }
        })
    }

    fn route<'n>(
        &self,
        newest: &'n HttpGeneration,
        head: &Head,
        target: &Target<'_>,
        for_whom: IpAddr,
    ) -> Option<&'n Arc<RoutedRoute>> {
        let facts = RequestFacts {
            tls: self.client.tls,
            host: target.host(),
            path: target.path(),
            headers: &Lookup(&head.fields),
            client: Some(for_whom),
        };
        newest.generation.table.port(self.client.port)?.by_request(&facts)
    }

    fn event(&self, kind: EventKind, reason: &'static str, for_whom: IpAddr) {
        self.flight.ends(reason);
        self.client.worker.event(kind, reason, self.flight.route, for_whom);
    }

    fn text(&self, status: StatusCode) -> Answer {
        answers::text(status, &self.flight.id)
    }

    /// An answer after which the connection is not to be used: what comes next on it cannot be trusted.
    fn final_answer(&self, mut answer: Answer) -> Answer {
        if self.h1 {
            answers::close(&mut answer);
            self.client.end_gently();
        }
        answer
    }

    /// An answer to a request that no route took. A connection that has no route at all would go on being pending.
    fn unbound_answer(&self, answer: Answer) -> Answer {
        if self.client.is_bound() { answer } else { self.final_answer(answer) }
    }

    /// The answer to a connection that its first route refused: its slots are free at once, the answer lingers.
    fn released_answer(&self, answer: Answer) -> Result<Answer, Dropped> {
        self.client.release();
        if self.client.linger() { Ok(self.final_answer(answer)) } else { Err(Dropped) }
    }
}

/// Why a request may not use a route, if it may not. What the process says of the connection was asked at accept.
fn refusal(newest: &HttpGeneration, route: &RoutedRoute, from: IpAddr, for_whom: IpAddr) -> Option<&'static str> {
    let process = || newest.generation.settings.access.refusal(for_whom);
    let process = if from == for_whom { None } else { process() };
    process.or_else(|| route.security.access.refusal(for_whom))
}
