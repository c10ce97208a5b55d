//! An HTTP/1.1 connection: with hyper while something is under way, parked while nothing is.
//!
//! What hyper keeps of an idle connection is ten times what the connection needs. So a connection that has been idle for
//! a moment is taken back from it: socket, TLS state, permit and one timer stay. The next byte builds it anew.

use super::downstream::Downstream;
use super::seldom::Seldom;
use super::{Call, Serving, Term, lifetime_end};
use crate::clock::{NEVER, later};
use crate::io::{ClientIo, Standstill, Unread};
use crate::request;
use crate::tunnel;
use conn_tracker::EventKind;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use proxy_tcp::{Draining, Timer};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

/// How often a connection is looked at for being idle. It is parked when it is idle for the second time in a row.
const TICK: Duration = Duration::from_millis(200);

/// How long a client has to take note of the end of its connection, and how much it may still send, in bytes.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 4 * 1024 * 1024;
/// How much of that is read at once.
const LINGER_READ: usize = 16 * 1024;

/// Where a stage of the connection leads to.
enum Next {
    /// It is idle since then.
    Park(ClientIo, Instant),
    /// More bytes wait, or have come.
    Resume(ClientIo),
    /// It becomes a tunnel.
    Tunnel(ClientIo),
    /// It owes nothing, and has to end.
    Close(ClientIo),
    /// It is over.
    Over,
}

/// A stage of the connection. Boxed, so that what an idle connection keeps is no larger than the stage that it is in.
type Stage = Pin<Box<dyn Future<Output = Next> + Send>>;

/// Serves the requests of a connection until it, or the tunnel it becomes, is over.
pub(super) fn serve(io: ClientIo, client: Arc<Downstream>) -> Serving {
    let mut stage: Stage = Box::pin(active(io, Arc::clone(&client)));
    let forget = ForgetTunnel(client);
    Box::pin(async move {
        loop {
            let next = stage.as_mut().await;
            let client = Arc::clone(&forget.0);
            stage = match next {
                Next::Resume(io) => Box::pin(active(io, client)),
                Next::Park(io, since) => Box::pin(Parked::new(io, since, client)),
                Next::Tunnel(io) => Box::pin(tunneling(io, client)),
                Next::Close(io) => Box::pin(close(io, client)),
                Next::Over => return,
            };
        }
    })
}

/// Drops a tunnel that the connection did not live to become: it holds the connection's slots.
struct ForgetTunnel(Arc<Downstream>);

impl Drop for ForgetTunnel {
    fn drop(&mut self) {
        let tunnel = self.0.tunnel.lock().take();
        drop(tunnel);
    }
}

/// Has hyper serve the connection until it is idle or over.
async fn active(mut io: ClientIo, client: Arc<Downstream>) -> Next {
    io.follow_requests();
    let client = &client;
    let mut term = Term::new(client);
    let newest = client.worker.current();
    let settings = &newest.generation.settings;
    let timeouts = settings.timeouts;
    let tick = [settings.keep_alive.http_idle, timeouts.request_header, timeouts.initial_data, timeouts.response_body];
    let tick = tick.into_iter().flatten().map(|limit| limit / 4).fold(TICK, Duration::min);
    let mut builder = http1::Builder::new();
    // The time of a head is looked after below: a timer of hyper's would be set and dropped with each request.
    builder
        .header_read_timeout(None)
        .max_header_size(settings.max_request_header_bytes)
        .max_buf_size(settings.max_request_header_bytes.max(MOST_BUFFERED));
    drop(newest);
    let service = {
        let client = Arc::clone(client);
        service_fn(move |request| request::answer(Arc::clone(&client), request))
    };
    let mut connection = Box::new(builder.serve_connection(TokioIo::new(io), service));
    let mut timer = Seldom::new(client.worker.timers.after(Some(tick)));
    // Until its first request the connection is pending, however slowly it goes on.
    let first = timeouts.initial_data.map(|limit| Instant::from_std(client.accepted) + limit);
    let mut idle: Option<(Instant, usize)> = None;
    let (mut standstill, longest) = (Standstill::new(), client.longest_standstill());
    let mut unread = Unread::new(timeouts.response_body);
    // When it was last seen that nothing of a head had come.
    let mut none_of_head = Instant::now();
    let mut finishing = false;
    let mut called = Seldom::new(Box::pin(term.called(false)));
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut *connection => break ended,
            () = &mut timer => {
                let requests = client.activity.requests();
                let now = Instant::now();
                timer.get_mut().set_at(Some(now + tick));
                // Before the other one: where both have passed it says more.
                if !client.activity.is_partial() {
                    none_of_head = now;
                } else if timeouts.request_header.is_some_and(|limit| now - none_of_head >= limit) {
                    client.terminated("request_header_timeout");
                    // A client that has sent nothing of a request would take an answer for that to its next one.
                    let mut io = connection.into_parts().io.into_inner();
                    time_out(&mut io, client).await;
                    linger(io, client).await;
                    return Next::Over;
                }
                if requests == 0 && first.is_some_and(|first| first <= now) {
                    client.terminated("initial_data_timeout");
                    let mut io = connection.into_parts().io.into_inner();
                    if client.activity.is_partial() {
                        time_out(&mut io, client).await;
                        linger(io, client).await;
                    }
                    return Next::Over;
                }
                if unread.is_too_long(&client.activity) {
                    client.terminated("response_body_timeout");
                    return Next::Over;
                }
                if standstill.is_too_long(&client.activity, longest) {
                    // A client that left unread bytes behind is not missed by hyper, however long its backend is silent.
                    client.terminated("idle_timeout");
                    return Next::Over;
                }
                if finishing || !client.activity.can_park() {
                    idle = None;
                    continue;
                }
                match idle {
                    Some((since, before)) if before == requests => {
                        let parts = connection.into_parts();
                        let mut io = parts.io.into_inner();
                        let pipelined = !parts.read_buf.is_empty();
                        io.put_back(parts.read_buf);
                        return if pipelined { Next::Resume(io) } else { Next::Park(io, since) };
                    }
                    _ => idle = Some((now, requests)),
                }
            }
            call = &mut called => {
                drop(called);
                if let Call::Stop(reason) = call {
                    term.stopped(client, reason);
                    return Next::Over;
                }
                if term.is_lifetime() {
                    client.terminated("lifetime");
                }
                finishing = true;
                Pin::new(&mut *connection).graceful_shutdown();
                called = Seldom::new(Box::pin(term.called(true)));
            }
        }
    };
    let is_tunnel = client.tunnel.lock().is_some();
    let parts = connection.into_parts();
    let mut io = parts.io.into_inner();
    if ended.is_ok() && is_tunnel {
        io.put_back(parts.read_buf);
        io.follow_nothing();
        return Next::Tunnel(io);
    }
    if let Err(error) = ended {
        failed(&error, client);
    }
    if client.ends_abruptly() {
        _ = io.reset();
    } else if client.ends_gently() || io.is_in_body() {
        linger(io, client).await;
    }
    Next::Over
}

/// The smallest bound on what hyper buffers; more than the largest head in any case.
const MOST_BUFFERED: usize = 64 * 1024;

/// Says why hyper gave a connection up.
fn failed(error: &hyper::Error, client: &Downstream) {
    if error.is_parse() {
        let reason = if error.is_parse_too_large() { "header_too_large" } else { "request_malformed" };
        client.worker.event(EventKind::BadRequest, reason, None, client.client());
        client.end_gently();
    }
}

/// Tells a client that its request took too long.
async fn time_out(io: &mut ClientIo, client: &Downstream) {
    let telling = async {
        io.write_all(TIMED_OUT).await?;
        io.shutdown().await
    };
    _ = client.worker.timers.within(Some(LINGER), telling).await;
}

const TIMED_OUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Takes in what a client still sends, for a while: a close with unread bytes would be a reset, which may overtake the
/// answer.
async fn linger(mut io: ClientIo, client: &Downstream) {
    let reading = async {
        let mut space = vec![0; LINGER_READ];
        let mut left = LINGER_BYTES;
        while let Ok(count @ 1..) = io.read(&mut space).await {
            left = left.saturating_sub(count);
            if left == 0 {
                break;
            }
        }
    };
    _ = client.worker.timers.within(Some(LINGER), reading).await;
}

pin_project! {
    /// An idle connection, until it has something to say or has to end. Most connections are here most of the time, so it
    /// is written out to hold no more than it needs.
    struct Parked {
        // Taken when it is over.
        io: Option<ClientIo>,
        client: Arc<Downstream>,
        timer: Timer,
        // What has passed when the timer goes off.
        reason: &'static str,
        #[pin]
        draining: Draining,
    }
}

impl Parked {
    fn new(mut io: ClientIo, since: Instant, client: Arc<Downstream>) -> Self {
        #[cfg(test)]
        client.worker.parked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        io.rest();
        let (end, reason) = end_of_idleness(since, &client);
        let timer = client.worker.timers.at(Some(end));
        let draining = client.worker.drain.draining();
        Self { io: Some(io), client, timer, reason, draining }
    }
}

impl Future for Parked {
    type Output = Next;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Next> {
        let this = self.project();
        let io = this.io.as_ref().expect("it is polled until it is over");
        let next = if io.has_received() || io.poll_readable(context).is_ready() {
            Next::Resume
        } else if Pin::new(this.timer).poll(context).is_ready() {
            this.client.terminated(this.reason);
            Next::Close
        } else {
            ready!(this.draining.poll(context));
            Next::Close
        };
        Poll::Ready(next(this.io.take().expect("it was there")))
    }
}

/// When an idle connection ends, and why: one timer is enough for it.
fn end_of_idleness(since: Instant, client: &Downstream) -> (Instant, &'static str) {
    let newest = client.worker.current();
    let settings = &newest.generation.settings;
    let (begin, limit, reason) = match client.activity.requests() {
        0 => (Instant::from_std(client.accepted), settings.timeouts.initial_data, "initial_data_timeout"),
        _ => (since, settings.keep_alive.http_idle, "idle_timeout"),
    };
    let idle = (later(begin, limit.unwrap_or(NEVER)), reason);
    let lifetime = lifetime_end(client, &settings.timeouts).map(|end| (end, "lifetime"));
    lifetime.filter(|lifetime| lifetime.0 < idle.0).unwrap_or(idle)
}

/// Ends a connection that owes nothing.
async fn close(mut io: ClientIo, client: Arc<Downstream>) -> Next {
    _ = client.worker.timers.within(Some(LINGER), io.shutdown()).await;
    Next::Over
}

/// Copies bytes until the tunnel that the connection has become is over.
async fn tunneling(io: ClientIo, client: Arc<Downstream>) -> Next {
    let mut term = Term::new(&client);
    let Some(tunnel) = client.tunnel.lock().take() else { return Next::Over };
    let entry = tunnel.entry();
    let mut run = pin!(tunnel::run(*tunnel, io, ClientIo::has_failed, Arc::clone(&client)));
    let mut finishing = false;
    loop {
        tokio::select! {
            () = run.as_mut() => return Next::Over,
            call = term.called(finishing) => {
                // A tunnel has no place to stop at: a drain lets it go on for a while, its lifetime ends it.
                let reason = match call {
                    Call::Stop(reason) => reason,
                    Call::Finish if term.is_lifetime() => "lifetime",
                    Call::Finish => {
                        finishing = true;
                        continue;
                    }
                };
                client.terminated(reason);
                if let Some(entry) = entry {
                    entry.ends(reason);
                }
                return Next::Over;
            }
        }
    }
}
