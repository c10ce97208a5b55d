//! Requests of HTTP/1.1, one after the other over one connection: where one ends, and whether another may follow.

use super::backend::read_head;
use super::client::exchange;
use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LAST: &str = "GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// A backend that reads the head of a request and answers with this text.
async fn answering(text: &'static str) -> Backend {
    Backend::raw(move |mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            stream.write_all(text.as_bytes()).await.unwrap();
        }
    })
    .await
}

fn statuses(answer: &str) -> Vec<&str> {
    answer.match_indices("HTTP/1.").map(|(at, _)| &answer[at + 9..at + 12]).collect()
}

/// All that is answered to what is sent without waiting for any of it.
async fn answers_to(world: &World, all: String) -> String {
    let (mut reading, mut writing) = world.raw().await.into_split();
    let writing = tokio::spawn(async move { writing.write_all(all.as_bytes()).await.map(|()| writing) });
    let mut answers = String::new();
    soon(reading.read_to_string(&mut answers)).await.unwrap();
    drop(writing.await.unwrap().unwrap());
    answers
}

#[tokio::test]
async fn requests_that_come_together_are_answered_in_their_order() {
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let mut all = String::new();
    for number in 0..50 {
        let (framing, body) = match number % 3 {
            0 => ("content-length: 5", "hello".to_owned()),
            1 => ("transfer-encoding: chunked", "2\r\nhe\r\n3;x\r\nllo\r\n0\r\nx-sum: 1\r\n\r\n".to_owned()),
            _ => ("content-length: 40000", "x".repeat(40_000)),
        };
        all.push_str(&format!("POST /count HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n{body}"));
        all.push_str(&format!("GET /{number} HTTP/1.1\r\nhost: a\r\n\r\n"));
    }
    all.push_str(LAST);
    let answers = answers_to(&world, all).await;
    assert_eq!(statuses(&answers), vec!["200"; 101]);
    let mut rest = &answers[..];
    for number in 0..50 {
        let count = if number % 3 == 2 { "40000" } else { "5" };
        for body in [format!("\r\n\r\n{count}HTTP"), format!("\r\n\r\nyou asked for /{number}HTTP")] {
            let at = rest.find(&body).unwrap_or_else(|| panic!("{body:?} is not where it should be: {rest}"));
            assert_eq!(rest[..at].matches("HTTP/1.1").count(), 1, "{number}");
            rest = &rest[at + body.len() - 4..];
        }
    }
    assert_eq!(backend.accepted.load(Ordering::SeqCst), 1);
    world.settled().await;
}

#[tokio::test]
async fn a_body_that_nobody_reads_ends_the_connection_unless_it_is_there() {
    let backend = Backend::start().await;
    let mut blocked = Route::new("blocked", Action::Block);
    blocked.matching.ports = vec![PortRange::single(PORT)];
    blocked.matching.path = Some("/no".into());
    let world = World::new(vec![forward("all", &backend), blocked]).await;
    // The first request binds the connection: after it a refusal is no reason to close.
    let first = "GET /x HTTP/1.1\r\nhost: a\r\n\r\n";
    for (request, answers) in [
        ("POST /no HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello", 3),
        ("POST /no HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 3),
        ("POST /no HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", 2),
        ("POST /no HTTP/1.1\r\nhost: a\r\ncontent-length: 500\r\n\r\nhello", 2),
        // Whether the body comes is not known to anybody but the client.
        ("POST /no HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 500\r\n\r\n", 2),
    ] {
        let answer = exchange(world.raw().await, [first, request, LAST].concat().as_bytes()).await;
        let expected = ["200", "403", "200"];
        assert_eq!(statuses(&answer), &expected[..answers], "{request}: {answer}");
        let refusal = answer.split("HTTP/1.1 ").nth(2).unwrap();
        assert_eq!(refusal.contains("connection: close"), answers == 2, "{request}: {answer}");
    }
    world.settled().await;
}

#[tokio::test]
async fn clients_of_http_1_0_get_what_they_understand() {
    let whole = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let cut = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n!\r\n";
    let known = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    let old = "GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n";
    for (response, fields, answers) in [(known, "connection: keep-alive\r\n", 2), (whole, "", 1)] {
        let backend = answering(response).await;
        let world = World::new(vec![forward("all", &backend)]).await;
        let last = "GET / HTTP/1.0\r\nhost: a\r\n\r\n";
        let answer = exchange(world.raw().await, [old, last].concat().as_bytes()).await;
        assert_eq!(statuses(&answer), vec!["200"; answers], "{answer}");
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
        assert!(answer.contains(fields) && !answer.contains("chunked"), "{answer}");
        world.settled().await;
    }
    // Where only the end of the connection says that the body is whole, one that broke off has none.
    let backend = answering(cut).await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let mut stream = world.raw().await;
    stream.write_all(old.as_bytes()).await.unwrap();
    let error = soon(stream.read_to_end(&mut Vec::new())).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    world.settled().await;
}

#[tokio::test]
async fn every_response_has_a_date_and_keeps_the_one_it_has() {
    let backend = answering("HTTP/1.1 200 OK\r\ndate: yesterday\r\ncontent-length: 0\r\n\r\n").await;
    let mut own = Route::new("own", Action::Block);
    own.matching.ports = vec![PortRange::single(PORT)];
    own.matching.path = Some("/no".into());
    let world = World::new(vec![forward("all", &backend), own]).await;
    let requests = "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /no HTTP/1.1\r\nhost: a\r\n\r\nGET \0\r\n\r\n";
    let answer = exchange(world.raw().await, requests.as_bytes()).await;
    assert_eq!(statuses(&answer), ["200", "403", "400"]);
    let dates: Vec<_> = answer.lines().filter_map(|line| line.strip_prefix("date: ")).collect();
    assert_eq!((dates.len(), dates[0]), (3, "yesterday"), "{answer}");
    assert!(dates[1..].iter().all(|date| httpdate::parse_http_date(date).is_ok()), "{answer}");
    world.settled().await;
}

#[tokio::test]
async fn each_chunk_is_whole_when_it_leaves_and_a_head_does_not_wait_for_one() {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
    let receiver = Mutex::new(Some(receiver));
    let backend = Backend::raw(move |mut stream| {
        let receiver = receiver.lock().take();
        async move {
            let Some(mut receiver) = receiver else { return };
            read_head(&mut stream).await;
            while let Some(bytes) = receiver.recv().await {
                stream.write_all(&bytes).await.unwrap();
            }
        }
    })
    .await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let mut stream = world.raw().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    sender.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()).unwrap();
    let head = soon(read_head(&mut stream)).await;
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    for size in [1, 5000, 20_000] {
        let chunk = [format!("{size:x}\r\n").as_bytes(), &vec![b'x'; size], b"\r\n"].concat();
        sender.send(chunk).unwrap();
        // It may come in several, but every one of them is followed by its end.
        let mut left = size;
        while left > 0 {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(soon(stream.read_u8()).await.unwrap());
            }
            let count = usize::from_str_radix(std::str::from_utf8(&line[..line.len() - 2]).unwrap(), 16).unwrap();
            let mut piece = vec![0; count + 2];
            soon(stream.read_exact(&mut piece)).await.unwrap();
            assert!(piece.ends_with(b"x\r\n"));
            left -= count;
        }
    }
    sender.send(b"0\r\n\r\n".to_vec()).unwrap();
    let mut end = [0; 5];
    soon(stream.read_exact(&mut end)).await.unwrap();
    assert_eq!(&end, b"0\r\n\r\n");
    drop((stream, sender));
    world.settled().await;
}

#[tokio::test]
async fn a_tunnel_does_not_begin_in_the_middle_of_a_body() {
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let request = "POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\ncontent-length: 9\r\n\r\nhalf";
    let answer = exchange(world.raw().await, request.as_bytes()).await;
    assert_eq!(statuses(&answer), ["101"], "{answer}");
    world.settled().await;
}

#[tokio::test]
async fn a_client_that_ends_its_side_is_gone_and_its_request_with_it() {
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let mut stream = world.raw().await;
    stream.write_all(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    eventually("it is under way", || world.limits.requests.load(Ordering::SeqCst) == 1).await;
    stream.shutdown().await.unwrap();
    world.settled().await;
    assert_eq!(world.log.outcomes(), [499]);
    let mut stream = world.raw().await;
    stream.write_all(b"POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhel").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(!statuses(&answer).contains(&"200"), "what is cut short does not look whole: {answer}");
    world.settled().await;
}

#[tokio::test]
async fn a_body_that_another_task_sends_on_is_whole() {
    // What goes to a backend in HTTP/2 is taken by the task of that connection.
    let backend = Backend::start_h2().await;
    let h2 = |forward: &mut Forward| forward.backend_protocol = proxy_route::BackendProtocol::Http2;
    let world = World::new(vec![forward_with("all", &backend, h2)]).await;
    let size = 1_000_000;
    let chunks = format!("{}0\r\n\r\n", format!("3e8\r\n{}\r\n", "x".repeat(1000)).repeat(1000));
    let framings = [
        (format!("content-length: {size}\r\n"), "x".repeat(size)),
        ("transfer-encoding: chunked\r\n".to_owned(), chunks),
        ("transfer-encoding: chunked\r\n".to_owned(), "0\r\n\r\n".to_owned()),
    ];
    let mut all = String::new();
    for (framing, body) in &framings {
        all.push_str(&format!("POST /count HTTP/1.1\r\nhost: a\r\n{framing}\r\n{body}"));
    }
    all.push_str(LAST);
    let answers = answers_to(&world, all).await;
    assert_eq!(statuses(&answers), ["200"; 4]);
    let counts: Vec<_> = answers.split("\r\n\r\n").skip(1).map(|text| text.split("HTTP").next().unwrap()).collect();
    assert_eq!(counts, ["1000000", "1000000", "0", "you asked for /last"]);
    // One that breaks off there does not look whole either.
    let mut stream = world.raw().await;
    stream.write_all(b"POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhel").await.unwrap();
    eventually("it is under way", || world.limits.requests.load(Ordering::SeqCst) == 1).await;
    drop(stream);
    world.settled().await;
    assert!(!world.log.outcomes()[4..].contains(&200), "{:?}", world.log.outcomes());
}
