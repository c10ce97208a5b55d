//! Reading answers strictly, and saying in one line what they are.
//!
//! A line is a status, `close` if the connection is to end behind it, and the body: `=text` of a known length, `~text` in
//! chunks, `$text` until the end of the connection, `cut` if it is none of these to its end. Fields behind a body come as
//! ` +name: value`. What the proxy says in a body of its own is left out.

/// What was found at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Too few of them for an answer.
    More,
    /// An answer, and how long it is.
    Answer(String, usize),
}

/// Reads an answer; `to_head` to a request that asks for no body, `ended` if nothing more comes.
///
/// # Panics
/// If it is none that a client could be sent.
pub(super) fn read(bytes: &[u8], to_head: bool, ended: bool) -> Found {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        assert!(!ended || bytes.is_empty(), "a head without an end: {:?}", String::from_utf8_lossy(bytes));
        return Found::More;
    };
    let head = std::str::from_utf8(&bytes[..end]).expect("a head is text");
    let mut head = Head::read(head);
    let rest = &bytes[end + 4..];
    // What ends with its connection leaves none, whatever else is said.
    head.closes |= head.ends_with_connection(to_head);
    let (body, length) = match head.body(rest, to_head, ended) {
        Some(body) => body,
        None if ended => (" cut".to_owned(), rest.len()),
        None => return Found::More,
    };
    let close = if head.closes { " close" } else { "" };
    Found::Answer(format!("{}{close}{body}", head.status), end + 4 + length)
}

struct Head {
    status: u16,
    closes: bool,
    length: Option<usize>,
    chunked: bool,
}

impl Head {
    fn read(text: &str) -> Self {
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "a line end that is none: {text:?}");
        let mut lines = text.split("\r\n");
        let first = lines.next().expect("there is a line");
        let (version, rest) = first.split_once(' ').expect("a version");
        assert!(["HTTP/1.1", "HTTP/1.0"].contains(&version) && rest.as_bytes()[3] == b' ', "{first:?}");
        let status = rest[..3].parse().expect("a status");
        let fields: Vec<(&str, &str)> = lines.map(|line| line.split_once(": ").unwrap_or((line, ""))).collect();
        let all = |name: &str| fields.iter().filter(|field| field.0.eq_ignore_ascii_case(name)).collect::<Vec<_>>();
        for name in ["date", "content-length", "transfer-encoding", "x-request-id", "connection"] {
            assert!(all(name).len() <= 1, "{name} twice: {text:?}");
        }
        let connection = all("connection").first().map_or("", |field| field.1).to_ascii_lowercase();
        let says = |token: &str| connection.split(',').any(|part| part.trim() == token);
        let closes = says("close") || version == "HTTP/1.0" && !says("keep-alive");
        let length = all("content-length").first().map(|field| field.1.parse().expect("a length"));
        let chunked = all("transfer-encoding").first().is_some_and(|field| field.1 == "chunked");
        assert_eq!(all("transfer-encoding").len(), usize::from(chunked), "a coding that is none: {text:?}");
        assert!(!chunked || version == "HTTP/1.1" && length.is_none(), "two ends: {text:?}");
        assert!(
            !(100..200).contains(&status) && status != 204 || !chunked && length.is_none(),
            "ends of nothing: {text:?}"
        );
        Self { status, closes, length, chunked }
    }

    /// Whether there is no body, whatever the fields say.
    fn is_bare(&self, to_head: bool) -> bool {
        to_head || (100..200).contains(&self.status) || [204, 304].contains(&self.status)
    }

    fn ends_with_connection(&self, to_head: bool) -> bool {
        !self.is_bare(to_head) && !self.chunked && self.length.is_none()
    }

    /// The body, as a line says it, and how many bytes it takes; `None` if it is not there whole.
    fn body(&self, bytes: &[u8], to_head: bool, ended: bool) -> Option<(String, usize)> {
        if self.is_bare(to_head) {
            let length = self.length.filter(|_| to_head).map_or_else(String::new, |length| format!(" {length}"));
            return Some((length, 0));
        }
        if self.chunked {
            return chunks(bytes);
        }
        let Some(length) = self.length else {
            return ended.then(|| (format!(" ${}", String::from_utf8_lossy(bytes)), bytes.len()));
        };
        let body = String::from_utf8_lossy(bytes.get(..length)?);
        let own = body.starts_with(&format!("{} ", self.status)) || length == 0 && self.status >= 400;
        Some((if own { String::new() } else { format!(" ={body}") }, length))
    }
}

fn chunks(bytes: &[u8]) -> Option<(String, usize)> {
    let (mut text, mut at) = (" ~".to_owned(), 0);
    let line = |at: &mut usize| {
        let end = bytes[*at..].windows(2).position(|two| two == b"\r\n")?;
        let line = std::str::from_utf8(&bytes[*at..*at + end]).expect("a line is text");
        *at += end + 2;
        Some(line)
    };
    loop {
        let size = usize::from_str_radix(line(&mut at)?, 16).expect("a size and nothing else");
        if size == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(bytes.get(at..at + size)?));
        at += size;
        assert_eq!(bytes.get(at..at + 2)?, b"\r\n", "the end of a chunk");
        at += 2;
    }
    loop {
        match line(&mut at)? {
            "" => return Some((text, at)),
            field => text.push_str(&format!(" +{field}")),
        }
    }
}
