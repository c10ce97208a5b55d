//! How the head of a message of HTTP/1 is read: the parts of its first line, and its fields. Pure.

use crate::fields::{Fields, Place, Read};
use std::ops::Range;

/// Reads a head part by part. Names of fields become lower case where they are, whether or not the head turns out to be one.
#[derive(Debug)]
pub(crate) struct HeadReader<'a> {
    bytes: &'a mut [u8],
    /// How many of them were read.
    at: usize,
}

/// Why a head, or a part of it, was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is not there whole, and what is there may begin one.
    Partial,
    /// It is none.
    Malformed,
    /// It has more fields than it may have.
    TooMany,
}

/// How long no name of a field is: longer ones are no objects of the library.
const LONGEST_NAME: usize = u16::MAX as usize;

impl<'a> HeadReader<'a> {
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        // A place is told in four bytes. No head may be so long.
        let most = bytes.len().min(u32::MAX as usize);
        Self { bytes: &mut bytes[..most], at: 0 }
    }

    /// How many bytes the parts had that were read.
    pub(crate) fn length(&self) -> usize {
        self.at
    }

    /// Passes over line ends, which some put in front of a message.
    pub(crate) fn blank_lines(&mut self) -> Result<(), Unread> {
        while matches!(self.peek()?, b'\r' | b'\n') {
            self.line_end()?;
        }
        Ok(())
    }

    /// A method, and the space behind it.
    pub(crate) fn method(&mut self) -> Result<Range<usize>, Unread> {
        let rest = &self.bytes[self.at..];
        self.before_space(rest.iter().take_while(|byte| NAME[usize::from(**byte)] != 0).count())
    }

    /// A target, and the space behind it.
    pub(crate) fn target(&mut self) -> Result<Range<usize>, Unread> {
        let target = self.before_space(without::<b'!'>(&self.bytes[self.at..]))?;
        let bytes = &self.bytes[target.clone()];
        if bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() { Ok(target) } else { Err(Unread::Malformed) }
    }

    /// The version: whether it is 1.1, which else is 1.0.
    pub(crate) fn is_1_1(&mut self) -> Result<bool, Unread> {
        let rest = &self.bytes[self.at..];
        let Some(version) = rest.first_chunk::<8>() else {
            return Err(if NAMED.starts_with(rest) { Unread::Partial } else { Unread::Malformed });
        };
        self.at += version.len();
        match version {
            b"HTTP/1.1" => Ok(true),
            b"HTTP/1.0" => Ok(false),
            _ => Err(Unread::Malformed),
        }
    }

    /// The code and the reason of a status, with what is in front of them and the end of the line; the reason may be missing.
    pub(crate) fn status(&mut self) -> Result<u16, Unread> {
        self.byte(b' ')?;
        let mut code = 0;
        for _ in 0..3 {
            let digit = self.peek()?;
            if !digit.is_ascii_digit() {
                return Err(Unread::Malformed);
            }
            code = code * 10 + u16::from(digit - b'0');
            self.at += 1;
        }
        if self.peek()? == b' ' {
            self.at += 1;
            self.at = behind_text(self.bytes, self.at);
        }
        self.line_end()?;
        Ok(code)
    }

    /// The end of a line, be it told by one byte.
    pub(crate) fn line_end(&mut self) -> Result<(), Unread> {
        self.at = behind_line_end(self.bytes, self.at)?;
        Ok(())
    }

    /// All fields, up to `most`, and the empty line behind them. Puts them behind the `found`.
    pub(crate) fn fields(&mut self, most: usize, found: &mut Fields) -> Result<(), Unread> {
        while !matches!(self.peek()?, b'\r' | b'\n') {
            let (field, end) = field(self.bytes, self.at)?;
            self.at = end;
            if found.len() == most {
                return Err(Unread::TooMany);
            }
            found.found(field);
        }
        self.line_end()
    }

    /// So many bytes, of which there is one, and a space.
    fn before_space(&mut self, length: usize) -> Result<Range<usize>, Unread> {
        let part = self.at..self.at + length;
        self.at = part.end;
        match self.bytes.get(self.at) {
            Some(b' ') if length > 0 => self.at += 1,
            None => return Err(Unread::Partial),
            Some(_) => return Err(Unread::Malformed),
        }
        Ok(part)
    }

    fn peek(&self) -> Result<u8, Unread> {
        self.bytes.get(self.at).copied().ok_or(Unread::Partial)
    }

    fn byte(&mut self, expected: u8) -> Result<(), Unread> {
        if self.peek()? != expected {
            return Err(Unread::Malformed);
        }
        self.at += 1;
        Ok(())
    }
}

/// What every version begins with.
const NAMED: &[u8] = b"HTTP/1.";

/// Of each byte that a name may have, what it is in lower case; 0 of the others.
const NAME: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let one = byte as u8;
        if one.is_ascii_alphanumeric()
            || matches!(one, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
        {
            table[byte] = one.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

/// The field that begins here, and where its line ends.
#[inline]
fn field(bytes: &mut [u8], begin: usize) -> Result<(Read, usize), Unread> {
    let colon = begin + make_lower_case(&mut bytes[begin..]);
    if colon == begin || colon - begin >= LONGEST_NAME {
        return Err(Unread::Malformed);
    }
    match bytes.get(colon) {
        Some(b':') => {}
        Some(_) => return Err(Unread::Malformed),
        None => return Err(Unread::Partial),
    }
    let mut value = colon + 1;
    while matches!(bytes.get(value), Some(b' ' | b'\t')) {
        value += 1;
    }
    let mut end = behind_text(bytes, value);
    let behind = behind_line_end(bytes, end)?;
    while end > value && matches!(bytes[end - 1], b' ' | b'\t') {
        end -= 1;
    }
    let is_usual = bytes[colon..value] == *b": " && bytes[end..behind] == *b"\r\n";
    Ok((Read { name: Place::new(begin..colon), value: Place::new(value..end), is_usual }, behind))
}

/// Makes the letters of a name lower case, up to what is none; how long it is.
#[inline]
fn make_lower_case(bytes: &mut [u8]) -> usize {
    let mut length = 0;
    for byte in bytes {
        let lower = NAME[usize::from(*byte)];
        if lower == 0 {
            break;
        }
        *byte = lower;
        length += 1;
    }
    length
}

#[inline]
fn behind_line_end(bytes: &[u8], at: usize) -> Result<usize, Unread> {
    let feed = if bytes.get(at) == Some(&b'\r') { at + 1 } else { at };
    match bytes.get(feed) {
        Some(b'\n') => Ok(feed + 1),
        Some(_) => Err(Unread::Malformed),
        None => Err(Unread::Partial),
    }
}

/// Where text ends: visible characters, blanks, tabs, and what is not ASCII.
#[inline]
fn behind_text(bytes: &[u8], begin: usize) -> usize {
    let mut end = begin;
    loop {
        end += without::<b' '>(&bytes[end..]);
        if bytes.get(end) != Some(&b'\t') {
            return end;
        }
        end += 1;
    }
}

/// How many bytes there are ahead of the first one that is below `LEAST`, or the one that deletes. Eight at a time, as this is
/// done for every value.
#[inline]
fn without<const LEAST: u8>(bytes: &[u8]) -> usize {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    // The highest bit of each such byte. No sum of two bytes carries to the next one.
    let odd = |word: u64| {
        let low = word & (EACH * 0x7f);
        (!(low + EACH * (0x80 - u64::from(LEAST))) | (low + EACH)) & !word & (EACH * 0x80)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let mut length = 0;
    for word in words {
        match odd(u64::from_le_bytes(*word)) {
            0 => length += 8,
            odd => return length + odd.trailing_zeros() as usize / 8,
        }
    }
    length + rest.iter().take_while(|byte| **byte >= LEAST && **byte != 0x7f).count()
}

#[cfg(test)]
mod tests;
