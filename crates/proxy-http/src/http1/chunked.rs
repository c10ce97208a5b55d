//! How a body in chunks is read. Pure.

use super::Malformed;
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;

/// How far a body in chunks is.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    stage: Stage,
    /// The bytes of the line, or of the trailers, that are there already.
    gathered: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// In the line with the size of a chunk.
    #[default]
    Size,
    /// In a chunk of so many more bytes.
    Data(u64),
    /// In the line end behind a chunk.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
}

/// What the bytes at hand give.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing without more of them.
    More,
    Data(Bytes),
    /// The end, and the fields that came with it.
    End(Option<HeaderMap>),
}

impl Chunked {
    /// Takes the next piece of the body from `bytes`.
    pub(crate) fn next(&mut self, bytes: &mut impl Buf) -> Result<Step, Malformed> {
        while bytes.has_remaining() {
            match &mut self.stage {
                Stage::Data(left) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.remaining());
                    *left -= count as u64;
                    if *left == 0 {
                        self.stage = Stage::DataEnd;
                    }
                    // Nothing is copied out of what was read.
                    return Ok(Step::Data(bytes.copy_to_bytes(count)));
                }
                Stage::Size => {
                    if self.gather_line(bytes, LONGEST_LINE)? {
                        self.stage = match size(&self.gathered)? {
                            0 => Stage::Trailers,
                            size => Stage::Data(size),
                        };
                        self.gathered.clear();
                    }
                }
                Stage::DataEnd => {
                    if self.gather_line(bytes, LINE_END.len())? {
                        self.gathered.clear();
                        self.stage = Stage::Size;
                    }
                }
                Stage::Trailers => {
                    if self.gather_line(bytes, LONGEST_TRAILERS)?
                        && (self.gathered == LINE_END || self.gathered.ends_with(b"\r\n\r\n"))
                    {
                        return trailers(&self.gathered).map(Step::End);
                    }
                }
            }
        }
        Ok(Step::More)
    }

    /// Gathers bytes up to a line end; whether it is there. A line that was begun before is gone on with.
    fn gather_line(&mut self, bytes: &mut impl Buf, most: usize) -> Result<bool, Malformed> {
        let line = bytes.chunk();
        let feed = memchr(b'\n', line);
        let count = feed.map_or(line.len(), |feed| feed + 1);
        if self.gathered.len() + count > most {
            return Err(Malformed);
        }
        self.gathered.extend_from_slice(&line[..count]);
        bytes.advance(count);
        if feed.is_some() && !self.gathered.ends_with(LINE_END) {
            return Err(Malformed);
        }
        Ok(feed.is_some())
    }
}

const LINE_END: &[u8] = b"\r\n";

/// Bytes in a line with the size of a chunk, its extensions included; and in all trailers.
const LONGEST_LINE: usize = 4 * 1024;
const LONGEST_TRAILERS: usize = 16 * 1024;
const MOST_TRAILERS: usize = 64;

/// The size in a line before a chunk.
fn size(line: &[u8]) -> Result<u64, Malformed> {
    let line = line.strip_suffix(LINE_END).ok_or(Malformed)?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
    let blanks = line[digits..].iter().take_while(is_blank).count();
    let extension = &line[digits + blanks..];
    let is_odd = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    if digits == 0 || digits > 16 || extension.iter().any(is_odd) || !extension.is_empty() && extension[0] != b';' {
        return Err(Malformed);
    }
    let add = |size: u64, digit: &u8| size << 4 | u64::from(char::from(*digit).to_digit(16).unwrap_or(0));
    Ok(line[..digits].iter().fold(0, add))
}

fn trailers(lines: &[u8]) -> Result<Option<HeaderMap>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_TRAILERS];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(lines, &mut fields) else {
        return Err(Malformed);
    };
    if fields.is_empty() {
        return Ok(None);
    }
    let read = |field: &httparse::Header<'_>| {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed)?;
        Ok((name, HeaderValue::from_bytes(field.value).map_err(|_| Malformed)?))
    };
    fields.iter().map(read).collect::<Result<Vec<_>, _>>().map(|fields| {
        let mut trailers = HeaderMap::with_capacity(fields.len());
        for (name, value) in fields {
            trailers.append(name, value);
        }
        Some(trailers)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body, its trailers, and how many bytes are left behind the end.
    type Whole = (Vec<u8>, Option<HeaderMap>, usize);

    /// What comes of reading in pieces of `step` bytes.
    fn read(text: &[u8], step: usize) -> Result<Option<Whole>, Malformed> {
        let mut chunked = Chunked::default();
        let mut body = Vec::new();
        for (number, piece) in text.chunks(step).enumerate() {
            let mut piece = Bytes::copy_from_slice(piece);
            loop {
                match chunked.next(&mut piece)? {
                    Step::More => break,
                    Step::Data(data) => body.extend_from_slice(&data),
                    Step::End(trailers) => {
                        let taken = (number * step + step).min(text.len()) - piece.len();
                        return Ok(Some((body, trailers, text.len() - taken)));
                    }
                }
            }
        }
        Ok(None)
    }

    #[test]
    fn chunks_may_come_in_any_pieces() {
        let text = b"3\r\nabc\r\n0A ;x=\"y\"\r\n0123456789\r\n1\t\r\n!\r\n000\r\nX-Sum: 7\r\nx-b: 8\r\n\r\nrest";
        for step in 1..=text.len() {
            let (body, trailers, left) = read(text, step).unwrap().unwrap();
            assert_eq!((&body[..], left), (&b"abc0123456789!"[..], 4), "in pieces of {step}");
            let trailers = trailers.unwrap();
            assert_eq!(
                (&trailers["x-sum"], &trailers["x-b"], trailers.len()),
                (&"7".parse().unwrap(), &"8".parse().unwrap(), 2)
            );
        }
        assert_eq!(read(b"0\r\n\r\n", 2), Ok(Some((vec![], None, 0))));
        assert_eq!(read(b"0\r\n\r", 2), Ok(None));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        let long = [b"1;".as_slice(), &[b'x'; LONGEST_LINE], b"\r\na\r\n0\r\n\r\n"].concat();
        let trailing = [b"0\r\nx: ".as_slice(), &[b'y'; LONGEST_TRAILERS], b"\r\n\r\n"].concat();
        let cases: &[&[u8]] = &[
            b"\r\n",
            b"x\r\n",
            b"-1\r\n",
            b"+1\r\na\r\n",
            b" 1\r\na\r\n",
            b"1\na\r\n",
            b"1 x\r\na\r\n",
            b"0x1\r\na\r\n",
            b"1;a\rb\r\na\r\n",
            b"1\r\r\na\r\n",
            b"1\r;a\r\na\r\n",
            b"1\x0c\r\na\r\n",
            b"1;a\0b\r\na\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"1\r\na0\r\n\r\n",
            b"fffffffffffffffff\r\n",
            b"0\r\nx: y\n\r\n",
            b"0\r\nx y\r\n\r\n",
            b"0\r\n: y\r\n\r\n",
            &long,
            &trailing,
        ];
        for text in cases {
            for step in [1, text.len()] {
                assert_eq!(read(text, step), Err(Malformed), "{:?}", String::from_utf8_lossy(text));
            }
        }
    }
}
