//! Heads that are too large, clients that leave, and sides that do not read.

use super::super::backend::read_head;
use super::*;

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_one_below_the_bound_is_not() {
    let backend = Backend::scripted().await;
    let world = World::with(vec![forward("all", &backend)], |settings| settings.max_request_header_bytes = 8192).await;
    let fields = |count: usize| (0..count).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    let cases = [
        (format!("GET /a {FIELD}X: {}\r\n\r\n", "y".repeat(7900)), &["200"][..]),
        (format!("GET /{} {FIELD}\r\n", "y".repeat(7900)), &["200"]),
        (format!("GET /a {FIELD}{}\r\n", fields(99)), &["200"]),
        (format!("GET /a {FIELD}X: {}\r\n\r\n", "y".repeat(9000)), &["431 close"]),
        (format!("GET /a {FIELD}X: {}", "y".repeat(100_000)), &["431 close"]),
        (format!("GET /a {FIELD}{}", "x: yyyyyyyy\r\n".repeat(1000)), &["431 close"]),
        (format!("GET /a {FIELD}{}\r\n", fields(101)), &["431 close"]),
        (format!("GET /{} {FIELD}\r\n", "y".repeat(9000)), &["414 close", "431 close"]),
        (format!("GET /{}", "y".repeat(100_000)), &["414 close", "431 close"]),
        ("y".repeat(100_000), &["400 close", "414 close", "431 close"]),
    ];
    for (text, expected) in &cases {
        for size in [text.len(), 1000] {
            let mut wire = Wire::new(world.raw().await);
            for piece in text.as_bytes().chunks(size) {
                if !wire.send(piece).await {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let line = wire.answer(false).await.expect("an answer");
            let line = line.split_once(" =").map_or(line.as_str(), |(status, _)| status);
            assert!(expected.contains(&line), "{line} to {} bytes, {expected:?}", text.len());
            if line == "200" {
                wire.ends(End::Open, None, true).await;
            } else {
                wire.ends(End::Closed, None, true).await;
                assert!(world.log.events().iter().all(|event| event.0 == "bad_request"), "{:?}", world.log.events());
            }
        }
        world.settled().await;
    }
}

#[tokio::test]
async fn nothing_behind_the_request_for_a_tunnel_to_anywhere_is_looked_at() {
    let (world, backend) = world().await;
    let text = format!("CONNECT shop.test:443 {FIELD}\r\nGET /smuggled {FIELD}\r\n");
    for size in [text.len(), 1] {
        let mut wire = Wire::new(world.raw().await);
        for piece in text.as_bytes().chunks(size) {
            if !wire.send(piece).await {
                break;
            }
        }
        wire.answers(&["405 close"], End::Rough).await;
        wire.ends(End::Rough, None, false).await;
    }
    assert_eq!(*backend.seen.lock(), "");
    world.settled().await;
}

#[tokio::test]
async fn half_a_request_is_none_however_its_client_leaves() {
    let (world, backend) = world().await;
    for text in [
        "POST /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 2\r\n\r\nhi",
        "POST /a HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: y\r\n\r\n",
    ] {
        for cut in 0..text.len() {
            for rough in [false, true] {
                let mut wire = Wire::new(world.raw().await);
                wire.send(&text[..cut]).await;
                tokio::task::yield_now().await;
                if rough {
                    wire.stream.set_zero_linger().unwrap();
                    continue;
                }
                wire.stream.shutdown().await.unwrap();
                let line = wire.answer(false).await;
                assert!(line.as_deref().is_none_or(|line| line == "400 close"), "{line:?} at {cut}");
                wire.ends(End::Rough, None, false).await;
            }
        }
        world.settled().await;
    }
    assert_eq!(*backend.seen.lock(), "");
}

#[tokio::test]
async fn a_client_that_has_nothing_more_to_say_gets_the_whole_answer_or_none() {
    let (world, _backend) = world().await;
    for (target, expected) in [("/a", "200 =GET /a"), ("/chunked", "200 ~hello"), ("/until-close", "200 ~hello")] {
        for _ in 0..20 {
            let mut wire = Wire::new(world.raw().await);
            wire.send(format!("GET {target} {FIELD}\r\n")).await;
            wire.stream.shutdown().await.unwrap();
            let line = wire.answer(false).await.map(|line| line.replacen(" close", "", 1));
            assert!(line.as_deref().is_none_or(|line| line == expected || line == "200 cut"), "{line:?}");
            assert_eq!(wire.answer(false).await, None);
        }
    }
    world.settled().await;
}

/// More than all the buffers between two sides have room for.
const MUCH: usize = 96 * 1024 * 1024;
/// What may be on its way to a side that takes nothing: above all in the buffers of the kernel.
const MOST: usize = 64 * 1024 * 1024;

/// Waits until nobody takes any more; how much was taken.
async fn taken(count: &AtomicUsize) -> usize {
    loop {
        let before = count.load(Ordering::SeqCst);
        // If it is too early to say, less has been taken than could be: that makes nothing fail.
        tokio::time::sleep(Duration::from_millis(200)).await;
        if before > 0 && count.load(Ordering::SeqCst) == before {
            return before;
        }
    }
}

/// Writes so many bytes, and counts those that were taken.
async fn write_counted(to: &mut (impl AsyncWrite + Unpin), length: usize, count: &AtomicUsize) {
    let piece = vec![b'x'; 64 * 1024];
    let mut left = length;
    while left > 0 {
        let Ok(written @ 1..) = to.write(&piece[..piece.len().min(left)]).await else { return };
        left -= written;
        count.fetch_add(written, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_not_taken_from_its_backend_either() {
    for head in [format!("content-length: {MUCH}"), "connection: close".to_owned()] {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let backend = Backend::raw(move |mut stream| {
            let (count, head) = (Arc::clone(&counted), head.clone());
            async move {
                read_head(&mut stream).await;
                stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes()).await.unwrap();
                write_counted(&mut stream, MUCH, &count).await;
            }
        })
        .await;
        let world = World::new(vec![forward("all", &backend)]).await;
        let mut stream = world.narrow().await;
        stream.write_all(format!("GET /a {FIELD}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
        let taken = taken(&count).await;
        assert!(taken < MOST, "{taken} bytes are under way");
        // It goes on where it stopped.
        let mut got = 0;
        let mut space = vec![0; 256 * 1024];
        while let Ok(read @ 1..) = soon(stream.read(&mut space)).await {
            got += space[..read].iter().filter(|byte| **byte == b'x').count();
        }
        assert!(got >= MUCH, "{got} bytes came of {MUCH}");
        world.settled().await;
    }
}

#[tokio::test]
async fn a_request_that_is_not_read_is_not_taken_from_its_client_either() {
    let go = Arc::new(tokio::sync::Notify::new());
    let gone = Arc::clone(&go);
    let backend = Backend::raw(move |mut stream| {
        let go = Arc::clone(&gone);
        async move {
            read_head(&mut stream).await;
            go.notified().await;
            let (mut got, mut space) = (0, vec![0; 256 * 1024]);
            while got < MUCH {
                let Ok(read @ 1..) = stream.read(&mut space).await else { return };
                got += read;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
        }
    })
    .await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let (mut reading, mut writing) = world.raw().await.into_split();
    writing.write_all(format!("POST /a {FIELD}Content-Length: {MUCH}\r\n\r\n").as_bytes()).await.unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let writer = tokio::spawn(async move {
        write_counted(&mut writing, MUCH, &counted).await;
        writing
    });
    let taken = taken(&count).await;
    assert!(taken < MOST, "{taken} bytes are under way");
    go.notify_one();
    let writing = writer.await.unwrap();
    assert!(soon(read_head(&mut reading)).await.starts_with("HTTP/1.1 200"));
    drop((reading, writing));
    world.settled().await;
}

#[tokio::test]
async fn a_client_that_breaks_off_in_an_answer_frees_the_backend() {
    let backend = Backend::that_begins("HTTP/1.1 200 OK\r\n\r\nab").await;
    let world = World::new(vec![forward("all", &backend)]).await;
    for version in ["1.0", "1.1"] {
        for rough in [false, true] {
            let mut wire = Wire::new(world.raw().await);
            wire.send(format!("GET /a HTTP/{version}\r\nHost: shop.test\r\n\r\n")).await;
            while !String::from_utf8_lossy(&wire.got).contains("ab") {
                wire.fill().await;
            }
            if rough {
                wire.stream.set_zero_linger().unwrap();
            }
            drop(wire);
            world.settled().await;
        }
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_with_more_requests_behind_frees_the_backend() {
    let backend = Backend::that_begins("").await;
    let world = World::new(vec![forward("all", &backend)]).await;
    for rough in [false, true] {
        let mut wire = Wire::new(world.raw().await);
        wire.send(format!("GET /a {FIELD}\r\nGET /b {FIELD}\r\n")).await;
        eventually("one is under way", || world.limits.requests.load(Ordering::SeqCst) == 1).await;
        if rough {
            wire.stream.set_zero_linger().unwrap();
        }
        drop(wire);
        world.settled().await;
    }
    assert_eq!((world.log.outcomes(), world.log.events()), (vec![499; 2], vec![]));
}
