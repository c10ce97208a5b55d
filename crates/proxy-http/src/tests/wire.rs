//! HTTP/1.1 towards clients as bytes: what they may send, in whatever pieces, and what comes back.

mod answer;
mod attacks;
mod backend;
mod cases;
mod edges;
mod flow;
mod model;
mod random;

use super::*;
use answer::Found;
use cases::{CASES, Case};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;

/// How a connection stands once everything is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It takes another request.
    Open,
    /// It is at its end, in order.
    Closed,
    /// It is at its end, be that a rough one.
    Rough,
    /// Open or closed, as long as it is what the last answer says.
    Either,
}

/// A connection to write to by hand, and what came of it.
struct Wire<S> {
    stream: S,
    got: Vec<u8>,
    /// Whether it ended, and whether in order.
    end: Option<bool>,
    /// How many answers came that only inform.
    informed: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    fn new(stream: S) -> Self {
        Self { stream, got: Vec::new(), end: None, informed: 0 }
    }

    /// Sends bytes; whether there is still somebody to take them.
    async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        soon(sent).await.is_ok()
    }

    /// Takes in more, or the end.
    async fn fill(&mut self) {
        match soon(self.stream.read_buf(&mut self.got)).await {
            Ok(1..) => {}
            read => self.end = Some(read.is_ok()),
        }
    }

    /// Takes in more until it ends so.
    async fn until(&mut self, end: &str) {
        while !self.got.ends_with(end.as_bytes()) {
            self.fill().await;
        }
    }

    /// Takes in whatever comes until the end.
    async fn rest(&mut self) {
        while self.end.is_none() {
            self.fill().await;
        }
    }

    /// The next answer that does not only inform; `None` if there is the end.
    async fn answer(&mut self, to_head: bool) -> Option<String> {
        loop {
            match answer::read(&self.got, to_head, self.end.is_some()) {
                Found::Answer(line, length) => {
                    self.got.drain(..length);
                    if !["100", "103"].contains(&line.as_str()) {
                        return Some(line);
                    }
                    self.informed += 1;
                }
                Found::More if self.end.is_some() => return None,
                Found::More => self.fill().await,
            }
        }
    }

    /// Reads the answers that are expected. Those without a word on how the connection goes on may say what they like of it.
    async fn answers(&mut self, expected: &[&str], end: End) -> Option<String> {
        let mut last = None;
        for line in expected {
            let (to_head, line) = line.strip_prefix("HEAD ").map_or((false, *line), |line| (true, line));
            let found = self.answer(to_head).await.unwrap_or_else(|| "the end".to_owned());
            let mut same = if end == End::Either { found.replacen(" close", "", 1) } else { found.clone() };
            if let Some(start) = line.strip_suffix('*')
                && same.starts_with(start)
            {
                line.clone_into(&mut same);
            }
            assert_eq!(same, line);
            last = Some(found);
        }
        last
    }

    /// Sees to it that the connection stands as it should; `strict` if not even its end may be rough.
    async fn ends(&mut self, end: End, last: Option<&str>, strict: bool) {
        let closes = match end {
            End::Open => false,
            End::Closed | End::Rough => true,
            End::Either => last.is_some_and(|line| line.contains(" close")),
        };
        if !closes {
            self.send(LAST).await;
            let line = self.answer(false).await;
            // One that may close may find out late that it has to.
            let may_end = end == End::Either && line.is_none();
            assert!(may_end || line.as_deref() == Some("200 close =GET /last"), "{line:?} to the last request");
        }
        self.rest().await;
        assert_eq!(String::from_utf8_lossy(&self.got), "", "bytes behind the last answer");
        assert!(end == End::Rough || !strict || self.end == Some(true), "the end is a rough one");
    }
}

const LAST: &str = "GET /last HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";

/// What is behind the target of most requests.
const FIELD: &str = "HTTP/1.1\r\nHost: shop.test\r\n";

fn bytes_of(text: &str) -> String {
    text.replace("\r\n@", "\r\nHost: shop.test\r\n")
}

impl World {
    /// A connection whose client has little room for what it does not read.
    async fn narrow(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        socket.connect(self.address).await.unwrap()
    }
}

async fn world() -> (World, Backend) {
    let backend = Backend::scripted().await;
    let no = |name: &str| {
        let mut no = Route::new(name, Action::Block);
        no.matching.ports = vec![PortRange::single(PORT)];
        no.matching.path = Some("/no".into());
        no
    };
    let tls = [over_tls(forward("tls", &backend)), over_tls(no("tls no"))];
    (World::new([forward("all", &backend), no("no")].into_iter().chain(tls).collect()).await, backend)
}

/// Sends what a case says in pieces, and reads what comes back.
async fn run<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>, pieces: &[&[u8]], case: &Case) -> Option<String> {
    for piece in pieces {
        if !wire.send(piece).await {
            break;
        }
        // The proxy has its turn, so that most often it gets them one by one.
        tokio::task::yield_now().await;
    }
    wire.answers(case.2, case.1).await
}

/// Runs a case on a connection of its own.
async fn alone<S: AsyncRead + AsyncWrite + Unpin>(stream: S, pieces: &[&[u8]], case: &Case) {
    let mut wire = Wire::new(stream);
    let last = run(&mut wire, pieces, case).await;
    // One that expects no answer has not said all.
    if !case.2.is_empty() {
        wire.ends(case.1, last.as_deref(), pieces.len() == 1).await;
    }
}

/// Runs a case cut in two at each place, all on one connection as long as that stays open.
async fn cut_everywhere(world: &World, bytes: &[u8], case: &Case) {
    if case.1 != End::Open {
        for at in 1..bytes.len() {
            let (one, two) = bytes.split_at(at);
            alone(world.raw().await, &[one, two], case).await;
        }
        return;
    }
    let mut wire = Wire::new(world.raw().await);
    for at in 1..bytes.len() {
        let (one, two) = bytes.split_at(at);
        run(&mut wire, &[one, two], case).await;
    }
    wire.ends(case.1, None, true).await;
}

#[tokio::test]
async fn every_case_is_answered_as_it_should_be() {
    let (world, backend) = world().await;
    let mut wrong = Vec::new();
    for case in CASES {
        let text = bytes_of(case.0);
        let bytes = text.as_bytes();
        let runs = async {
            alone(world.raw().await, &[bytes], case).await;
            alone(world.raw().await, &bytes.chunks(1).collect::<Vec<_>>(), case).await;
            alone(world.tls(&["http/1.1"]).await, &[bytes], case).await;
            cut_everywhere(&world, bytes, case).await;
            world.settled().await;
        };
        if std::panic::AssertUnwindSafe(runs).catch_unwind().await.is_err() {
            wrong.push(text);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!backend.seen.lock().contains("/smuggled"));
}
