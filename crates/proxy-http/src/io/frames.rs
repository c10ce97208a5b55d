//! Following a client through its frames of HTTP/2, to notice one that keeps us busy with nothing. Pure.
//!
//! Every frame that is answered, or thrown away, costs the client less than it costs us. What a client may have of those
//! is an allowance that comes back with time and with the bytes that it takes: measuring round trips goes on for as long as
//! data flows, and a browser that leaves a page resets all its streams at once.

use std::time::{Duration, Instant};

/// Where a client is in its frames, and what is left of its allowance.
#[derive(Debug)]
pub(super) struct Frames {
    /// The header of a frame, as far as it has come.
    head: [u8; HEAD],
    filled: usize,
    /// How much of a payload, or of the preface, is still to come.
    more: usize,
    /// Whether that payload is of a header block.
    in_head: bool,
    /// Whether a header block goes on in the next frame.
    continues: bool,
    /// The newest stream that the client has opened, and how many there were, wrapping.
    newest: u32,
    opened: usize,
    allowance: u32,
    renewed: Instant,
}

/// A client that does nothing but keep us busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flood;

const HEAD: usize = 9;
/// All of a stream's number but the bit that means nothing.
const STREAM: u32 = 0x7fff_ffff;
const PREFACE: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// `ACK` of SETTINGS, and `END_STREAM` of DATA.
const ENDS: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a client may have at once, and what comes back in a second.
const ALLOWANCE: u32 = 10_000 * COST;
const PER_SECOND: u32 = 1_000 * COST;
/// What a frame costs that asks for nothing; one that gives up what it asked for, which a backend has begun; and one that
/// makes room, of which some clients send two for each piece that they take.
const COST: u32 = 16;
const COST_OF_RESET: u32 = 50 * COST;
const COST_OF_ROOM: u32 = 1;
/// How many bytes that the client takes are worth 1.
const BYTES: usize = 256;

impl Frames {
    /// A client that is about to send its preface.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            head: [0; HEAD],
            filled: 0,
            more: PREFACE,
            in_head: false,
            continues: false,
            newest: 0,
            opened: 0,
            allowance: ALLOWANCE,
            renewed: now,
        }
    }

    /// Follows what was read.
    pub(super) fn follow(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), Flood> {
        loop {
            let passed = self.more.min(bytes.len());
            self.more -= passed;
            bytes = &bytes[passed..];
            if bytes.is_empty() {
                return Ok(());
            }
            let part = (HEAD - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + part].copy_from_slice(&bytes[..part]);
            self.filled += part;
            bytes = &bytes[part..];
            if self.filled == HEAD {
                self.filled = 0;
                self.frame(&now)?;
            }
        }
    }

    /// Gives back for bytes that the client has taken.
    pub(super) fn took(&mut self, bytes: usize) {
        let worth = u32::try_from(bytes / BYTES).unwrap_or(u32::MAX);
        self.allowance = self.allowance.saturating_add(worth).min(ALLOWANCE);
    }

    /// Whether the head of a request has begun to come and is not whole.
    pub(super) fn is_in_head(&self) -> bool {
        self.continues || self.in_head && self.more > 0
    }

    /// How many streams the client has opened whose heads have come whole, wrapping.
    pub(super) fn opened(&self) -> usize {
        self.opened.wrapping_sub(usize::from(self.is_in_head()))
    }

    fn frame(&mut self, now: impl Fn() -> Instant) -> Result<(), Flood> {
        let [high, middle, low, kind, flags, stream @ ..] = self.head;
        let stream = u32::from_be_bytes(stream) & STREAM;
        self.more = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.in_head = matches!(kind, HEADERS | CONTINUATION);
        if self.in_head {
            self.continues = flags & END_HEADERS == 0;
        }
        if kind == HEADERS && stream > self.newest {
            self.newest = stream;
            self.opened = self.opened.wrapping_add(1);
        }
        let cost = match kind {
            DATA if self.more > 0 || flags & ENDS != 0 => 0,
            HEADERS => 0,
            // One that answers none of ours is an error of its own.
            SETTINGS if flags & ENDS != 0 => 0,
            WINDOW_UPDATE => COST_OF_ROOM,
            RST_STREAM => COST_OF_RESET,
            _ => COST,
        };
        if self.allowance < cost {
            self.renew(now());
        }
        self.allowance = self.allowance.checked_sub(cost).ok_or(Flood)?;
        Ok(())
    }

    fn renew(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.renewed).min(Duration::from_secs(60));
        let back = u32::try_from(elapsed.as_millis()).unwrap_or(u32::MAX).saturating_mul(PER_SECOND) / 1000;
        if back > 0 {
            self.allowance = self.allowance.saturating_add(back).min(ALLOWANCE);
            self.renewed = now;
        }
    }
}

/// Follows a client's frames whole, and in two pieces.
///
/// # Panics
/// If the pieces give something else than the whole.
pub fn follow_frames(bytes: &[u8]) {
    let now = Instant::now();
    let end = |pieces: [&[u8]; 2]| {
        let mut frames = Frames::new(now);
        let verdict = pieces.into_iter().try_for_each(|piece| frames.follow(piece, || now));
        (verdict, frames.filled, frames.more, frames.is_in_head(), frames.allowance)
    };
    for cut in (0..=bytes.len()).step_by(bytes.len() / 16 + 1) {
        assert_eq!(end(bytes.split_at(cut).into()), end([bytes, &[]]), "cut at {cut}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        [vec![0, 0, length, kind, flags, 0, 0, 0, 1], vec![0; usize::from(length)]].concat()
    }

    /// A client after its preface, and the time it came.
    fn begun() -> (Frames, Instant) {
        let now = Instant::now();
        let mut frames = Frames::new(now);
        frames.follow(&[0; PREFACE], || now).unwrap();
        (frames, now)
    }

    /// More than anybody may have who has to pay.
    const MANY: u32 = 200_000;

    /// How many of these frames are taken, in pieces of seven bytes.
    fn taken(frames: &mut Frames, now: Instant, frame: &[u8]) -> u32 {
        let mut taken = 0;
        while taken < MANY && frame.chunks(7).all(|piece| frames.follow(piece, || now).is_ok()) {
            taken += 1;
        }
        // Whoever is cut off says no more.
        (frames.more, frames.filled) = (0, 0);
        taken
    }

    #[test]
    fn what_asks_for_nothing_is_rationed() {
        for (kind, flags, length, most) in [
            (DATA, 0, 0, 10_000),
            (2, 0, 5, 10_000),
            (RST_STREAM, 0, 4, 200),
            (SETTINGS, 0, 6, 10_000),
            (PING, 0, 8, 10_000),
            (PING, ENDS, 8, 10_000),
            (WINDOW_UPDATE, 0, 4, 160_000),
            (CONTINUATION, 0, 0, 10_000),
            (0xbe, 0, 3, 10_000),
            (DATA, 0, 100, MANY),
            (DATA, ENDS, 0, MANY),
            (HEADERS, END_HEADERS, 9, MANY),
            (SETTINGS, ENDS, 0, MANY),
        ] {
            let (mut frames, now) = begun();
            assert_eq!(taken(&mut frames, now, &frame(kind, flags, length)), most, "{kind} {flags}");
        }
    }

    #[test]
    fn time_and_bytes_give_back() {
        let (mut frames, now) = begun();
        let ping = frame(PING, 0, 8);
        assert_eq!(taken(&mut frames, now, &ping), 10_000);
        let later = now + Duration::from_secs(3);
        assert_eq!(taken(&mut frames, later, &ping), 3_000);
        assert_eq!(taken(&mut frames, later + Duration::from_secs(3_600), &ping), 10_000, "and no more than it was");
        frames.took(100 * 4096);
        assert_eq!(taken(&mut frames, later, &ping), 100);
        frames.took(16 * 1024);
        assert_eq!(taken(&mut frames, later, &frame(WINDOW_UPDATE, 0, 4)), 64, "more than there are frames in that");
    }

    #[test]
    fn a_stream_is_opened_once_its_head_is_whole() {
        let (mut frames, now) = begun();
        let on = |stream: u8, kind: u8, flags: u8| {
            let mut frame = frame(kind, flags, 9);
            frame[8] = stream;
            frame
        };
        for (stream, kind, flags, opened) in [
            (1, HEADERS, END_HEADERS, 1),
            (3, HEADERS, 0, 1),
            (3, CONTINUATION, END_HEADERS, 2),
            (1, HEADERS, END_HEADERS | ENDS, 2),
            (3, DATA, ENDS, 2),
            (9, HEADERS, END_HEADERS, 3),
        ] {
            frames.follow(&on(stream, kind, flags), || now).unwrap();
            assert_eq!(frames.opened(), opened, "{kind} on {stream}");
        }
    }

    #[test]
    fn the_head_of_a_request_is_whole_or_not() {
        let (mut frames, now) = begun();
        let mut follow = |bytes: &[u8]| {
            frames.follow(bytes, || now).unwrap();
            frames.is_in_head()
        };
        assert!(!follow(&frame(HEADERS, END_HEADERS, 9)));
        assert!(follow(&frame(HEADERS, 0, 9)));
        assert!(follow(&frame(CONTINUATION, 0, 9)));
        assert!(!follow(&frame(CONTINUATION, END_HEADERS, 9)));
        let whole = frame(HEADERS, END_HEADERS, 9);
        assert!(follow(&whole[..12]));
        assert!(!follow(&whole[12..]));
        assert!(!follow(&frame(DATA, 0, 9)[..12]));
    }
}
