//! Following a client through its HTTP/1.1 requests, to find those that two servers could read differently. Pure.
//!
//! hyper is lenient where a standard lets it be, and hides that it was: of a length beside a transfer coding, or of a
//! length given twice, nothing is left in what it hands over. So the bytes are looked at on their way to hyper: lines of
//! heads by their first letters, bodies not at all but for where they end. Whatever is followed here ends where hyper
//! says that it ends; where hyper would give up, following ends.

use memchr::memchr;

/// Where a client is in its requests.
#[derive(Debug, Default)]
pub(super) struct Requests {
    stage: Stage,
    head: Head,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// Whether that beginning was cut short.
    cut: bool,
    /// How many of the bytes to come were followed before and put back.
    known: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Before a request.
    #[default]
    Between,
    /// Behind the first line of a head.
    Fields,
    /// In a body of so many more bytes.
    Sized(u64),
    /// In the line with the size of a chunk.
    Size,
    /// In a chunk of so many more bytes, the end of its line included.
    Chunk(u64),
    /// Behind the last chunk.
    Trailers,
    /// Behind a request after which there may be a tunnel.
    Beyond,
    /// Behind a request that is refused, here or by hyper.
    Refused,
}

/// What the fields of a head have said so far.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    length: Option<u64>,
    coded: bool,
    /// Whether it may end in a tunnel.
    upgrades: bool,
    /// Whether it is none that is served.
    refused: bool,
}

/// What stands in place of a request that is refused: an error to hyper wherever it is.
pub(super) const POISON: &[u8] = b"\0\n\r\n\r\n";

/// As much of a line as is looked at. Lines that matter are shorter.
const LINE: usize = 512;

/// A request that is to be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Offence;

impl Requests {
    /// Follows `bytes`. An error is how many of them are unobjectionable: those before the request that is to be refused,
    /// or before its offending line if it began earlier.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut at = self.known.min(bytes.len());
        self.known -= at;
        let mut request = 0;
        while at < bytes.len() {
            if self.stage == Stage::Between && self.line.is_empty() {
                request = at;
            }
            let left = &bytes[at..];
            match &mut self.stage {
                Stage::Beyond | Stage::Refused => break,
                Stage::Sized(more) => {
                    at += skip(more, left.len());
                    if *more == 0 {
                        self.stage = Stage::Between;
                    }
                }
                Stage::Chunk(more) => {
                    at += skip(more, left.len());
                    if *more == 0 {
                        self.stage = Stage::Size;
                    }
                }
                Stage::Between | Stage::Fields | Stage::Size | Stage::Trailers => {
                    let in_body = matches!(self.stage, Stage::Size | Stage::Trailers);
                    let Some(end) = memchr(b'\n', left) else {
                        self.keep(left);
                        break;
                    };
                    let judged = if self.line.is_empty() {
                        self.line(&left[..end.min(LINE)], end > LINE)
                    } else {
                        self.keep(&left[..end]);
                        let (line, cut) = (std::mem::take(&mut self.line), std::mem::take(&mut self.cut));
                        self.line(&line, cut)
                    };
                    if judged.is_err() {
                        self.stage = Stage::Refused;
                        return Err(if in_body { at } else { request });
                    }
                    at += end + 1;
                }
            }
        }
        Ok(())
    }

    /// So many of the bytes to come were followed already.
    pub(super) fn expect_again(&mut self, count: usize) {
        self.known += count;
    }

    /// Whether nothing of a request has come, so that nothing has to be remembered.
    pub(super) fn is_between(&self) -> bool {
        self.stage == Stage::Between && self.line.is_empty() && self.known == 0
    }

    /// Whether a body has begun that is not whole.
    pub(super) fn is_in_body(&self) -> bool {
        matches!(self.stage, Stage::Sized(_) | Stage::Size | Stage::Chunk(_) | Stage::Trailers)
    }

    /// Whether what comes may belong to a tunnel, and so was not followed.
    pub(super) fn is_beyond(&self) -> bool {
        self.stage == Stage::Beyond
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.cut |= bytes.len() > room;
    }

    /// Takes a line without its line feed.
    fn line(&mut self, line: &[u8], cut: bool) -> Result<(), Offence> {
        let (text, whole) = match line.strip_suffix(b"\r") {
            Some(text) => (text, true),
            None => (line, false),
        };
        match self.stage {
            Stage::Between if text.is_empty() => {}
            Stage::Between => {
                self.head = Head { refused: text.starts_with(b"CONNECT "), ..Head::default() };
                self.stage = Stage::Fields;
            }
            Stage::Fields if text.is_empty() => self.stage = self.head.body(),
            Stage::Fields => return self.head.field(text, cut),
            Stage::Size | Stage::Trailers if cut || !whole => return Err(Offence),
            Stage::Size => {
                self.stage = match chunk_size(text)? {
                    Some(0) => Stage::Trailers,
                    Some(size) => Stage::Chunk(size.saturating_add(2)),
                    None => Stage::Refused,
                }
            }
            Stage::Trailers if text.is_empty() => self.stage = Stage::Between,
            Stage::Trailers if alike(text).is_some() => return Err(Offence),
            Stage::Trailers | Stage::Sized(_) | Stage::Chunk(_) | Stage::Beyond | Stage::Refused => {}
        }
        Ok(())
    }
}

impl Head {
    fn field(&mut self, line: &[u8], cut: bool) -> Result<(), Offence> {
        if let Some(protocols) = value_of(line, b"upgrade") {
            let mut protocols = protocols.split(|byte| *byte == b',');
            self.upgrades |= !protocols.any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"h2c"));
            return Ok(());
        }
        let Some((framing, value)) = alike(line) else { return Ok(()) };
        if cut || self.length.is_some() || self.coded {
            return Err(Offence);
        }
        match framing {
            Framing::Imitation => return Err(Offence),
            Framing::Length => self.length = Some(decimal(value).ok_or(Offence)?),
            Framing::Coding => {
                self.coded = true;
                // Other codings are refused for what they are.
                self.refused |= !value.eq_ignore_ascii_case(b"chunked");
            }
        }
        Ok(())
    }

    /// What follows the head.
    fn body(self) -> Stage {
        match self {
            Self { refused: true, .. } => Stage::Refused,
            Self { upgrades: true, .. } => Stage::Beyond,
            Self { coded: true, .. } => Stage::Size,
            Self { length: Some(more @ 1..), .. } => Stage::Sized(more),
            Self { .. } => Stage::Between,
        }
    }
}

/// A field that says where a body ends, or seems to.
enum Framing {
    Length,
    Coding,
    /// Some servers take `_` for `-`.
    Imitation,
}

/// What a line says of where a body ends, and with which value.
fn alike(line: &[u8]) -> Option<(Framing, &[u8])> {
    // Most lines are told by their first letters.
    let (framing, name): (_, &[u8]) = match line.first()? | 0x20 {
        b'c' => (Framing::Length, b"content-length"),
        b't' => (Framing::Coding, b"transfer-encoding"),
        _ => return None,
    };
    let value = value_of(line, name)?;
    Some((if line[..name.len()].contains(&b'_') { Framing::Imitation } else { framing }, value))
}

/// The value, if the line is that of a field, be it with `_` in place of `-`.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let same = |(byte, known): (&u8, &u8)| byte.eq_ignore_ascii_case(known) || (*byte, *known) == (b'_', b'-');
    let fits = line.len() > name.len() && line[name.len()] == b':' && line.iter().zip(name).all(same);
    fits.then(|| line[name.len() + 1..].trim_ascii())
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// The size in the line before a chunk; `None` if hyper finds none either.
fn chunk_size(line: &[u8]) -> Result<Option<u64>, Offence> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let extension = line[digits..].trim_ascii_start();
    if extension.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Offence);
    }
    if digits == 0 || !extension.is_empty() && extension[0] != b';' {
        return Ok(None);
    }
    let size = line[..digits].iter().try_fold(0_u64, |number, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        number.checked_mul(16)?.checked_add(digit.into())
    });
    Ok(size)
}

/// Takes what is there off what is missing; how much that was.
fn skip(more: &mut u64, there: usize) -> usize {
    let skipped = there.min(usize::try_from(*more).unwrap_or(usize::MAX));
    *more -= skipped as u64;
    skipped
}

/// Follows a client's requests whole, and in two pieces.
///
/// # Panics
/// If the pieces give something else than the whole.
pub fn follow_requests(bytes: &[u8]) {
    let mut whole = Requests::default();
    let verdict = whole.follow(bytes);
    for cut in (0..=bytes.len()).step_by(bytes.len() / 16 + 1) {
        let mut split = Requests::default();
        let first = split.follow(&bytes[..cut]);
        let both = first.and_then(|()| split.follow(&bytes[cut..]));
        assert_eq!(both.is_err(), verdict.is_err(), "cut at {cut}");
        assert_eq!((split.stage, &split.line), (whole.stage, &whole.line), "cut at {cut}");
    }
}

#[cfg(test)]
mod tests;
