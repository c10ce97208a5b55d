//! Many requests, large bodies, and answers that come before the whole request has.

use super::super::backend::read_head;
use super::backend::told;
use super::*;
use tokio::sync::Notify;

/// Sends bytes in pieces of this size.
async fn send(wire: &mut Wire<TcpStream>, bytes: &[u8], size: usize) {
    for piece in bytes.chunks(size) {
        if !wire.send(piece).await {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// A body that looks like anything.
fn body(length: usize) -> Vec<u8> {
    b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".iter().copied().cycle().take(length).collect()
}

#[tokio::test]
async fn requests_behind_each_other_are_answered_in_order_until_one_ends_the_connection() {
    let (world, backend) = world().await;
    for count in [2, 3, 10, 50] {
        for closing in [None, Some(count / 2)] {
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            for number in 0..count {
                let (target, closes) = (format!("/{number}"), closing == Some(number));
                let body = if number % 3 == 0 { Vec::new() } else { body(number * 7) };
                let close = if closes { "Connection: close\r\n" } else { "" };
                let head = format!("POST {target} {FIELD}{close}");
                bytes.extend_from_slice(head.as_bytes());
                if number % 3 == 1 {
                    bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                    bytes.extend_from_slice(&body);
                } else {
                    bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                    bytes.extend_from_slice(&chunked(&body, 5));
                }
                if closing.is_none_or(|closing| number <= closing) {
                    let close = if closes { " close" } else { "" };
                    expected.push(format!("200{close} ={}", told("POST", &target, &body)));
                }
            }
            let expected: Vec<_> = expected.iter().map(String::as_str).collect();
            for size in [bytes.len(), 1000, 17, 1] {
                let mut wire = Wire::new(world.raw().await);
                // Both at once: who only writes, and does not read, has no claim to be read.
                send(&mut wire, &bytes, size).await;
                let end = if closing.is_some() { End::Closed } else { End::Open };
                wire.answers(&expected, end).await;
                wire.ends(end, None, false).await;
            }
        }
    }
    assert!(!backend.seen.lock().contains("smuggled HTTP/1.1\nhost"));
    world.settled().await;
}

#[tokio::test]
async fn bodies_of_any_size_come_whole_in_pieces_of_any_size() {
    let (world, _backend) = world().await;
    let mut wire = Wire::new(world.raw().await);
    for (length, chunk, size) in [
        (300_000, None, usize::MAX),
        (300_000, None, 1000),
        (2_000, None, 1),
        (300_000, Some(300_000), usize::MAX),
        (300_000, Some(70_000), 1500),
        (300_000, Some(7), 10_000),
        (10_000, Some(1), usize::MAX),
        (2_000, Some(3), 1),
    ] {
        let body = body(length);
        let (field, bytes) = match chunk {
            None => (format!("Content-Length: {length}"), body.clone()),
            Some(chunk) => ("Transfer-Encoding: chunked".to_owned(), chunked(&body, chunk)),
        };
        let head = format!("POST /a {FIELD}{field}\r\n\r\n");
        send(&mut wire, &[head.as_bytes(), &bytes].concat(), size.min(head.len() + bytes.len())).await;
        wire.answers(&[&format!("200 ={}", told("POST", "/a", &body))], End::Open).await;
    }
    wire.ends(End::Open, None, true).await;
    world.settled().await;
}

#[tokio::test]
async fn ten_thousand_tiny_chunks_of_an_answer_are_one_body() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let text = chunked(&[b'x'; 10_000], 1);
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(&[head.as_slice(), &text].concat()).await.unwrap();
    })
    .await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let mut wire = Wire::new(world.raw().await);
    for (version, expected) in [("1.1", "200 ~"), ("1.0", "200 close $")] {
        wire.send(format!("GET /a HTTP/{version}\r\nHost: shop.test\r\n\r\n")).await;
        wire.answers(&[&format!("{expected}{}", "x".repeat(10_000))], End::Open).await;
    }
    world.settled().await;
}

#[tokio::test]
async fn a_client_that_waits_is_told_to_go_on_once_for_each_request() {
    let (world, _backend) = world().await;
    let mut wire = Wire::new(world.raw().await);
    for (round, (field, body)) in [("Content-Length: 2", "hi"), ("Transfer-Encoding: chunked", "2\r\nhi\r\n0\r\n\r\n")]
        .iter()
        .cycle()
        .take(4)
        .enumerate()
    {
        wire.send(format!("POST /a {FIELD}Expect: 100-continue\r\n{field}\r\n\r\n")).await;
        wire.until("\r\n\r\n").await;
        assert_eq!(String::from_utf8_lossy(&wire.got), "HTTP/1.1 100 Continue\r\n\r\n");
        wire.send(body).await;
        wire.answers(&["200 =POST /a 2:hi"], End::Open).await;
        assert_eq!(wire.informed, round + 1);
    }
    wire.ends(End::Open, None, true).await;
    world.settled().await;
}

#[tokio::test]
async fn an_answer_that_does_not_wait_for_the_body_leaves_no_doubt_about_what_follows() {
    // One that reads the body all the same, and one that leaves.
    for reads in [true, false] {
        let backend = Backend::raw(move |mut stream| async move {
            loop {
                let head = read_head(&mut stream).await;
                if head.is_empty() {
                    return;
                }
                let text = if head.starts_with("GET /last") { "GET /last" } else { "enough" };
                let status = if head.contains("/417") { 417 } else { 200 };
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
                if !reads {
                    return;
                }
                if head.starts_with("POST") && stream.read_exact(&mut [0; 38]).await.is_err() {
                    return;
                }
            }
        })
        .await;
        let world = World::new(vec![forward("all", &backend)]).await;
        let body = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
        for (target, status, expect) in
            [("/417", 417, "Expect: 100-continue\r\n"), ("/200", 200, "Expect: 100-continue\r\n"), ("/200", 200, "")]
        {
            for before in [0, 1, 20, 37] {
                let mut wire = Wire::new(world.raw().await);
                let head = format!("POST {target} {FIELD}{expect}Content-Length: 38\r\n\r\n");
                wire.send(format!("{head}{}", &body[..before])).await;
                let line = wire.answer(false).await.expect("an answer");
                assert_eq!(line.replacen(" close", "", 1), format!("{status} =enough"));
                wire.send(format!("{}{LAST}", &body[before..])).await;
                let rest = wire.answer(false).await;
                assert!(rest.is_none() || rest.as_deref() == Some("200 close =GET /last"), "{rest:?}");
                assert_eq!(wire.answer(false).await, None);
            }
        }
        world.settled().await;
    }
}

#[tokio::test]
async fn a_tunnel_begins_behind_the_head_that_asks_for_it_wherever_that_ends() {
    let (world, _backend) = world().await;
    let ask = "GET /tunnel HTTP/1.1\r\nHost: shop.test\r\nConnection: x, Upgrade\r\nUpgrade: x\r\n\r\n";
    for before in ["", "GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n"] {
        let text = format!("{before}{ask}GET /early HTTP/1.1\r\n\r\n");
        for cut in 0..text.len() {
            let mut wire = Wire::new(world.raw().await);
            wire.send(&text[..cut]).await;
            tokio::task::yield_now().await;
            wire.send(&text[cut..]).await;
            if !before.is_empty() {
                let line = wire.answer(false).await;
                if line.as_deref() == Some("200 close =GET /a") {
                    // What may belong to a tunnel is not asked for behind another request: also an answer.
                    assert_eq!(wire.answer(false).await, None);
                    continue;
                }
                assert_eq!(line.as_deref(), Some("200 =GET /a"));
            }
            wire.answers(&["101"], End::Open).await;
            wire.send(" late").await;
            wire.stream.shutdown().await.unwrap();
            wire.rest().await;
            assert_eq!(String::from_utf8_lossy(&wire.got), "GET /early HTTP/1.1\r\n\r\n late", "cut at {cut}");
        }
    }
    world.settled().await;
}

#[tokio::test]
async fn a_parked_connection_takes_its_next_request_in_any_pieces() {
    let (world, _backend) = world().await;
    let parked = || world.server.worker.parked.load(Ordering::SeqCst);
    let mut wire = Wire::new(world.raw().await);
    wire.send("GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n").await;
    wire.answers(&["200 =GET /a"], End::Open).await;
    eventually("it is parked", || parked() == 1).await;
    for field in ["Content-Length: 2\r\n\r\nhi", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"] {
        let before = parked();
        let text = format!("POST /a {FIELD}{field}");
        send(&mut wire, text.as_bytes(), 1).await;
        wire.answers(&["200 =POST /a 2:hi"], End::Open).await;
        eventually("it is parked", || parked() > before).await;
    }
    wire.ends(End::Open, None, true).await;
    world.settled().await;
}

#[tokio::test]
async fn a_drain_lets_what_has_begun_end_and_says_so() {
    let go = Arc::new(Notify::new());
    let gone = Arc::clone(&go);
    let backend = Backend::raw(move |mut stream| {
        let go = Arc::clone(&gone);
        async move {
            let head = read_head(&mut stream).await;
            if head.starts_with("POST") {
                stream.read_exact(&mut [0; 4]).await.unwrap();
            }
            if head.contains(" /begun") {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab").await.unwrap();
                go.notified().await;
                stream.write_all(b"cd").await.unwrap();
                return;
            }
            if head.contains(" /wait") {
                go.notified().await;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd").await.unwrap();
        }
    })
    .await;
    for (before, rest, expected) in [
        (format!("GET /a {FIELD}"), "\r\n", None),
        (format!("POST /a {FIELD}Content-Length: 4\r\n\r\nab"), "cd", Some("200 close =abcd")),
        (format!("POST /wait {FIELD}Content-Length: 4\r\n\r\nabcd"), "", Some("200 close =abcd")),
        (format!("GET /wait {FIELD}\r\nGET /behind {FIELD}\r\n"), "", Some("200 close =abcd")),
        (format!("GET /begun {FIELD}\r\n"), "", Some("200 =abcd")),
    ] {
        let world = World::new(vec![forward("all", &backend)]).await;
        let mut idle = Wire::new(world.raw().await);
        idle.send(format!("GET /a {FIELD}\r\n")).await;
        idle.answers(&["200 =abcd"], End::Open).await;
        let mut wire = Wire::new(world.raw().await);
        wire.send(&before).await;
        if expected.is_some() {
            eventually("it has begun", || world.limits.requests.load(Ordering::SeqCst) == 1).await;
        }
        if before.contains("/begun") {
            wire.until("ab").await;
        }
        world.drain.start();
        // Once one that is idle has ended, all connections know.
        assert_eq!(idle.answer(false).await, None);
        wire.send(rest).await;
        if before.contains("/wait") || before.contains("/begun") {
            go.notify_one();
        }
        let answer = wire.answer(false).await;
        match expected {
            // A head that has not come whole may come too late.
            None => assert!(answer.is_none_or(|line| line.replacen(" close", "", 1) == "200 =abcd")),
            Some(_) => assert_eq!(answer.as_deref(), expected, "{before:?}"),
        }
        wire.ends(End::Closed, None, false).await;
        world.settled().await;
        assert!(world.log.events().is_empty(), "{:?}", world.log.events());
    }
}
