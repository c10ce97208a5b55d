//! An HTTP/2 connection.

use super::downstream::Downstream;
use super::multiplexed::Multiplexed;
use super::seldom::Seldom;
use super::{Call, Term};
use crate::io::{Batched, Begun, ClientIo, Standstill, Unread};
use conn_tracker::EventKind;
use proxy_route::Settings;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What a client may send ahead on one stream, in bytes; and on all of them.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What a stream may have waiting to be sent, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams reset by the client before they were looked at, and by us for errors, beyond which the connection ends.
const PENDING_RESETS: usize = 64;
const LOCAL_RESETS: usize = 256;

/// How often an idle connection is looked at.
const TICK: Duration = Duration::from_millis(500);

/// Serves the streams of a connection until it is over.
pub(super) async fn serve(mut io: ClientIo, client: Arc<Downstream>) {
    let _over = Over(Arc::clone(&client));
    io.follow_frames();
    let mut connection = {
        let newest = client.worker.current();
        let settings = &newest.generation.settings;
        let limit = settings.timeouts.response_body;
        Box::new(Multiplexed::new(Batched::new(io), &builder(settings), Arc::clone(&client), limit))
    };
    let mut term = Term::new(&client);
    let mut idle = Idle::new(&client);
    let mut finishing = None;
    let mut tick = Seldom::new(client.worker.timers.after(Some(idle.tick())));
    let mut called = Seldom::new(Box::pin(term.called(false)));
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut *connection => break ended,
            call = &mut called => {
                drop(called);
                if let Call::Stop(reason) = call {
                    return term.stopped(&client, reason);
                }
                if term.is_lifetime() {
                    client.terminated("lifetime");
                }
                finishing = Some(Instant::now());
                connection.finish();
                called = Seldom::new(Box::pin(term.called(true)));
            }
            () = &mut tick => {
                let too_long = idle.too_long(&client);
                if let Some(since) = finishing {
                    // Whoever has gone without a word does not answer the ping behind a GOAWAY either.
                    if since.elapsed() >= GOODBYE && idle.rests_for(GOODBYE) && !client.activity.writes().1 {
                        return;
                    }
                } else if let Some(reason) = too_long {
                    client.terminated(reason);
                    // A GOAWAY, and a moment for it to be sent.
                    connection.finish();
                    _ = client.worker.timers.within(Some(GOODBYE), connection).await;
                    return;
                }
                connection.rest();
                tick.get_mut().set(Some(idle.tick()));
            }
        }
    };
    if client.activity.is_flooding() {
        client.terminated("http2_flood");
    } else if let Err(error) = ended {
        report(&client, &error);
    } else {
        idle.refused.told(&client, client.activity.unserved());
    }
}

/// How a connection is served.
fn builder(settings: &Settings) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(settings.max_concurrent_streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(LOCAL_RESETS))
        // What is beyond twice the limit goes no further than here; up to that it is refused, and counted, as elsewhere.
        .max_header_list_size(u32::try_from(2 * settings.max_request_header_bytes).unwrap_or(u32::MAX))
        .enable_connect_protocol();
    builder
}

/// Tells the tunnels that were streams of a connection of its end.
struct Over(Arc<Downstream>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.activity.end();
    }
}

/// How long an idle connection has to take note of its end.
const GOODBYE: Duration = Duration::from_secs(1);

/// Tells of a client that does not speak the protocol; one that goes away is no event.
fn report(client: &Downstream, error: &h2::Error) {
    if !error.is_io() && !error.is_remote() {
        client.worker.event(EventKind::BadRequest, "request_malformed", None, client.client());
    }
}

/// How long a connection has been without a request.
#[derive(Debug)]
struct Idle {
    since: Option<Instant>,
    requests: usize,
    allowed: Option<Duration>,
    first: Option<Duration>,
    head: Begun,
    unread: Unread,
    standstill: Standstill,
    longest: Option<Duration>,
    refused: Refused,
}

/// Requests that the HTTP/2 library refused by itself, which nobody else tells of: beyond the streams that there may be, with
/// a head far too large, or none.
#[derive(Debug, Default)]
struct Refused {
    before: usize,
    told: usize,
}

impl Refused {
    /// Tells of those that have been unserved since the last look: one that has just come may be served yet.
    fn look(&mut self, client: &Downstream) {
        let unserved = client.activity.unserved();
        let sure = unserved.min(std::mem::replace(&mut self.before, unserved));
        self.told(client, sure);
    }

    fn told(&mut self, client: &Downstream, refused: usize) {
        for _ in self.told..refused {
            client.worker.event(EventKind::BadRequest, "stream_refused", None, client.client());
        }
        self.told = self.told.max(refused);
    }
}

impl Idle {
    fn new(client: &Downstream) -> Self {
        let newest = client.worker.current();
        let settings = &newest.generation.settings;
        Self {
            since: Some(Instant::from_std(client.accepted)),
            requests: 0,
            allowed: settings.keep_alive.http_idle,
            first: settings.timeouts.initial_data,
            head: Begun::new(settings.timeouts.request_header, &client.activity, Instant::now()),
            unread: Unread::new(settings.timeouts.response_body),
            standstill: Standstill::new(),
            longest: client.longest_standstill(),
            refused: Refused::default(),
        }
    }

    fn tick(&self) -> Duration {
        [self.allowed, self.first, self.head.limit(), self.unread.limit()]
            .into_iter()
            .flatten()
            .map(|limit| limit / 4)
            .fold(TICK, Duration::min)
    }

    /// Looks at the connection: why it has to end, if it has.
    fn too_long(&mut self, client: &Downstream) -> Option<&'static str> {
        self.refused.look(client);
        // Requests that no route takes do not make it one that may stay.
        if !client.is_bound() && self.first.is_some_and(|first| client.accepted.elapsed() >= first) {
            return Some("initial_data_timeout");
        }
        if self.head.is_too_long(&client.activity, Instant::now()) {
            return Some("request_header_timeout");
        }
        if self.unread.is_too_long(&client.activity) {
            return Some("response_body_timeout");
        }
        if self.standstill.is_too_long(&client.activity, self.longest) {
            return Some("idle_timeout");
        }
        let requests = client.activity.requests();
        if requests != self.requests || client.activity.is_busy() {
            self.requests = requests;
            self.since = None;
            return None;
        }
        self.since.get_or_insert_with(Instant::now);
        self.allowed.is_some_and(|allowed| self.rests_for(allowed)).then_some("idle_timeout")
    }

    /// Whether the connection was seen to have been without a request for so long.
    fn rests_for(&self, time: Duration) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= time)
    }
}
