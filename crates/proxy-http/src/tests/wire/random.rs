//! Requests at random, right and wrong, in pieces at random: they are read as [`model`] reads them.

use super::model::{self, Expected};
use super::*;
use crate::tests::chance::{Random, setting};

/// How many connections are tried, and where the random numbers begin; both can be set from outside.
const CONNECTIONS: u64 = 4000;
const SEED: u64 = 1;

const METHODS: &[&str] = &["GET", "POST", "PUT", "HEAD", "OPTIONS", "BREW"];
const TARGETS: &[&str] = &["/a", "/b?c=d", "//e", "http://other.test/f", "http://other.test", "*", "/no"];
const FIELDS: &[&str] = &[
    "X: y",
    "x-empty:",
    "X-Blank: \t ",
    "Connection: keep-alive",
    "Connection: close",
    "Connection: x, close",
    "Connection: x",
    "Trailer: x-sum",
    "TE: trailers",
    "Upgrade: x",
    "Upgrade: h2c",
    "Cookie: a=b",
];
/// Few of these are right.
const ODD: &[&str] = &[
    "Content-Length: 3",
    "Content-Length: 03",
    "Content-Length: +3",
    "Content-Length: 3, 3",
    "Content-Length: 0x3",
    "Content-Length:",
    "Content-Length: 18446744073709551616",
    "Content_Length: 3",
    "Content-Length : 3",
    " Content-Length: 3",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: CHUNKED",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding:\x0bchunked",
    "Transfer_Encoding: chunked",
    "Host: shop.test",
    "Host: shop.test:80",
    "Host: a b",
    "Host:",
    "X: a\rTransfer-Encoding: chunked",
    "X: a\n Transfer-Encoding: chunked",
    "X",
    ": x",
    "X: \0",
];
const EXTENSIONS: &[&str] = &["", "", "", ";a", " ; a=b", ";a=\"b c\"", "\t", " x", ";\x01"];
const BYTES: &[u8] = b"\r\n\t \0:;,0135afxX_-/.\x7f\x80\xff";

fn request(random: &mut Random) -> Vec<u8> {
    let end = if random.once_in(30) { "\n" } else { "\r\n" };
    let version = if random.once_in(12) { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut text = String::new();
    if random.once_in(15) {
        text.push_str(random.of(&["\r\n", "\n", "\r\n\r\n"]));
    }
    text.push_str(&format!("{} {} {version}{end}", random.of(METHODS), random.of(TARGETS)));
    if !random.once_in(40) {
        text.push_str(&format!("Host: shop.test{end}"));
    }
    for _ in 0..random.below(3) {
        // Those that end the connection are rarer.
        let field = random.of(FIELDS);
        if !["close", "Upgrade"].iter().any(|word| field.contains(word)) || random.once_in(4) {
            text.push_str(&format!("{field}{end}"));
        }
    }
    if random.once_in(12) {
        text.push_str(&format!("{}{end}", random.of(ODD)));
    }
    let body: Vec<u8> = (0..random.below(40)).map(|_| BYTES[random.below(BYTES.len())]).collect();
    let expects = if random.once_in(10) { "Expect: 100-continue\r\n" } else { "" };
    let mut bytes = Vec::new();
    match random.below(3) {
        0 => bytes.extend_from_slice(format!("{text}{end}").as_bytes()),
        1 => {
            bytes.extend_from_slice(format!("{text}{expects}Content-Length: {}{end}{end}", body.len()).as_bytes());
            bytes.extend_from_slice(&body);
        }
        _ => {
            bytes.extend_from_slice(format!("{text}{expects}Transfer-Encoding: chunked{end}{end}").as_bytes());
            for chunk in body.chunks(1 + random.below(20)) {
                let extension = if random.once_in(4) { random.of(EXTENSIONS) } else { "" };
                let zeros = random.of(&["", "", "0", "000"]);
                bytes.extend_from_slice(format!("{zeros}{:x}{extension}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            let trailers =
                ["", "", "X-Sum: 1\r\n", "x-other: 2\r\nX-SUM:3\r\n", "Host: a\r\n", "Content_Length: 1\r\n"];
            bytes.extend_from_slice(format!("0\r\n{}\r\n", random.of(&trailers)).as_bytes());
        }
    }
    bytes
}

/// What is sent over one connection.
fn stream(random: &mut Random) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..=random.below(6)).flat_map(|_| request(random)).collect();
    for _ in 0..random.below(3) {
        if random.once_in(3) {
            let (at, byte) = (random.below(bytes.len()), BYTES[random.below(BYTES.len())]);
            match random.below(3) {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => _ = bytes.remove(at),
            }
        }
    }
    if random.once_in(10) {
        bytes.truncate(random.below(bytes.len()));
    }
    bytes
}

/// Where the bytes are cut.
fn pieces<'a>(random: &mut Random, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let most = *random.of(&[&1, &3, &20, &200, &10_000]);
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at((1 + random.below(most)).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

async fn compare(world: &World, pieces: &[&[u8]], expected: &[Expected]) {
    let mut wire = Wire::new(world.raw().await);
    for piece in pieces {
        if !wire.send(piece).await {
            break;
        }
        tokio::task::yield_now().await;
    }
    // Whether the end may come, as a body was not read that did not come at once.
    let mut blocked = false;
    for expected in expected {
        let line = match expected {
            Expected::Served { text, is_head, closes } => {
                let line = wire.answer(*is_head).await;
                if blocked && line.is_none() {
                    return;
                }
                let close = if *closes { " close" } else { "" };
                let body = if *is_head { format!(" {}", text.len()) } else { format!(" ={text}") };
                assert_eq!(line, Some(format!("200{close}{body}")));
                continue;
            }
            Expected::Blocked { is_head } => {
                let line = wire.answer(*is_head).await.unwrap_or_default();
                assert!(line.starts_with("403"), "{line:?} to what is blocked");
                if line.contains(" close") {
                    assert_eq!(wire.answer(false).await, None);
                    return;
                }
                blocked = true;
                continue;
            }
            Expected::Unknown => return,
            Expected::Partial => {
                _ = wire.stream.shutdown().await;
                wire.answer(false).await
            }
            Expected::Refused(_) => wire.answer(false).await,
        };
        // A refusal of a HEAD has no body, whatever its length.
        let line = line.map(|line| line.replacen(" cut", "", 1));
        match expected {
            Expected::Refused(_) if blocked && line.is_none() => {}
            Expected::Refused(status) => assert_eq!(line, Some(format!("{status} close"))),
            _ => assert!(line.as_deref().is_none_or(|line| line == "400 close"), "{line:?} to a part of a request"),
        }
        assert_eq!(wire.answer(false).await, None);
        return;
    }
    let closes = matches!(expected.last(), Some(Expected::Served { closes: true, .. }));
    let end = match blocked {
        _ if closes => End::Rough,
        true => End::Either,
        false => End::Open,
    };
    wire.ends(end, None, false).await;
}

#[tokio::test]
async fn requests_at_random_are_read_as_a_simple_reader_reads_them() {
    let (world, _backend) = world().await;
    let (seed, connections) = (setting("WIRE_SEED", SEED), setting("WIRE_CONNECTIONS", CONNECTIONS));
    let mut counts = [0_usize; 5];
    for number in 0..connections {
        let mut random = Random(seed.wrapping_mul(1 << 32).wrapping_add(number));
        let bytes = stream(&mut random);
        let expected = model::expect(&bytes, backend::told_with);
        for expected in &expected {
            counts[match expected {
                Expected::Served { .. } => 0,
                Expected::Refused(_) => 1,
                Expected::Partial => 2,
                Expected::Unknown => 3,
                Expected::Blocked { .. } => 4,
            }] += 1;
        }
        let pieces = pieces(&mut random, &bytes);
        let run = std::panic::AssertUnwindSafe(compare(&world, &pieces, &expected)).catch_unwind().await;
        assert!(
            run.is_ok(),
            "WIRE_SEED={seed}, connection {number}: {:?} in pieces {:?}, expected {expected:?}",
            String::from_utf8_lossy(&bytes),
            pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>()
        );
    }
    world.settled().await;
    // What is tried is neither all right nor all wrong, whatever the seed.
    let all = counts.iter().sum::<usize>();
    let [served, refused, partial, unknown, blocked] = counts;
    assert!(served > all * 2 / 5 && refused > all / 4 && partial > all / 50, "{counts:?}");
    assert!(unknown < all / 20 && blocked > all / 20, "{counts:?}");
}
