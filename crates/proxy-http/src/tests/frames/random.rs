//! Frames at random, most of them right, in pieces at random, and an end at random: whatever a client sends, every slot is
//! free afterwards, nothing panics, and others are served.

use super::wire::*;
use super::*;
use crate::tests::chance::{Random, setting};
use crate::tests::client::{get2, text};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// How many connections are tried, and where the random numbers begin; both can be set from outside.
const CONNECTIONS: u64 = 300;
const SEED: u64 = 1;

/// So many are there at the same time.
const TOGETHER: u64 = 20;

const PATHS: &[&str] =
    &["/", "/", "/a", "/never", "/events", "/large", "/echo", "/count", "/204", "/304", "/trailers", "/hops", "/echo"];
const METHODS: &[&str] = &["GET", "GET", "POST", "PUT", "HEAD", "OPTIONS"];
/// Fields that are no error.
const FIELDS: &[(&str, &str)] = &[
    ("x", "y"),
    ("te", "trailers"),
    ("cookie", "a=b"),
    ("expect", "100-continue"),
    ("trailer", "x-sum"),
    ("x-a", " b "),
];
/// Few of these are right.
const ODD: &[(&str, &str)] = &[
    ("content-length", "3"),
    ("content-length", "03"),
    ("content-length", "x"),
    ("connection", "close"),
    ("transfer-encoding", "chunked"),
    ("host", "b.test"),
    ("X", "y"),
    ("x", "a\r\nb"),
    (":path", "/again"),
    (":unknown", "x"),
];

/// What one client says.
struct Player {
    random: Random,
    /// The number of the next stream.
    next: u32,
    /// Streams that it has not ended its side of.
    sending: Vec<u32>,
    bytes: Vec<u8>,
}

impl Player {
    fn put(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
    }

    /// A number; `most` is beyond it.
    fn number(&mut self, most: usize) -> u32 {
        u32::try_from(self.random.below(most)).unwrap()
    }

    /// A stream, most often one that was opened.
    fn stream(&mut self) -> u32 {
        if self.random.once_in(100) { self.number(300) } else { 2 * self.number(self.next as usize / 2) + 1 }
    }

    /// A stream that more may be sent on, and whether that ends it.
    fn sending(&mut self) -> Option<(u32, u8)> {
        if self.random.once_in(100) {
            return Some((self.stream(), 0));
        }
        if self.sending.is_empty() {
            return None;
        }
        let place = self.random.below(self.sending.len());
        match self.random.once_in(3) {
            true => Some((self.sending.swap_remove(place), END_STREAM)),
            false => Some((self.sending[place], 0)),
        }
    }

    fn open(&mut self) {
        let stream = self.next;
        self.next += 2;
        let mut fields = vec![
            (":method", self.random.of(METHODS)),
            (":scheme", "http"),
            (":path", self.random.of(PATHS)),
            (":authority", "a.test"),
        ];
        if self.random.once_in(12) {
            fields[0].1 = "CONNECT";
            fields.insert(1, (":protocol", "websocket"));
        }
        for _ in 0..self.random.below(3) {
            fields.push(FIELDS[self.random.below(FIELDS.len())]);
        }
        if self.random.once_in(15) {
            fields.push(ODD[self.random.below(ODD.len())]);
        }
        let block = block(&fields);
        let ends = if self.random.once_in(3) { 0 } else { END_STREAM };
        if ends == 0 {
            self.sending.push(stream);
        }
        let (first, rest) =
            block.split_at(if self.random.once_in(5) { self.random.below(block.len()) } else { block.len() });
        if rest.is_empty() {
            return self.put(&frame(HEADERS, ends | END_HEADERS, stream, first));
        }
        self.put(&frame(HEADERS, ends, stream, first));
        if !self.random.once_in(50) {
            self.put(&frame(CONTINUATION, END_HEADERS, stream, rest));
        }
    }

    fn act(&mut self) {
        match self.random.below(20) {
            0..8 => self.open(),
            8..12 => {
                if let Some((stream, ends)) = self.sending() {
                    let bytes = vec![b'x'; *self.random.of(&[&0, &3, &3, &100, &5000])];
                    self.put(&data(stream, ends, &bytes));
                }
            }
            12 => {
                if let Some((stream, END_STREAM)) = self.sending() {
                    self.put(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &field("x-sum", "1")));
                }
            }
            13 => {
                let (stream, code) = (self.stream(), self.number(14));
                self.sending.retain(|other| *other != stream);
                self.put(&reset(stream, code));
            }
            14 | 15 => {
                let on = if self.random.once_in(2) { 0 } else { self.stream() };
                let more = 1 + self.number(200_000);
                self.put(&window(on, more));
            }
            16 => {
                let window = *self.random.of(&[&0, &1, &100, &65_535, &1_000_000]);
                let frame = 16_384 + self.number(100_000);
                let table = *self.random.of(&[&0, &100, &4096, &100_000]);
                self.put(&set(&[(1, table), (4, window), (5, frame)]));
            }
            17 => self.put(&frame(PING, 0, 0, LAST_PING)),
            18 => {
                let stream = self.stream();
                self.put(&priority(stream, 0));
            }
            _ => {
                if self.random.once_in(20) {
                    let (kind, length) = (self.random.below(12), self.random.below(20));
                    let stream = self.stream();
                    self.put(&frame(u8::try_from(kind).unwrap(), 0xff, stream, &vec![0; length]));
                }
            }
        }
    }

    /// All that is sent.
    fn play(&mut self) {
        let window = *self.random.of(&[&0, &1, &1000, &65_535, &1_000_000]);
        self.put(&client_with(&[(4, window)], &[]));
        self.open();
        for _ in 0..self.random.below(80) {
            self.act();
        }
        if self.random.once_in(10) {
            let (at, byte) = (24 + self.random.below(self.bytes.len() - 24), self.random.below(256));
            self.bytes[at] = u8::try_from(byte).unwrap();
        }
    }
}

/// Takes what comes until the end; the codes with which streams were reset.
async fn take(mut from: OwnedReadHalf) -> Vec<u32> {
    let mut codes = Vec::new();
    while let Some(frame) = Frame::read(&mut from).await {
        if frame.kind == RST_STREAM {
            codes.push(frame.code(0));
        }
    }
    codes
}

/// Sends it in pieces, as far as it is taken.
async fn give(to: &mut OwnedWriteHalf, random: &mut Random, mut bytes: &[u8]) {
    let most = *random.of(&[&10, &100, &10_000]);
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at((1 + random.below(most)).min(bytes.len()));
        if to.write_all(piece).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
        bytes = rest;
    }
}

/// One connection; the codes with which its streams were reset, as far as it looked.
async fn connection(address: SocketAddr, seed: u64) -> Vec<u32> {
    let mut player = Player { random: Random(seed), next: 1, sending: Vec::new(), bytes: Vec::new() };
    player.play();
    let Player { mut random, bytes, .. } = player;
    let (from, mut to) = connect(address).await.into_split();
    let reads = !random.once_in(5);
    let taking = reads.then(|| tokio::spawn(take(from)));
    give(&mut to, &mut random, &bytes).await;
    match taking {
        // It goes, with all that it has not read.
        None => Vec::new(),
        Some(taking) => {
            if random.once_in(3) {
                _ = to.write_all(&frame(GOAWAY, 0, 0, &[0; 8])).await;
            }
            if random.once_in(2) {
                tokio::task::yield_now().await;
            }
            _ = to.shutdown().await;
            soon(taking).await.unwrap()
        }
    }
}

#[tokio::test]
async fn frames_at_random_leave_nothing_behind_and_panic_nobody() {
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let (seed, connections) = (setting("FRAMES_SEED", SEED), setting("FRAMES_CONNECTIONS", CONNECTIONS));
    let mut bystander = world.http2().await;
    for first in (0..connections).step_by(TOGETHER as usize) {
        let numbers = first..connections.min(first + TOGETHER);
        let address = world.address;
        let running: Vec<_> =
            numbers.map(|number| (number, tokio::spawn(connection(address, (seed << 32) + number)))).collect();
        for (number, running) in running {
            let codes = running.await.unwrap();
            // What a stream is reset with whose answer has panicked.
            assert!(!codes.contains(&INTERNAL_ERROR), "FRAMES_SEED={seed}, connection {number}: {codes:?}");
        }
        let answer = soon(bystander.send_request(get2("a", "/x"))).await.unwrap();
        assert_eq!(text(answer).await, "you asked for /x");
    }
    drop(bystander);
    world.settled().await;
}

const INTERNAL_ERROR: u32 = 2;
