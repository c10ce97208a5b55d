//! The reader beside the one of a library: whatever comes, both read the same of it.

use super::*;
use crate::tests::chance::{Random, setting};
use bytes::BytesMut;
use httparse::{EMPTY_HEADER, Error, ParserConfig, Status};

/// Fields that a head may have here.
const MOST: usize = 4;

/// What is in the first line, the fields, and how long the head is.
type Found = Result<(Vec<String>, Vec<(String, Vec<u8>)>, usize), Unread>;

fn ours(text: &[u8], is_response: bool) -> Found {
    let (mut bytes, mut fields) = (BytesMut::from(text), Fields::default());
    let mut reader = HeadReader::new(&mut bytes);
    let first = |reader: &mut HeadReader<'_>| {
        reader.blank_lines()?;
        if is_response {
            return Ok((None, reader.is_1_1()?, reader.status()?));
        }
        let parts = (reader.method()?, reader.target()?);
        let is_1_1 = reader.is_1_1()?;
        reader.line_end()?;
        Ok((Some(parts), is_1_1, 0))
    };
    let (parts, is_1_1, code) = first(&mut reader)?;
    reader.fields(MOST, &mut fields)?;
    let length = reader.length();
    let text = |part: Range<usize>| String::from_utf8(text[part].to_vec()).unwrap();
    let mut line = vec![u8::from(is_1_1).to_string(), code.to_string()];
    line.extend(parts.into_iter().flat_map(|(method, target)| [text(method), text(target)]));
    fields.read(bytes, |_, _| Ok::<_, ()>(true)).unwrap();
    let mut written = Vec::new();
    fields.write(&mut written, |_, _| true);
    let pairs: Vec<_> = fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    let lines = pairs.iter().map(|(name, value)| [name, &b": "[..], value, b"\r\n"].concat());
    assert_eq!(written, lines.collect::<Vec<_>>().concat(), "written as it was read");
    let name = |(name, value): (Vec<u8>, _)| (String::from_utf8(name).unwrap(), value);
    Ok((line, pairs.into_iter().map(name).collect(), length))
}

fn theirs(text: &[u8], is_response: bool) -> Found {
    let mut space = [EMPTY_HEADER; MOST];
    let config = ParserConfig::default();
    let (status, line, fields) = if is_response {
        let mut response = httparse::Response::new(&mut space);
        let status = config.parse_response(&mut response, text);
        let line = [response.version.unwrap_or(0).to_string(), response.code.unwrap_or(0).to_string()];
        (status, line.to_vec(), response.headers)
    } else {
        let mut request = httparse::Request::new(&mut space);
        let status = config.parse_request(&mut request, text);
        let [method, path] = [request.method, request.path].map(|part| part.unwrap_or("").to_owned());
        (status, vec![request.version.unwrap_or(0).to_string(), "0".to_owned(), method, path], request.headers)
    };
    match status {
        Ok(Status::Complete(length)) => {
            let pair = |field: &httparse::Header<'_>| (field.name.to_ascii_lowercase(), field.value.to_vec());
            Ok((line, fields.iter().map(pair).collect(), length))
        }
        Ok(Status::Partial) => Err(Unread::Partial),
        Err(Error::TooManyHeaders) => Err(Unread::TooMany),
        Err(_) => Err(Unread::Malformed),
    }
}

/// Whole heads, which are spoilt.
const REQUESTS: [&str; 4] = [
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a?b=%20 HTTP/1.0\r\nX-Forwarded-For: 192.0.2.1, 192.0.2.2\t \r\nx:\r\ny: \t\r\n\r\nrest",
    "\r\n\nM-SEARCH * HTTP/1.1\nCookie:a=\"b\tc\"; d=e\nAccept: text/html;q=0.9\r\n\n",
    "GET http://\u{fc}.test/\u{fc} HTTP/1.1\r\nX-Name: \u{fc}\r\n\r\n",
];
const RESPONSES: [&str; 4] = [
    "HTTP/1.1 200 OK\r\nServer: x\r\nDate: Fri, 27 Nov 2026 00:00:00 GMT\r\nContent-Length: 1\r\n\r\na",
    "\r\nHTTP/1.0 404\r\nVary: \r\n\r\n",
    "HTTP/1.1 299 \t a b\u{fc} \nx_y: z\n\r\n",
    "HTTP/1.1 100 \r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
];
/// What they are spoilt with.
const PIECES: [&str; 16] =
    ["\r", "\n", "\r\n", "\r\n\r\n", " ", "\t", ":", "\0", "\x7f", "\x1f", "a: b\r\n", "A", "@", "{", "HTTP/1.", "/"];

#[test]
fn whatever_comes_is_read_as_a_library_reads_it() {
    let seed = setting("HEAD_SEED", 1);
    let mut random = Random(seed);
    for round in 0..setting("HEAD_ROUNDS", 20_000) {
        let is_response = random.once_in(2);
        let mut text = random.of(if is_response { &RESPONSES } else { &REQUESTS }).as_bytes().to_vec();
        for _ in 0..random.below(4) {
            let (at, piece) = (random.below(text.len() + 1), random.of(&PIECES).as_bytes());
            let end = (at + random.below(3)).min(text.len());
            text.splice(at..end, piece.iter().copied());
        }
        if random.once_in(8) && !text.is_empty() {
            let at = random.below(text.len());
            text[at] = u8::try_from(random.below(256)).unwrap();
        }
        for end in 0..=text.len() {
            let text = &text[..end];
            let shown = String::from_utf8_lossy(text);
            assert_eq!(ours(text, is_response), theirs(text, is_response), "{shown:?}, HEAD_SEED={seed}, {round}");
        }
    }
}

#[test]
fn every_byte_is_read_as_a_library_reads_it_wherever_it_is() {
    for byte in 0..=255 {
        for base in REQUESTS.iter().chain(&RESPONSES) {
            let is_response = RESPONSES.contains(base);
            for at in 0..base.len() {
                let mut text = base.as_bytes().to_vec();
                text[at] = byte;
                let shown = String::from_utf8_lossy(&text);
                assert_eq!(ours(&text, is_response), theirs(&text, is_response), "{shown:?}");
            }
        }
    }
}

#[test]
fn a_name_is_no_longer_than_it_may_be() {
    for (length, fits) in [(LONGEST_NAME, false), (LONGEST_NAME - 1, true)] {
        let mut text = format!("{}: y\r\n\r\n", "x".repeat(length)).into_bytes();
        let read = HeadReader::new(&mut text).fields(1, &mut Fields::default());
        assert_eq!(read, if fits { Ok(()) } else { Err(Unread::Malformed) });
    }
}
