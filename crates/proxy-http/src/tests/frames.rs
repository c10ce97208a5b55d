//! RFC 9113 frame by frame: what a client may send, and what becomes of it when it sends something else.

mod cases;
mod random;
mod wire;

use super::*;
use cases::{BROADER, CASES, Case};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::{ACK, DATA, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS};

/// What has to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// GOAWAY with this code, and the end. See [`BROADER`].
    Goaway(u32),
    /// The stream is reset with this code. See [`BROADER`].
    Reset(u32),
    /// A response with this status on this stream.
    Status(u32, u16),
    /// Data of so many bytes in one frame on stream 1.
    Data(usize),
    /// Nothing: a PING behind it is answered.
    Nothing,
    /// An answer of HTTP/1.1: it is not HTTP/2 at all.
    Text,
    /// The end, in whatever way.
    End,
}

/// How what came fits what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Exact,
    /// A connection error in place of a stream error, or PROTOCOL_ERROR in place of a narrower code.
    Broad,
}

/// One frame from the server.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Self> {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await.ok()?;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Self { kind: head[3], flags: head[4], stream: id, payload })
    }

    fn code(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    fn status(&self) -> u16 {
        // The first field is the status, from the static table; the size of the dynamic one may come before it.
        let statuses = [200, 204, 206, 304, 400, 404, 500];
        let first = self.payload.iter().find(|byte| **byte & 0xe0 != 0x20);
        match *first.unwrap_or(&0) {
            index @ 0x88..=0x8e => statuses[usize::from(index - 0x88)],
            _ => 0,
        }
    }

    /// Whether it is what was expected, to the letter or more broadly; `None` if it does not tell.
    fn judge(&self, expect: Expect) -> Option<Result<Fit, String>> {
        let wrong = |what: String| Some(Err(what));
        match (self.kind, expect) {
            (GOAWAY, Expect::Goaway(code)) if self.code(4) == code => Some(Ok(Fit::Exact)),
            (GOAWAY, Expect::Goaway(code) | Expect::Reset(code)) if [code, PROTOCOL_ERROR].contains(&self.code(4)) => {
                Some(Ok(Fit::Broad))
            }
            (GOAWAY, Expect::End) => Some(Ok(Fit::Exact)),
            (GOAWAY, _) => wrong(format!("GOAWAY {} {:?}", self.code(4), String::from_utf8_lossy(&self.payload[8..]))),
            (RST_STREAM, Expect::Reset(code)) if self.code(0) == code => Some(Ok(Fit::Exact)),
            // A server that has answered without the whole request may say that it does not want the rest.
            (RST_STREAM, _) if self.code(0) == 0 => None,
            (RST_STREAM, Expect::Data(_) | Expect::Goaway(_)) => None,
            (RST_STREAM, _) => wrong(format!("RST_STREAM {} on {}", self.code(0), self.stream)),
            (HEADERS, Expect::Status(stream, status)) if self.stream == stream => {
                if self.status() == status {
                    Some(Ok(Fit::Exact))
                } else {
                    wrong(format!("status {}", self.status()))
                }
            }
            (HEADERS, Expect::Reset(_)) => wrong(format!("status {} on {}", self.status(), self.stream)),
            (DATA, Expect::Data(length)) => {
                if self.payload.len() == length {
                    Some(Ok(Fit::Exact))
                } else {
                    wrong(format!("{} bytes", self.payload.len()))
                }
            }
            (PING, Expect::Nothing | Expect::Reset(_) | Expect::Goaway(_))
                if self.flags & ACK != 0 && self.payload == wire::LAST_PING =>
            {
                if expect == Expect::Nothing {
                    Some(Ok(Fit::Exact))
                } else {
                    wrong("nothing".to_owned())
                }
            }
            _ => None,
        }
    }
}

const PROTOCOL_ERROR: u32 = 1;

async fn run(world: &World, case: &Case) -> Result<Fit, String> {
    let mut stream = world.raw().await;
    let bytes = (case.bytes)();
    if case.expect == Expect::Text {
        stream.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        _ = soon(stream.read_to_end(&mut answer)).await;
        return if answer.starts_with(b"HTTP/1.1 400") {
            Ok(Fit::Exact)
        } else {
            Err(String::from_utf8_lossy(&answer).into())
        };
    }
    // The server may have closed already.
    _ = stream.write_all(&bytes).await;
    let mut answers = 0;
    let mut settled = false;
    let judged = tokio::time::timeout(PATIENCE, async {
        loop {
            let Some(frame) = Frame::read(&mut stream).await else {
                return if case.expect == Expect::End { Ok(Fit::Exact) } else { Err("the end".to_owned()) };
            };
            answers += usize::from(frame.kind == HEADERS);
            if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                _ = stream.write_all(&wire::frame(SETTINGS, ACK, 0, &[])).await;
            }
            if let Some(judged) = frame.judge(case.expect) {
                return judged;
            }
            // Once the server is about to be silent: whether it is.
            if !settled && frame.kind == SETTINGS {
                settled = true;
                _ = stream.write_all(&wire::frame(PING, 0, 0, wire::LAST_PING)).await;
            }
        }
    });
    judged.await.unwrap_or_else(|_| Err("nothing at all".to_owned()))
}

#[tokio::test]
async fn frames_are_answered_as_rfc_9113_says() {
    assert!(CASES.len() >= 100, "{}", CASES.len());
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let (mut wrong, mut broader) = (Vec::new(), Vec::new());
    for case in CASES {
        match run(&world, case).await {
            Ok(Fit::Exact) => {}
            Ok(Fit::Broad) => broader.push(case.name),
            Err(got) => wrong.push(format!("{}: expected {:?}, got {got}", case.name, case.expect)),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
    assert_eq!(broader, BROADER);
    world.settled().await;
}

#[tokio::test]
async fn what_the_library_refuses_by_itself_is_counted() {
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let mut stream = world.raw().await;
    let streams = (0..130).map(|index| wire::never(2 * index + 1));
    // A field of 2,000 bytes, and a hundred times the same from the table.
    let bomb = [&[0x40][..], &wire::raw_field(b"x", &[b'y'; 2000])[1..], &[0xbe; 100]].concat();
    let bomb =
        wire::frame(HEADERS, wire::END_HEADERS | wire::END_STREAM, 301, &[wire::block(wire::GET), bomb].concat());
    let bytes = wire::client(
        &streams.chain([0, 2].map(|index| wire::reset(2 * index + 1, 8))).chain([bomb]).collect::<Vec<_>>(),
    );
    stream.write_all(&bytes).await.unwrap();
    let refused = || world.log.events().into_iter().filter(|event| *event == ("bad_request", "stream_refused")).count();
    eventually("two streams too many, and a head far too large", || refused() == 3).await;
    drop(stream);
    world.settled().await;
    assert_eq!((refused(), world.log.events().len()), (3, 3), "{:?}", world.log.events());
}

#[tokio::test]
async fn an_idle_client_that_answers_no_ping_does_not_hold_up_a_drain() {
    let backend = Backend::start().await;
    let world =
        World::with(vec![forward("all", &backend)], |settings| settings.timeouts.graceful_shutdown = None).await;
    let mut stream = world.raw().await;
    stream.write_all(&wire::client(&[wire::get(1)])).await.unwrap();
    while soon(Frame::read(&mut stream))
        .await
        .is_some_and(|frame| frame.kind != DATA || frame.flags & wire::END_STREAM == 0)
    {}
    world.drain.start();
    let mut kinds = Vec::new();
    while let Some(frame) = soon(Frame::read(&mut stream)).await {
        kinds.push(frame.kind);
    }
    assert_eq!(kinds, [GOAWAY, PING]);
    world.settled().await;
    assert!(world.log.events().is_empty(), "{:?}", world.log.events());
}

#[tokio::test]
async fn the_name_of_the_id_is_spelled_once() {
    // As Huffman has it, and without.
    let spelled = [&[0xf2, 0xb5, 0x85, 0xed, 0x69, 0x50, 0x95, 0x8d, 0x27][..], b"x-request-id"];
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let mut stream = world.raw().await;
    stream.write_all(&wire::client(&[])).await.unwrap();
    for (id, expected) in [(1, 1), (3, 0), (5, 0)] {
        stream.write_all(&wire::get(id)).await.unwrap();
        let mut found = 0;
        while let Some(frame) = soon(Frame::read(&mut stream)).await {
            let spells = |name: &[u8]| frame.payload.windows(name.len()).any(|part| part == name);
            if frame.kind == HEADERS {
                found += spelled.iter().filter(|name| spells(name)).count();
            }
            if frame.stream == id && frame.flags & wire::END_STREAM != 0 {
                break;
            }
        }
        assert_eq!(found, expected, "stream {id}");
    }
    drop(stream);
    world.settled().await;
}

#[tokio::test]
async fn dates_are_remembered_of_young_connections_alone() {
    const HOUR: Duration = Duration::from_secs(3600);
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let tracker: Arc<dyn ConnectionTracker> = world.limits.clone();
    let (now, mut lengths) = (Instant::now(), Vec::new());
    for accepted in [now + HOUR, now.checked_sub(HOUR).expect("the machine is older")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = connect(listener.local_addr().unwrap()).await;
        let (io, peer) = listener.accept().await.unwrap();
        tokio::spawn(world.server.serve(connection(io, peer, &tracker, PORT, accepted)));
        stream.write_all(&wire::client(&[])).await.unwrap();
        for id in [1, 3] {
            stream.write_all(&wire::get(id)).await.unwrap();
            while let Some(frame) = soon(Frame::read(&mut stream)).await {
                if frame.kind == HEADERS {
                    lengths.push(frame.payload.len());
                }
                if frame.stream == id && frame.flags & wire::END_STREAM != 0 {
                    break;
                }
            }
        }
    }
    // Ids differ by a byte or two. A date has 29 characters, and 22 bytes as Huffman has it.
    let [first, second, first_of_old, second_of_old] = lengths[..] else { panic!("{lengths:?}") };
    assert!(first.abs_diff(first_of_old) < 8 && second_of_old > second + 16, "{lengths:?}");
    world.settled().await;
}

/// The list of others, where it is installed.
#[tokio::test]
async fn h2spec_is_content_where_it_is_installed() {
    let mut command = tokio::process::Command::new("h2spec");
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend)]).await;
    command.args(["--strict", "--host", "127.0.0.1", "--port", &world.address.port().to_string()]);
    match command.output().await {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
    }
}
