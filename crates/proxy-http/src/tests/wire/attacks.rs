//! Ends that could be taken for other ends.

use super::super::backend::read_head;
use super::*;
use proxy_route::Respond;

/// Asks as a client does to whom only the end of the connection says that an answer is whole, and reads its beginning.
async fn begun(world: &World) -> Wire<TcpStream> {
    let mut wire = Wire::new(world.raw().await);
    wire.send("GET /a HTTP/1.0\r\nHost: shop.test\r\n\r\n").await;
    wire.until("\r\n\r\nab").await;
    wire
}

#[tokio::test]
async fn an_answer_that_was_cut_short_does_not_look_whole_to_http_1_0() {
    let backend = Backend::that_begins("HTTP/1.1 200 OK\r\n\r\nab").await;
    let world = World::with(vec![forward("all", &backend)], |settings| {
        settings.timeouts.graceful_shutdown = Some(Duration::from_millis(100));
    })
    .await;
    for leaves in [true, false] {
        let mut wire = begun(&world).await;
        if leaves {
            wire.stream.shutdown().await.unwrap();
        } else {
            world.drain.start();
        }
        wire.rest().await;
        assert_eq!(wire.end, Some(false), "it ended in order, leaves: {leaves}");
        world.settled().await;
    }
}

#[tokio::test]
async fn a_request_that_is_there_when_the_drain_begins_is_answered() {
    let backend = Backend::scripted().await;
    for parked in [false, true] {
        let world = World::new(vec![forward("all", &backend)]).await;
        let mut wire = Wire::new(world.raw().await);
        let text = format!("GET /a {FIELD}\r\n");
        wire.send(&text).await;
        wire.answers(&["200 =GET /a"], End::Open).await;
        if parked {
            eventually("it is parked", || world.server.worker.parked.load(Ordering::SeqCst) == 1).await;
        }
        wire.send(&text).await;
        // The socket tells of it now, and the connection's task has not run yet, or has.
        tokio::task::yield_now().await;
        world.drain.start();
        let line = wire.answer(false).await;
        assert_eq!(line.map(|line| line.replacen(" close", "", 1)).as_deref(), Some("200 =GET /a"), "parked: {parked}");
        assert_eq!(wire.answer(false).await, None);
        world.settled().await;
    }
}

#[tokio::test]
async fn a_line_end_behind_a_body_is_not_the_beginning_of_a_request() {
    let backend = Backend::scripted().await;
    let world = World::with(vec![forward("all", &backend)], |settings| {
        settings.timeouts.request_header = Some(Duration::from_millis(800));
    })
    .await;
    let mut wire = Wire::new(world.raw().await);
    for (end, late) in [("", ""), ("\r\n", ""), ("\n\r\n", ""), ("", "\r\n"), ("\r", "\n")] {
        let parked = world.server.worker.parked.load(Ordering::SeqCst);
        wire.send(format!("POST /a {FIELD}Content-Length: 2\r\n\r\nhi{end}")).await;
        wire.answers(&["200 =POST /a 2:hi"], End::Open).await;
        wire.send(late).await;
        eventually("it is parked", || world.server.worker.parked.load(Ordering::SeqCst) > parked).await;
    }
    wire.ends(End::Open, None, true).await;
    world.settled().await;
    assert!(world.log.events().is_empty(), "{:?}", world.log.events());
}

#[tokio::test]
async fn the_last_answer_comes_whole_whatever_was_sent_behind_its_request() {
    const LENGTH: usize = 2 * 1024 * 1024;
    let backend = Backend::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), &vec![b'x'; LENGTH]].concat()).await.unwrap();
    })
    .await;
    let world = World::new(vec![forward("all", &backend)]).await;
    for behind in [0, 100, 300_000] {
        let mut stream = world.narrow().await;
        let text = format!("GET /a {FIELD}Connection: close\r\n\r\n{}", "y".repeat(behind));
        stream.write_all(text.as_bytes()).await.unwrap();
        // The proxy has sent all it has to say before anything is read.
        eventually("the answer is under way", || !world.log.outcomes().is_empty()).await;
        world.log.outcomes.lock().clear();
        let head = soon(read_head(&mut stream)).await;
        assert!(head.contains("connection: close"), "{head}");
        let mut body = vec![0; LENGTH];
        soon(stream.read_exact(&mut body)).await.unwrap_or_else(|error| panic!("{error} with {behind} bytes behind"));
    }
    world.settled().await;
}

#[tokio::test]
async fn the_last_answer_comes_whole_though_more_is_sent_while_it_leaves() {
    // At once in the hands of its connection, which then waits for nothing but the client.
    const LENGTH: usize = 16 * 1024 * 1024;
    let body = "x".repeat(LENGTH);
    let mut route = Route::new("all", Action::Respond(Respond { status: 200, headers: vec![], body }));
    route.matching.ports = vec![PortRange::single(PORT)];
    let world = World::new(vec![route]).await;
    let mut stream = world.narrow().await;
    stream.write_all(format!("GET /a {FIELD}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
    let head = soon(read_head(&mut stream)).await;
    assert!(head.contains("connection: close"), "{head}");
    stream.write_all(format!("GET /b {FIELD}\r\n").as_bytes()).await.unwrap();
    let mut body = Vec::new();
    soon(stream.read_to_end(&mut body)).await.unwrap_or_else(|error| panic!("{error} after {} bytes", body.len()));
    assert_eq!(body.len(), LENGTH);
    world.settled().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_takes_none_before_it_along() {
    const LENGTH: usize = 2 * 1024 * 1024;
    let backend = Backend::raw(|mut stream| async move {
        let head = read_head(&mut stream).await;
        let length = if head.starts_with("GET /cut") { 9 } else { LENGTH };
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        let body = vec![b'x'; if length == 9 { 5 } else { length }];
        stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
    })
    .await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let mut stream = world.narrow().await;
    let behind = format!("GET /b {FIELD}\r\n").repeat(10_000);
    stream.write_all(format!("GET /a {FIELD}\r\nGET /cut {FIELD}\r\n{behind}").as_bytes()).await.unwrap();
    eventually("both answers have left", || world.log.outcomes().len() == 2).await;
    let mut all = Vec::new();
    soon(stream.read_to_end(&mut all)).await.unwrap_or_else(|error| panic!("{error} after {} bytes", all.len()));
    assert_eq!(all.iter().filter(|byte| **byte == b'x').count(), 2 + LENGTH + 5);
    world.settled().await;
}
