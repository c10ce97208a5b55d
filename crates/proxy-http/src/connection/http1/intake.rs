//! What comes from the client: heads, bodies, and its end.

use super::head::{self, Head, Refused};
use super::rest::Rest;
use crate::body::{Broken, Incoming, Sender, Wish, channel};
use crate::fields::Fields;
use crate::http1::{Malformed, Step};
use crate::io::{ClientIo, FIRST_READ};
use bytes::{Buf, BytesMut};
use http_body::Frame;
use memchr::memchr_iter;
use std::task::{Context, Poll, ready};

/// What was read and not taken, and what is expected next.
#[derive(Debug)]
pub(super) struct Intake {
    unread: BytesMut,
    stage: Stage,
    /// How many of the bytes were looked at in vain for a whole head.
    seen: usize,
    /// How many bytes the next read asks for.
    ask: usize,
    /// Bytes that a head may have.
    most: usize,
    /// Whether the end of the connection is looked for while the request under way is answered.
    watched: bool,
}

#[derive(Debug)]
enum Stage {
    /// The head of a request.
    Head,
    /// The body of the one under way.
    Body {
        rest: Rest,
        sender: Sender,
        /// Whether the client waits to be asked for it.
        expects: bool,
    },
    /// Nothing, until the request under way is answered.
    Whole,
    /// Nothing any more: what comes cannot be told from a body that nobody takes, or is no request.
    Over,
}

/// What came of the request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// A piece of its body, or the end of that.
    Piece,
    /// The body is wanted, and the client waits to be asked for it.
    Expectation,
    /// The end of the connection, while nothing else was expected.
    End,
}

/// Why there is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// It can be read no further.
    Refused(Refused),
    /// The connection has ended, or is broken.
    End,
}

/// Bytes read at most at once.
const MOST_READ: usize = 64 * 1024;

impl Intake {
    /// Nothing but `received`.
    pub(super) fn new(received: BytesMut, most: usize) -> Self {
        Self { unread: received, stage: Stage::Head, seen: 0, ask: FIRST_READ, most, watched: false }
    }

    /// Whether a request is expected.
    pub(super) const fn is_at_head(&self) -> bool {
        matches!(self.stage, Stage::Head)
    }

    /// Whether nothing is there, nor expected but a request.
    pub(super) fn is_between(&self) -> bool {
        self.is_at_head() && self.unread.is_empty()
    }

    /// Whether the request under way has a body that was not taken whole.
    pub(super) const fn is_in_body(&self) -> bool {
        matches!(self.stage, Stage::Body { .. } | Stage::Over)
    }

    /// Whether no request can be taken any more.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Whether the request under way was taken whole.
    pub(super) const fn is_whole(&self) -> bool {
        matches!(self.stage, Stage::Whole)
    }

    /// What was read and not taken.
    pub(super) fn into_unread(self) -> BytesMut {
        self.unread
    }

    /// Expects the next request.
    pub(super) fn next(&mut self) {
        (self.stage, self.seen, self.ask) = (Stage::Head, 0, FIRST_READ);
    }

    /// Begins with the body of a request; how it is taken.
    pub(super) fn begin(&mut self, rest: Option<Rest>, expects: bool, context: &Context<'_>) -> Incoming {
        self.watched = false;
        let Some(rest) = rest else {
            self.stage = Stage::Whole;
            return Incoming::Empty;
        };
        let (sender, receiver) = channel(rest.length());
        self.stage = Stage::Body { rest, sender, expects };
        if !expects {
            // What came with the head need not be asked for.
            self.give(context);
        }
        Incoming::Http1(receiver)
    }

    /// Sees to a body that nobody takes any more: what of it is there is passed over, and if that was not all of it,
    /// nothing more is taken.
    pub(super) fn settle(&mut self) {
        let Stage::Body { rest, sender, .. } = &mut self.stage else { return };
        if !sender.is_closed() {
            return;
        }
        let end = loop {
            match rest.next(&mut self.unread) {
                Ok(Step::Data(_)) => {}
                Ok(Step::End(_)) => break Stage::Whole,
                Ok(Step::More) | Err(Malformed) => break Stage::Over,
            }
        };
        self.stage = end;
    }

    /// Has the end of the connection be looked for while the request under way is answered.
    pub(super) const fn watch(&mut self) {
        self.watched = true;
    }

    /// Takes nothing any more.
    pub(super) fn stop(&mut self) {
        self.stage = Stage::Over;
    }

    /// Waits for the head of a request, whose fields take the place of `spare`.
    pub(super) fn poll_head(
        &mut self,
        io: &mut ClientIo,
        spare: &mut Fields,
        context: &mut Context<'_>,
    ) -> Poll<Result<Head, NoHead>> {
        loop {
            if self.seen == 0 {
                skip_blank_lines(&mut self.unread);
            }
            if may_be_whole(&self.unread, self.seen) {
                match head::parse(&mut self.unread, self.most, spare) {
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) => {}
                    Err(refused) => return Poll::Ready(Err(NoHead::Refused(refused))),
                }
            } else if self.unread.len() > self.most {
                return Poll::Ready(Err(NoHead::Refused(Refused::TooLarge)));
            }
            self.seen = if self.unread[..] == b"\r"[..] { 0 } else { self.unread.len() };
            if !ready!(self.poll_fill(io, context)) {
                return Poll::Ready(Err(NoHead::End));
            }
        }
    }

    /// Waits for what is left of the request under way; for the end of the connection, where nothing is.
    pub(super) fn poll_rest(&mut self, io: &mut ClientIo, context: &mut Context<'_>) -> Poll<Came> {
        match &mut self.stage {
            Stage::Body { sender, expects, .. } => {
                if ready!(sender.poll_wish(context)) == Wish::Nothing {
                    self.settle();
                    return Poll::Ready(Came::Piece);
                }
                if std::mem::take(expects) {
                    return Poll::Ready(Came::Expectation);
                }
                self.poll_body(io, context)
            }
            // More than what has come already is not read, be it the end.
            Stage::Whole if !self.unread.is_empty() => Poll::Pending,
            // Whether the client leaves is worth looking, and a registration, only where the answer takes its time.
            Stage::Whole if !self.watched => Poll::Pending,
            Stage::Whole => match ready!(self.poll_fill(io, context)) {
                true => Poll::Pending,
                false => Poll::Ready(Came::End),
            },
            Stage::Head | Stage::Over => Poll::Pending,
        }
    }

    fn poll_body(&mut self, io: &mut ClientIo, context: &mut Context<'_>) -> Poll<Came> {
        while !self.give(context) {
            if !ready!(self.poll_fill(io, context)) {
                if let Stage::Body { sender, .. } = &self.stage {
                    sender.end(Err(Broken::Off), context);
                }
                self.stage = Stage::Over;
                break;
            }
        }
        Poll::Ready(Came::Piece)
    }

    /// Gives the next piece of the body to whoever takes it, or says that there is none; `false` if nothing is there.
    fn give(&mut self, context: &Context<'_>) -> bool {
        let Stage::Body { rest, sender, .. } = &mut self.stage else { return true };
        match rest.next(&mut self.unread) {
            Ok(Step::More) => return false,
            Ok(Step::Data(data)) => {
                sender.give(Frame::data(data), context);
                if rest.is_over() {
                    sender.end(Ok(()), context);
                    self.stage = Stage::Whole;
                }
            }
            Ok(Step::End(trailers)) => {
                if let Some(trailers) = trailers {
                    sender.give(Frame::trailers(trailers), context);
                }
                sender.end(Ok(()), context);
                self.stage = Stage::Whole;
            }
            Err(Malformed) => {
                sender.end(Err(Broken::Malformed), context);
                self.stage = Stage::Over;
            }
        }
        true
    }

    /// Reads behind what is there; `false` at the end.
    fn poll_fill(&mut self, io: &mut ClientIo, context: &mut Context<'_>) -> Poll<bool> {
        let count = ready!(io.poll_fill(&mut self.unread, self.ask, context)).unwrap_or(0);
        if count >= self.ask {
            self.ask = (self.ask * 2).min(MOST_READ);
        }
        Poll::Ready(count > 0)
    }
}

/// Skips what may come before a request, as some clients send a line end behind a body: it begins nothing, and would be
/// looked at again with every byte of the request.
fn skip_blank_lines(bytes: &mut BytesMut) {
    while let Some(rest) = bytes.strip_prefix(b"\r\n").or_else(|| bytes.strip_prefix(b"\n")) {
        let blank = bytes.len() - rest.len();
        bytes.advance(blank);
    }
}

/// Whether a head may have become whole, or be seen to be none, by what is behind the first `seen` bytes. To read all of
/// it anew with each byte would make a slow client an expensive one.
fn may_be_whole(bytes: &[u8], seen: usize) -> bool {
    if seen == 0 {
        return !bytes.is_empty();
    }
    let new = &bytes[seen.saturating_sub(END.len())..];
    memchr_iter(b'\n', new).any(|feed| new[feed + 1..].starts_with(b"\n") || new[feed + 1..].starts_with(b"\r\n"))
}

/// The longest end of a head, but for its last byte.
const END: &[u8] = b"\n\r";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_anew_only_when_it_may_be_whole() {
        for end in ["\r\n\r\n", "\n\n", "\r\n\n", "\n\r\n"] {
            let text = format!("GET / HTTP/1.1\r\nx: y{end}");
            let read = |size: usize| {
                let (mut seen, mut times) = (0, 0);
                for there in (1..=text.len()).filter(|there| there % size == 0 || *there == text.len()) {
                    let may = may_be_whole(&text.as_bytes()[..there], seen);
                    times += usize::from(may);
                    assert!(may || there < text.len(), "{end:?} in pieces of {size} is not seen");
                    seen = there;
                }
                times
            };
            for size in 1..=text.len() {
                assert!(read(size) <= 3, "{end:?} in pieces of {size}");
            }
        }
        assert!(!may_be_whole(b"", 0));
    }

    #[test]
    fn blank_lines_before_a_request_leave_nothing_behind() {
        for (text, left) in [("\r\n\n\r\nGET", "GET"), ("\n\r", "\r"), ("\r\r\n", "\r\r\n"), ("", ""), ("\r\n", "")] {
            let mut bytes = BytesMut::from(text);
            skip_blank_lines(&mut bytes);
            assert_eq!(bytes, left);
        }
    }
}
