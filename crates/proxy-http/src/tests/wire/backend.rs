//! A backend that says what the path asks for, to the byte, and what it was sent.

use super::super::*;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// What is said to a request for a path, and whether the connection ends behind it.
type Reply = (&'static str, &'static str, bool);

const REPLIES: &[Reply] = &[
    ("/sized", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", false),
    ("/nothing", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false),
    ("/chunked", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\n\r\n", false),
    ("/no-chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", false),
    (
        "/trailers",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
        false,
    ),
    ("/until-close", "HTTP/1.1 200 OK\r\n\r\nhello", true),
    ("/nothing-until-close", "HTTP/1.1 200 OK\r\n\r\n", true),
    ("/old", "HTTP/1.0 200 OK\r\n\r\nhello", true),
    ("/old-kept", "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello", false),
    ("/closes", "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello", true),
    ("/204", "HTTP/1.1 204 No Content\r\n\r\n", false),
    ("/204-length", "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", false),
    ("/304", "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n", false),
    ("/304-length", "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 5\r\n\r\n", false),
    ("/103", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", false),
    ("/100", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", false),
    ("/404", "HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nhello", false),
    ("/reason", "HTTP/1.1 299 \r\ncontent-length: 5\r\n\r\nhello", false),
    ("/dated", "HTTP/1.1 200 OK\r\ndate: Mon, 01 Jan 2024 00:00:00 GMT\r\ncontent-length: 5\r\n\r\nhello", false),
    (
        "/hops",
        "HTTP/1.1 200 OK\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\ncontent-length: 5\r\n\r\nhello",
        false,
    ),
    (
        "/two-ends",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        true,
    ),
    // Cut short.
    ("/cut-sized", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", true),
    ("/cut-size", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1", true),
    ("/cut-chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhello", true),
    ("/cut-line-end", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello", true),
    ("/cut-last", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", true),
    ("/cut-trailers", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n", true),
    ("/no-size", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n\r\n", true),
    // No answers.
    ("/gone", "", true),
    ("/cut-head", "HTTP/1.1 200 OK\r\ncontent-", true),
    ("/no-http", "220 mail.test ESMTP\r\n\r\n", true),
    ("/no-length", "HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\nhello", true),
    ("/other-coding", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhello", true),
    // What comes behind this is sent back.
    ("/tunnel", "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", false),
    ("/unasked-101", "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", true),
];

/// A request, as it arrived.
struct Arrived {
    head: String,
    body: Vec<u8>,
    trailers: Vec<String>,
}

impl Arrived {
    /// Reads one; `None` if none comes whole.
    async fn read(stream: &mut BufReader<TcpStream>) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            (stream.read_until(b'\n', &mut head).await.ok()? > 0).then_some(())?;
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        if field("transfer-encoding: ") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(line(stream).await?.as_str(), 16).expect("a size");
                if size == 0 {
                    break;
                }
                let before = body.len();
                body.resize(before + size, 0);
                stream.read_exact(&mut body[before..]).await.ok()?;
                assert_eq!(line(stream).await?, "", "the end of a chunk");
            }
            loop {
                match line(stream).await? {
                    empty if empty.is_empty() => break,
                    field => trailers.push(field),
                }
            }
        } else if let Some(length) = field("content-length: ") {
            let length = length.parse().expect("a length");
            stream.take(length).read_to_end(&mut body).await.ok()?;
            (body.len() as u64 == length).then_some(())?;
        }
        Some(Self { head, body, trailers })
    }

    fn target(&self) -> &str {
        self.head.split(' ').nth(1).expect("a target")
    }

    /// Method, target, body and trailers in a line.
    fn line(&self) -> String {
        let method = self.head.split(' ').next().expect("a method");
        let mut line = format!("{method} {}", self.target());
        match self.body.len() {
            0 => {}
            length @ 1..100 => line.push_str(&format!(" {length}:{}", String::from_utf8_lossy(&self.body))),
            length => {
                let sum = self.body.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
                line.push_str(&format!(" {length}:{sum}"));
            }
        }
        self.trailers.iter().for_each(|field| line.push_str(&format!(" +{field}")));
        line
    }
}

async fn line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await.ok()?;
    Some(String::from_utf8_lossy(line.strip_suffix(b"\r\n")?).into_owned())
}

/// What says of a body which one it was.
pub(super) fn told(method: &str, target: &str, body: &[u8]) -> String {
    told_with(method, target, body, &[])
}

/// The same of one with trailers.
pub(super) fn told_with(method: &str, target: &str, body: &[u8], trailers: &[String]) -> String {
    Arrived { head: format!("{method} {target} "), body: body.to_vec(), trailers: trailers.to_vec() }.line()
}

impl Backend {
    /// One that says what [`REPLIES`] has for a path, and for any other one what the request was. What arrived whole is
    /// in `seen`, line by line.
    pub(super) async fn scripted() -> Self {
        let seen = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&seen);
        let backend = Self::raw(move |stream| serve(stream, Arc::clone(&kept))).await;
        Self { seen, ..backend }
    }
}

async fn serve(stream: TcpStream, seen: Arc<Mutex<String>>) {
    let mut stream = BufReader::new(stream);
    while let Some(arrived) = Arrived::read(&mut stream).await {
        let line = arrived.line();
        seen.lock().push_str(&format!("{line}\n{}\n", arrived.head));
        let reply = REPLIES.iter().find(|reply| reply.0 == arrived.target());
        let (text, closes) = match reply {
            Some((_, text, closes)) => ((*text).to_owned(), *closes),
            None => (format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len()), false),
        };
        // The answer to a HEAD is a head.
        let end = if arrived.head.starts_with("HEAD ") { text.find("\r\n\r\n").map(|end| end + 4) } else { None };
        let sent = stream.write_all(&text.as_bytes()[..end.unwrap_or(text.len())]).await;
        if closes || sent.is_err() {
            return;
        }
        if arrived.target() == "/tunnel" {
            let (mut from, mut to) = tokio::io::split(stream);
            _ = tokio::io::copy(&mut from, &mut to).await;
            _ = to.shutdown().await;
            return;
        }
    }
}
