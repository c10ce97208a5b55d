//! Passing a request on to a backend, and its answer back.

use super::id;
use super::websocket::Handshake;
use super::{Answer, Serving, answers, certificate};
use crate::HttpGeneration;
use crate::body::{ClientBody, Pace, RequestBody, Source};
use crate::fields::Fields;
use crate::headers::{self, Forwarding, Stamp, X_REQUEST_ID};
use crate::io::StreamIo;
use crate::message::{Head, Request, Response, StreamTunnel};
use crate::tunnel::{self, Tunnel};
use crate::upstream::{Exchange, Letter, Search, Underway, UpstreamError, UpstreamResponse};
use conn_tracker::{Event, EventKind};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, UPGRADE};
use http::{HeaderValue, Method, StatusCode, Uri, Version};
use proxy_route::{Forward, RoutedRoute};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::sync::oneshot;

/// How the client asked for a tunnel.
enum Asked {
    /// Not at all.
    No,
    /// By `upgrade`, to this protocol: the connection becomes the tunnel.
    Upgrade(HeaderValue),
    /// By `CONNECT` on a stream of HTTP/2.
    Stream(oneshot::Receiver<StreamIo>, Handshake),
}

/// A request that is ready to be sent.
pub(super) struct Ready {
    route: Arc<RoutedRoute>,
    letter: Letter,
    asked: Asked,
    /// `None` without a body.
    pace: Option<Arc<Pace>>,
    for_whom: IpAddr,
}

/// Why a client waits in vain for an answer to a request whose body it does not send.
const TOO_SLOW: &str = "request_body_timeout";

impl Serving<'_> {
    /// Makes a request ready to be sent to a backend of the route; what the client gets if that cannot be.
    pub(super) fn prepare(
        &self,
        newest: &HttpGeneration,
        route: &Arc<RoutedRoute>,
        rules: &Forward,
        mut request: Request,
        for_whom: IpAddr,
    ) -> Result<Box<Ready>, Box<Answer>> {
        let asked = asked(&mut request).map_err(|status| Box::new(self.text(status)))?;
        if !matches!(asked, Asked::No) && !rules.websocket {
            self.event(EventKind::Blocked, "block_route", for_whom);
            return Err(Box::new(self.text(StatusCode::FORBIDDEN)));
        }
        let pace = (!request.body.is_end_stream()).then(|| {
            let (kind, source) = (EventKind::Terminated, Some(for_whom));
            let event = Event { kind, reason: TOO_SLOW, route: Some(route.id), source };
            Arc::new(Pace::new(Arc::clone(&self.client.worker.report), event))
        });
        let letter = self.outgoing(newest, route, request, &asked, pace.as_ref());
        Ok(Box::new(Ready { route: Arc::clone(route), letter, asked, pace, for_whom }))
    }

    /// What a request brings along on its way to a backend of the route.
    pub(super) fn exchange<'e>(
        &'e self,
        newest: &'e HttpGeneration,
        ready: &'e mut Ready,
    ) -> (Exchange<'e>, &'e mut Letter) {
        let Ready { route, letter, asked, for_whom, .. } = ready;
        let client = self.client;
        let exchange = Exchange {
            began: self.flight.began,
            timers: &client.worker.timers,
            generation: &newest.generation,
            tls: &newest.backends,
            route,
            client: *for_whom,
            source: client.source,
            local: client.local,
            listener_port: client.port,
            slots: self.flight.permit.as_ref(),
            upgrade: !matches!(asked, Asked::No),
            looks: self.h1,
        };
        (exchange, letter)
    }

    /// Gives a request to a kept connection to a backend of the route, if that can be done at once.
    pub(super) fn begin(&self, newest: &HttpGeneration, ready: &mut Ready) -> Result<Underway, Search> {
        let (exchange, letter) = self.exchange(newest, ready);
        self.client.worker.pools.begin(&exchange, letter)
    }

    /// Sends a request to a backend of the route, from where the `search` for one is, and prepares its answer.
    pub(super) async fn send(&mut self, newest: &HttpGeneration, ready: &mut Ready, search: Search) -> Answer {
        let (exchange, letter) = self.exchange(newest, ready);
        let answer = self.client.worker.pools.send(&exchange, letter, search).await;
        self.conclude(newest, ready, answer)
    }

    /// Prepares the answer to a request that was sent to a backend, or not answered by any.
    pub(super) fn conclude(
        &mut self,
        newest: &HttpGeneration,
        ready: &mut Ready,
        answer: Result<UpstreamResponse, UpstreamError>,
    ) -> Answer {
        let Ready { route, asked, pace, for_whom, .. } = ready;
        match answer {
            Ok(response) => {
                pace.iter().for_each(|pace| pace.answered());
                self.incoming(newest, route, response, std::mem::replace(asked, Asked::No))
            }
            Err(error) => self.unanswered(route, pace.as_deref(), *for_whom, error),
        }
    }

    #[inline(never)] // Apart from those that are answered, for its place on the stack.
    fn unanswered(&self, route: &RoutedRoute, pace: Option<&Pace>, for_whom: IpAddr, error: UpstreamError) -> Answer {
        if pace.is_some_and(Pace::is_too_slow) {
            self.flight.ends(TOO_SLOW);
            return self.final_answer(self.text(StatusCode::REQUEST_TIMEOUT));
        }
        // Warnings are folded and tell of kinds; this is the line about the one request.
        let (id, route) = (id::text(&self.flight.id), &route.name);
        tracing::debug!(request = id, route, client = %for_whom, "{error}");
        self.flight.ends(error.label());
        if matches!(error, UpstreamError::BadRequest) {
            self.event(EventKind::BadRequest, "request_malformed", for_whom);
        }
        let mut answer = self.text(error.status());
        if error.passes() {
            answers::come_back(&mut answer, None);
        }
        let clients_fault = matches!(error, UpstreamError::BadRequest | UpstreamError::RequestBody);
        if clients_fault { self.final_answer(answer) } else { answer }
    }

    /// The request as the backend gets it.
    fn outgoing(
        &self,
        newest: &HttpGeneration,
        route: &RoutedRoute,
        request: Request,
        asked: &Asked,
        pace: Option<&Arc<Pace>>,
    ) -> Letter {
        let client = self.client;
        let settings = &newest.generation.settings;
        let Request { mut head, body, .. } = request;
        headers::remove_hop_by_hop(&mut head.fields);
        let (from, tls, port, id) = (client.client(), client.tls.is_some(), client.port, self.flight.id.clone());
        let shown = client.certificate.as_deref().filter(|_| route.client_auth.is_some());
        let stamped = route.headers.request.0.is_empty() && Stamp::fits(&head.fields);
        // HTTP/2 names the host in the URI, and there it is found where no rule looks for it.
        if !stamped || head.uri.authority().is_none() || head.fields.has(&HOST) {
            name_host(&mut head, client.local);
            origin_form(&mut head.uri);
        }
        let fields = &mut head.fields;
        let stamp = if stamped {
            certificate::tell(fields, shown);
            Some(Stamp { from, tls, port, id })
        } else {
            let host = fields.value(&HOST);
            let trusted = newest.generation.balancers.contains(from);
            headers::forward(fields, &Forwarding { from, trusted, tls, host: host.as_ref(), port });
            fields.set(X_REQUEST_ID, id);
            certificate::tell(fields, shown);
            headers::edit(fields, &route.headers.request);
            None
        };
        match asked {
            Asked::No => {}
            Asked::Upgrade(protocol) => ask_upgrade(fields, protocol.clone()),
            Asked::Stream(_, handshake) => {
                handshake.ask(fields);
                ask_upgrade(fields, HeaderValue::from_static("websocket"));
                head.method = Method::GET;
            }
        }
        head.version = Version::HTTP_11;
        let body = match pace {
            None => RequestBody::Empty,
            Some(pace) => {
                let patience = settings.timeouts.request_body;
                RequestBody::Streaming(Box::new(ClientBody::new(
                    body,
                    patience,
                    settings.min_request_body_rate,
                    Arc::clone(pace),
                    self.flight.entry().cloned(),
                    client.activity.busy(),
                    &client.worker.timers,
                )))
            }
        };
        Letter::new(head, stamp, body)
    }

    /// The backend's answer as the client gets it.
    fn incoming(
        &mut self,
        newest: &HttpGeneration,
        route: &RoutedRoute,
        mut response: UpstreamResponse,
        asked: Asked,
    ) -> Answer {
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(newest, route, response, asked);
        }
        if matches!(asked, Asked::Stream(..)) && response.status.is_success() {
            // It has an answer, but on a stream of HTTP/2 this would be a tunnel.
            self.event(EventKind::BackendFailed, "response_malformed", self.flight.for_whom);
            return self.text(StatusCode::BAD_GATEWAY);
        }
        headers::remove_hop_by_hop(&mut response.fields);
        if response.status == StatusCode::NO_CONTENT {
            // There is no length of nothing; clients of HTTP/2 take it for an error.
            response.fields.remove(&CONTENT_LENGTH);
        }
        response.fields.set(X_REQUEST_ID, self.flight.id.clone());
        headers::edit(&mut response.fields, &route.headers.response);
        response.map(Source::Upstream)
    }

    /// Makes the tunnel that the backend has agreed to.
    fn switch(
        &mut self,
        newest: &HttpGeneration,
        route: &RoutedRoute,
        mut response: UpstreamResponse,
        asked: Asked,
    ) -> Answer {
        let client = Arc::clone(self.client);
        let agreed = match &asked {
            Asked::No => false,
            Asked::Upgrade(_) => true,
            Asked::Stream(_, handshake) => handshake.is_answered(&response.fields),
        };
        if !agreed {
            self.event(EventKind::BackendFailed, "response_malformed", self.flight.for_whom);
            return self.text(StatusCode::BAD_GATEWAY);
        }
        let protocol = response.fields.value(&UPGRADE);
        headers::remove_hop_by_hop(&mut response.fields);
        response.fields.set(X_REQUEST_ID, self.flight.id.clone());
        headers::edit(&mut response.fields, &route.headers.response);
        let Response { mut status, mut fields, body } = response;
        let Some(backend) = body.into_tunnel() else { return self.text(StatusCode::BAD_GATEWAY) };
        let mut flight = self.flight.hand_over();
        let is_stream = matches!(asked, Asked::Stream(..));
        if is_stream {
            status = StatusCode::OK;
        }
        flight.status = Some(status.as_u16());
        let idle = newest.generation.settings.keep_alive.tunnel_idle_in_force();
        let tunnel = Tunnel::new(backend, idle, route.id, flight);
        match asked {
            Asked::Stream(stream, _) => {
                fields.remove(&Handshake::ANSWER);
                // The stream's own task ends with its answer; the tunnel ends with the stream.
                tokio::spawn(async move {
                    if let Ok(stream) = stream.await {
                        let activity = Arc::clone(&client.activity);
                        tunnel::run(tunnel, stream, |_| activity.is_over(), client).await;
                    }
                });
            }
            Asked::No | Asked::Upgrade(_) => {
                if let Some(protocol) = protocol {
                    ask_upgrade(&mut fields, protocol);
                }
                *client.tunnel.lock() = Some(Box::new(tunnel));
            }
        }
        Response { status, fields, body: Source::Fixed(bytes::Bytes::new()) }
    }
}

/// What kind of tunnel a request asks for.
fn asked(request: &mut Request) -> Result<Asked, StatusCode> {
    if let Some(tunnel) = request.tunnel.take() {
        let StreamTunnel { protocol, granted } = *tunnel;
        if protocol.as_str() != "websocket" {
            return Err(StatusCode::NOT_IMPLEMENTED);
        }
        return Ok(Asked::Stream(granted, Handshake::new()));
    }
    if request.head.version != Version::HTTP_11 {
        return Ok(Asked::No);
    }
    Ok(headers::upgrade(&request.head.fields).map_or(Asked::No, Asked::Upgrade))
}

fn ask_upgrade(fields: &mut Fields, protocol: HeaderValue) {
    fields.set(CONNECTION, HeaderValue::from_static("upgrade"));
    fields.set(UPGRADE, protocol);
}

/// Has the fields say which host is asked for, which is the proxy itself where the client named none.
fn name_host(head: &mut Head, local: SocketAddr) {
    let said = head.fields.get(&HOST).unwrap_or_default();
    let asked = head.uri.authority().map_or(said, |authority| authority.as_str().as_bytes());
    if asked.is_empty() || asked != said {
        let local = asked.is_empty().then(|| local.to_string());
        if let Ok(host) = HeaderValue::from_bytes(local.as_deref().map_or(asked, str::as_bytes)) {
            head.fields.set(HOST, host);
        }
    }
}

/// Leaves the path and query alone.
fn origin_form(uri: &mut Uri) {
    match uri.path_and_query() {
        Some(path) if uri.authority().is_some() || uri.scheme().is_some() => *uri = Uri::from(path.clone()),
        Some(_) => {}
        None => *uri = Uri::from_static("/"),
    }
}
