//! Requests and responses of a connection, one after the other, as one future.

use super::head::{Head, Refused};
use super::intake::{Came, Intake, NoHead};
use super::response::{self, Asker, CONTINUE};
use super::sending::Sending;
use crate::body::{BodyError, ResponseBody};
use crate::connection::Downstream;
use crate::fields::Fields;
use crate::http1::Sent;
use crate::io::ClientIo;
use crate::message::{Request, Response};
use crate::request::{self, Answering, Dropped};
use crate::turn::{Lead, To};
use bytes::{Bytes, BytesMut};
use conn_tracker::EventKind;
use http::{Method, StatusCode, Version};
use http_body::{Body, Frame};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The requests of a connection, until there are to be no more. Dropped, it gives up the one under way.
#[derive(Debug)]
pub(super) struct Conversation {
    io: ClientIo,
    client: Arc<Downstream>,
    intake: Intake,
    answer: Answer,
    asker: Asker,
    sending: Sending,
    /// Whether the answer under way has its end where the connection has its own.
    until_close: bool,
    /// Whether what is under way is the last.
    finishing: bool,
    /// Whether others wait to be woken by this one when it has its turn.
    lead: Option<Lead>,
    /// The place for fields of a response that was sent, for those of the next request.
    spare: Fields,
}

/// How far the answer to the request under way is.
#[derive(Debug)]
enum Answer {
    /// There is no request.
    None,
    Awaited(Answering),
    /// Its body is being sent.
    Streaming(ResponseBody, Sent),
    /// All of it was taken.
    Taken,
    /// All of it was taken, and the connection becomes a tunnel with it.
    Switched,
}

/// Why there are no more requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The last answer was sent.
    Answered,
    /// The connection has become a tunnel.
    Tunnel,
    /// The client has ended the connection, or does not take what is sent.
    Gone,
    /// A response broke off, which the client must see.
    Broken,
    /// There is to be no answer.
    Dropped,
}

/// How often a connection goes on before others have their turn.
const TURN: usize = 16;

impl Conversation {
    /// Requests of up to `most` bytes of head each.
    pub(super) fn new(mut io: ClientIo, client: Arc<Downstream>, most: usize) -> Self {
        let intake = Intake::new(io.take_received(), most);
        let asker = Asker { version: Version::HTTP_11, is_head: false, keeps: true, trailers: false };
        let (answer, sending) = (Answer::None, Sending::default());
        let (until_close, finishing) = (false, false);
        let (spare, lead) = (Fields::default(), None);
        Self { io, client, intake, answer, asker, sending, until_close, finishing, lead, spare }
    }

    /// Has the request under way, or the next, be the last.
    pub(super) const fn finish(&mut self) {
        self.finishing = true;
    }

    /// Whether nothing is under way.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.answer, Answer::None) && self.intake.is_between() && self.sending.is_done()
    }

    /// Whether a client has not sent the body of its request whole, as far as was read.
    pub(super) const fn is_in_body(&self) -> bool {
        self.intake.is_in_body()
    }

    /// Whether the end of the connection has to be said, so that what was written leaves.
    pub(super) const fn is_held(&self) -> bool {
        self.sending.is_held()
    }

    /// Has the client be watched, so that its leaving ends what it has asked for.
    pub(super) fn watch(&mut self) {
        self.intake.watch();
        self.io.watch();
    }

    /// Gives back what memory can be had again: an answer may take its time, or come by and by.
    pub(super) fn rest(&mut self) {
        self.io.rest();
    }

    /// Whether the end of the connection, now, would be taken for that of an answer that is not whole.
    pub(super) const fn would_look_whole(&self) -> bool {
        self.until_close
    }

    /// Whether the client has gone, though nobody has read so far. One that has sent the body of its request may have ended
    /// its side behind that.
    pub(super) fn is_left(&self) -> bool {
        self.io.has_failed() || self.intake.is_whole() && self.io.has_ended()
    }

    /// The client's end of the connection, and what was read and not taken.
    pub(super) fn into_parts(self) -> (ClientIo, BytesMut) {
        (self.io, self.intake.into_unread())
    }

    /// Goes on as far as it can; whether there may be more to do already.
    fn go_on(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        if self.look_for_answer(context)? {
            return Ok(self.after_others(To::Client, context));
        }
        let sent = self.send(context)?;
        self.turn_over()?;
        Ok(self.receive(context)? || sent)
    }

    /// Begins to send the answer, if it is there; whether it is.
    fn look_for_answer(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        if let Answer::Awaited(answering) = &mut self.answer
            && let Poll::Ready(answer) = Pin::new(answering).poll(context)
        {
            let answer = answer.map_err(|Dropped| End::Dropped)?;
            self.begin_answer(answer);
            return Ok(true);
        }
        Ok(false)
    }

    fn begin_answer(&mut self, answer: Response<ResponseBody>) {
        let Response { status, fields, body } = answer;
        self.intake.settle();
        let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        let sent = self.write_head(status, &fields, length);
        self.spare = fields;
        self.spare.clear();
        self.answer = match sent {
            Sent::None if status == StatusCode::SWITCHING_PROTOCOLS => Answer::Switched,
            Sent::None => Answer::Taken,
            sent => Answer::Streaming(body, sent),
        };
    }

    fn write_head(&mut self, status: StatusCode, fields: &Fields, length: Option<u64>) -> Sent {
        let worker = &self.client.worker;
        let date = |out: &mut Vec<u8>| worker.date.write(worker.timers.tick(), out);
        self.asker.keeps &= !self.finishing && !self.intake.is_over();
        let (sent, keeps) = response::encode(status, fields, &self.asker, length, date, &mut self.sending.out);
        self.asker.keeps = keeps;
        self.until_close = matches!(sent, Sent::UntilClose);
        sent
    }

    /// Sends what there is of the answer; whether all of a piece was sent, so that there may be another one.
    fn send(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut starved = false;
        while let Answer::Streaming(body, _) = &mut self.answer
            && self.sending.has_room()
        {
            match Pin::new(body).poll_frame(context) {
                Poll::Ready(frame) => self.take(frame)?,
                Poll::Pending => {
                    starved = true;
                    break;
                }
            }
        }
        if self.sending.is_done() {
            return Ok(false);
        }
        // A reset would have what is held back never leave.
        let last = matches!(self.answer, Answer::Taken) && self.is_last() && !self.client.ends_abruptly();
        match self.sending.poll(&mut self.io, last, context) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(())) if starved => {
                self.sending.rest();
                Ok(false)
            }
            Poll::Ready(Ok(())) => Ok(matches!(self.answer, Answer::Streaming(..))),
            Poll::Ready(Err(_)) => Err(End::Gone),
        }
    }

    /// Takes a piece of the answer's body, or its end.
    fn take(&mut self, frame: Option<Result<Frame<Bytes>, BodyError>>) -> Result<(), End> {
        let Answer::Streaming(body, sent) = &mut self.answer else { return Ok(()) };
        let (fits, trailers) = match frame.map(|frame| frame.map(Frame::into_data)) {
            None => (true, None),
            Some(Ok(Ok(data))) => {
                let fits = self.sending.push(data, sent);
                if fits && !body.is_end_stream() {
                    return Ok(());
                }
                (fits, None)
            }
            Some(Ok(Err(frame))) => (true, frame.into_trailers().ok()),
            Some(Err(_)) => (false, None),
        };
        if !fits || !self.sending.end(trailers.as_ref(), sent) {
            return Err(End::Broken);
        }
        self.answer = Answer::Taken;
        Ok(())
    }

    /// Ends a request whose answer was sent.
    fn turn_over(&mut self) -> Result<(), End> {
        if !matches!(self.answer, Answer::Taken | Answer::Switched) || !self.sending.is_done() {
            return Ok(());
        }
        self.intake.settle();
        if matches!(self.answer, Answer::Switched) {
            // What is left of a body cannot be told from what is said in the tunnel.
            return Err(if self.intake.is_whole() { End::Tunnel } else { End::Broken });
        }
        if self.is_last() {
            return Err(End::Answered);
        }
        if self.intake.is_whole() {
            self.answer = Answer::None;
            self.intake.next();
        }
        Ok(())
    }

    /// Whether no request follows the one under way.
    const fn is_last(&self) -> bool {
        self.intake.is_over() || self.intake.is_whole() && (self.finishing || !self.asker.keeps)
    }

    /// Takes what comes; whether there may be more to do.
    fn receive(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        if self.intake.is_whole() && !matches!(self.answer, Answer::Awaited(_) | Answer::Streaming(..)) {
            // Whether the client takes what is left is told by sending it.
            return Ok(false);
        }
        if self.intake.is_at_head() {
            let head = self.intake.poll_head(&mut self.io, &mut self.spare, context);
            self.client.activity.set_in_head(head.is_pending() && !self.intake.is_between());
            let Poll::Ready(head) = head else { return Ok(false) };
            match head {
                Ok(head) => {
                    self.begin(head, context);
                    return Ok(self.after_others(To::Backend, context));
                }
                Err(NoHead::Refused(refused)) => self.refuse(refused),
                Err(NoHead::End) => return Err(End::Gone),
            }
            return Ok(true);
        }
        let Poll::Ready(came) = self.intake.poll_rest(&mut self.io, context) else { return Ok(false) };
        match came {
            Came::End => return Err(End::Gone),
            // Once there is an answer, asking for the body would be taken for a part of it.
            Came::Expectation if matches!(self.answer, Answer::Awaited(_)) => {
                self.sending.out.extend_from_slice(CONTINUE);
            }
            Came::Expectation | Came::Piece => {}
        }
        Ok(true)
    }

    /// Goes on when it is its turn to write; whether there is more to do before.
    fn after_others(&mut self, to: To, context: &Context<'_>) -> bool {
        self.lead = self.client.worker.turn.wait(to, context);
        false
    }

    fn begin(&mut self, head: Head, context: &Context<'_>) {
        let Head { request: head, rest, keeps, expects, trailers } = head;
        self.asker = Asker { version: head.version, is_head: head.method == Method::HEAD, keeps, trailers };
        let request = Request { head, body: self.intake.begin(rest, expects, context), tunnel: None };
        self.answer = Answer::Awaited(request::answer(Arc::clone(&self.client), request));
    }

    /// Answers what is no request, or none that is served. What comes behind it cannot be told from it.
    fn refuse(&mut self, refused: Refused) {
        self.client.worker.event(EventKind::BadRequest, refused.reason(), None, self.client.client());
        self.client.end_gently();
        self.intake.stop();
        self.asker = Asker { version: Version::HTTP_11, is_head: false, keeps: false, trailers: false };
        self.write_head(refused.status(), &Fields::default(), Some(0));
        self.answer = Answer::Taken;
    }
}

impl Future for Conversation {
    type Output = End;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End> {
        let this = self.get_mut();
        if this.lead.take().is_some_and(|lead| lead.poll_turn(context).is_pending()) {
            return Poll::Pending;
        }
        for _ in 0..TURN {
            match this.go_on(context) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(end) => return Poll::Ready(end),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
