//! A connection that is being served: its conversation, and what may not take too long of it.
//!
//! One timer looks at all of that, a few times a second: none is set or moved with a request.

use super::conversation::{Conversation, End};
use super::{Farewell, Next};
use crate::clock::later;
use crate::connection::{Downstream, FIRST_REQUEST, IDLE, LIFETIME_GRACE, lifetime_end};
use crate::io::{Begun, ClientIo, Standstill, Unread};
use proxy_tcp::Timer;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Instant;

/// How often a connection is looked at. It is parked when it is idle for the second time in a row.
const TICK: Duration = Duration::from_millis(200);

/// A connection that is being served.
pub(super) struct Active {
    /// `None` once it is over.
    conversation: Option<Conversation>,
    client: Arc<Downstream>,
    timer: Timer,
    /// Whom the timer wakes, so that it is not asked with every turn.
    woken: Option<Waker>,
    tick: Duration,
    watch: Watch,
}

/// What was seen of a connection, and how long it may last.
struct Watch {
    /// When the connection has been pending for too long: until its first request, however slowly it goes on.
    first: Option<Instant>,
    head: Begun,
    unread: Unread,
    standstill: Standstill,
    longest: Option<Duration>,
    /// Since when it was seen to be idle, and how many requests there had been.
    idle: Option<(Instant, usize)>,
    lifetime: Option<Instant>,
    /// When the drain was seen to begin, and how long the connection may go on then.
    draining: Option<Instant>,
    grace: Option<Duration>,
    finishing: bool,
}

/// What has to become of a connection.
enum Verdict {
    /// It is idle since then.
    Idle(Instant),
    /// Its client is told that its request took too long.
    TimedOut,
    Stop,
}

impl Active {
    pub(super) fn new(io: ClientIo, client: Arc<Downstream>) -> Self {
        let newest = client.worker.current();
        let settings = &newest.generation.settings;
        let timeouts = settings.timeouts;
        let limits = [
            settings.keep_alive.http_idle,
            timeouts.request_header,
            timeouts.initial_data,
            timeouts.response,
            timeouts.response_body,
        ];
        let tick = limits.into_iter().flatten().map(|limit| limit / 4).fold(TICK, Duration::min);
        let conversation = Conversation::new(io, Arc::clone(&client), settings.max_request_header_bytes);
        let now = Instant::now();
        let watch = Watch {
            first: timeouts.initial_data.map(|limit| later(Instant::from_std(client.accepted), limit)),
            head: Begun::new(timeouts.request_header, &client.activity, now),
            unread: Unread::new(timeouts.response_body),
            standstill: Standstill::new(),
            longest: client.longest_standstill(),
            idle: None,
            lifetime: lifetime_end(&client, &timeouts),
            draining: None,
            grace: timeouts.graceful_shutdown,
            finishing: false,
        };
        let timer = client.worker.timers.at(Some(now + tick));
        Self { conversation: Some(conversation), client, timer, woken: None, tick, watch }
    }

    /// Waits for the next time to look.
    fn poll_tick(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.timer.is_over() && self.woken.as_ref().is_some_and(|woken| woken.will_wake(context.waker())) {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.timer).poll(context);
        self.woken = polled.is_pending().then(|| context.waker().clone());
        polled
    }

    /// What follows when there are no more requests.
    fn ended(&mut self, end: End) -> Next {
        let Some(conversation) = self.conversation.take() else { return Next::Over };
        let in_body = conversation.is_in_body();
        let breaks_off = conversation.would_look_whole() && end != End::Answered;
        let held = conversation.is_held();
        let (mut io, unread) = conversation.into_parts();
        if end == End::Tunnel {
            io.put_back(unread);
            return Next::Tunnel(io);
        }
        if breaks_off || self.client.ends_abruptly() {
            _ = io.reset();
            return Next::Over;
        }
        // Where more has come than was taken, or will have soon, a close would be a reset, and answers may be lost.
        let more = end != End::Gone && (!unread.is_empty() || io.tells_of_more());
        let lingers = in_body || more || self.client.ends_gently();
        // Elsewhere the close says it as well, or must not say that all is well.
        let shutdown = lingers || end != End::Broken && io.says_goodbye();
        if shutdown {
            return Next::End(io, Farewell { answer: false, shutdown, linger: lingers });
        }
        if held {
            // Ahead of the close, which would throw it away if more had come since.
            _ = io.finish();
        }
        Next::Over
    }

    fn judged(&mut self, verdict: &Verdict) -> Next {
        let Some(conversation) = self.conversation.take() else { return Next::Over };
        let breaks_off = conversation.would_look_whole();
        let (io, _) = conversation.into_parts();
        match verdict {
            Verdict::Idle(since) => Next::Park(io, *since),
            Verdict::TimedOut => Next::End(io, Farewell { answer: true, shutdown: true, linger: true }),
            Verdict::Stop => {
                if breaks_off {
                    _ = io.reset();
                }
                Next::Over
            }
        }
    }
}

impl Future for Active {
    type Output = Next;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Next> {
        let this = self.get_mut();
        loop {
            let Some(conversation) = &mut this.conversation else { return Poll::Ready(Next::Over) };
            // Told at once, so that the answers that follow say that they are the last.
            let finishes = this.client.worker.drain.is_draining() && this.watch.finishes(&this.client);
            if finishes {
                conversation.finish();
            }
            if let Poll::Ready(end) = Pin::new(&mut *conversation).poll(context) {
                return Poll::Ready(this.ended(end));
            }
            // Only now: a request that is there already is answered.
            if finishes && conversation.is_quiet() {
                return Poll::Ready(this.ended(End::Answered));
            }
            if this.poll_tick(context).is_pending() {
                return Poll::Pending;
            }
            let Some(conversation) = &mut this.conversation else { return Poll::Ready(Next::Over) };
            conversation.watch();
            conversation.rest();
            let now = Instant::now();
            this.timer.set_at(Some(now + this.tick));
            if let Some(verdict) = this.watch.look(&this.client, conversation, now) {
                return Poll::Ready(this.judged(&verdict));
            }
            if this.watch.finishing {
                conversation.finish();
                if conversation.is_quiet() {
                    return Poll::Ready(this.ended(End::Answered));
                }
            }
        }
    }
}

impl Watch {
    /// Takes note of the drain; whether what is under way is the last. A client that was let in just before it has a moment
    /// for its first request, which is on its way.
    fn finishes(&mut self, client: &Downstream) -> bool {
        if !self.finishing {
            let begun = *self.draining.get_or_insert_with(Instant::now);
            self.finishing = client.activity.requests() > 0 || begun.elapsed() >= FIRST_REQUEST;
        }
        self.finishing
    }

    /// Has a connection that is too old finish; whether one that is to finish has had the time for it.
    fn is_overdue(&mut self, client: &Downstream, now: Instant) -> bool {
        let lifetime = self.lifetime.filter(|end| *end <= now);
        if lifetime.is_some() && !self.finishing {
            client.terminated("lifetime");
            self.finishing = true;
        }
        let lifetime = lifetime.map(|end| (end + LIFETIME_GRACE, "lifetime"));
        let drain = self.draining.zip(self.grace).map(|(begun, grace)| (later(begun, grace), "drain"));
        let end = [lifetime, drain].into_iter().flatten().min();
        let overdue = end.filter(|(end, _)| self.finishing && *end <= now);
        if let Some((_, reason)) = overdue
            && self.draining.is_some()
        {
            client.terminated(reason);
        }
        overdue.is_some()
    }

    /// Looks at a connection: what has to become of it.
    fn look(&mut self, client: &Downstream, conversation: &Conversation, now: Instant) -> Option<Verdict> {
        let (activity, requests) = (&client.activity, client.activity.requests());
        if activity.is_deaf() && conversation.is_left() {
            // Behind the bytes of a next request that nobody reads, nothing else tells of it.
            return Some(Verdict::Stop);
        }
        // Before the other one: where both have passed it says more.
        if self.head.is_too_long(activity, now) {
            client.terminated("request_header_timeout");
            return Some(Verdict::TimedOut);
        }
        if requests == 0 && self.first.is_some_and(|first| first <= now) {
            client.terminated("initial_data_timeout");
            // A client that has sent nothing of a request would take an answer for that to its next one.
            return Some(if activity.is_in_head() { Verdict::TimedOut } else { Verdict::Stop });
        }
        if self.unread.is_too_long(activity) {
            client.terminated("response_body_timeout");
            return Some(Verdict::Stop);
        }
        if self.standstill.is_too_long(activity, self.longest) {
            client.terminated(IDLE);
            return Some(Verdict::Stop);
        }
        if self.is_overdue(client, now) {
            return Some(Verdict::Stop);
        }
        if self.finishing || !conversation.is_quiet() || !activity.can_park() {
            self.idle = None;
            return None;
        }
        match self.idle {
            Some((since, before)) if before == requests => Some(Verdict::Idle(since)),
            _ => {
                self.idle = Some((now, requests));
                None
            }
        }
    }
}
