//! What a connection of HTTP/1.1 does with bodies, lengths and early answers.

use super::backend::{Backend, answer, read_head, write};
use super::*;
use tokio::sync::oneshot;

/// The whole of a request whose body has a length or chunks.
async fn read_request(stream: &mut tokio::net::TcpStream) -> Option<String> {
    let mut request = read_head(stream).await?;
    let chunked = request.contains("transfer-encoding: chunked\r\n");
    let length = request.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut left: usize = length.unwrap_or(0);
    while left > 0 || chunked && !request.ends_with("\r\n0\r\n\r\n") {
        request.push(char::from(stream.read_u8().await.ok()?));
        left = left.saturating_sub(1);
    }
    Some(request)
}

#[tokio::test]
async fn bodies_of_all_sizes_arrive_whole_both_ways() {
    let backend = Backend::new(|_, mut stream| async move {
        while let Some(request) = read_request(&mut stream).await {
            let body = request.split_once("\r\n\r\n").unwrap().1;
            write(&mut stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            for piece in body.as_bytes().chunks(7919) {
                let piece = std::str::from_utf8(piece).unwrap();
                write(&mut stream, &format!("{:X}\r\n{piece}\r\n", piece.len())).await;
            }
            write(&mut stream, "0\r\n\r\n").await;
        }
    })
    .await;
    let world = World::new(&[backend.port]);
    for length in [1, 100, 8191, 8192, 8193, 70_000, 300_000] {
        let (body, mut client) = streaming(length).await;
        let sent: String = ('a'..='z').cycle().take(length).collect();
        let sending = async {
            client.write_all(sent.as_bytes()).await.unwrap();
            client
        };
        let (response, _client) = tokio::join!(world.send(request(Method::POST, "/", body)), sending);
        assert_eq!(text(response.unwrap()).await.unwrap(), sent, "{length}");
    }
    assert_eq!((backend.accepted(), world.in_flight(), world.events()), (1, 0, vec![]));
}

#[tokio::test]
async fn an_early_answer_does_not_cut_the_request_short() {
    let (finished, all_sent) = oneshot::channel();
    let finished = Arc::new(Mutex::new(Some(finished)));
    let backend = Backend::new(move |_, mut stream| {
        let finished = Arc::clone(&finished);
        async move {
            read_head(&mut stream).await;
            answer(&mut stream, "early").await;
            stream.read_exact(&mut [0; 8]).await.unwrap();
            finished.lock().take().unwrap().send(()).unwrap();
            read_head(&mut stream).await;
            answer(&mut stream, "next").await;
        }
    })
    .await;
    let world = World::new(&[backend.port]);
    let (body, mut client) = streaming(8).await;
    client.write_all(b"half").await.unwrap();
    let response = world.send(request(Method::POST, "/", body)).await.unwrap();
    assert_eq!(text(response).await.unwrap(), "early");
    assert_eq!(world.in_flight(), 1, "the backend is still at work");
    client.write_all(b"rest").await.unwrap();
    all_sent.await.unwrap();
    eventually("it is over", || world.in_flight() == 0).await;
    assert_eq!(world.text("/").await, "next", "on the same connection");
    assert_eq!((backend.accepted(), world.events()), (1, vec![]));
}

#[tokio::test]
async fn a_backend_that_takes_no_more_may_have_answered() {
    let backend = Backend::new(|_, mut stream| async move {
        read_head(&mut stream).await;
        write(&mut stream, "HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno!").await;
    })
    .await;
    let world = World::new(&[backend.port]);
    let (body, mut client) = streaming(1 << 30).await;
    let sending = tokio::spawn(async move { while client.write_all(&[0; 1024]).await.is_ok() {} });
    let response = world.send(request(Method::POST, "/", body)).await;
    // The reset may overtake the answer; whatever it is, it is over.
    if let Ok(response) = response {
        assert_eq!(response.status.as_u16(), 413);
        drop(text(response).await);
    }
    eventually("it is over", || world.in_flight() == 0).await;
    sending.abort();
    assert_eq!(backend.accepted(), 1);
}

#[tokio::test]
async fn a_connection_is_kept_only_if_both_sides_know_where_they_are() {
    for (answer, kept, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", true, "ok"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok", false, "ok"),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", false, "ok"),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok", true, "ok"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false, "ok"),
        ("HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true, ""),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", true, ""),
    ] {
        let backend = Backend::new(move |_, mut stream| async move {
            while read_head(&mut stream).await.is_some() {
                write(&mut stream, answer).await;
            }
        })
        .await;
        let world = World::new(&[backend.port]);
        for _ in 0..2 {
            assert_eq!(world.text("/").await, expected, "{answer}");
        }
        assert_eq!(backend.accepted(), if kept { 1 } else { 2 }, "{answer}");
        assert_eq!((world.in_flight(), world.events()), (0, vec![]));
    }
}

#[tokio::test]
async fn a_body_may_end_with_its_connection() {
    let backend = Backend::new(|_, mut stream| async move {
        read_head(&mut stream).await;
        write(&mut stream, "HTTP/1.1 200 OK\r\n\r\nall there is").await;
    })
    .await;
    let world = World::new(&[backend.port]);
    assert_eq!(world.text("/").await, "all there is");
    assert_eq!((world.in_flight(), world.events()), (0, vec![]));
}

#[tokio::test]
async fn the_answer_to_a_head_has_no_body() {
    let backend = Backend::new(|_, mut stream| async move {
        while read_head(&mut stream).await.is_some() {
            write(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
        }
    })
    .await;
    let world = World::new(&[backend.port]);
    for _ in 0..2 {
        let response = world.send(request(Method::HEAD, "/", RequestBody::Empty)).await.unwrap();
        assert_eq!(response.fields.value(&http::header::CONTENT_LENGTH).unwrap(), "1000");
        assert_eq!(text(response).await.unwrap(), "");
    }
    assert_eq!((backend.accepted(), world.in_flight()), (1, 0));
}

#[tokio::test]
async fn trailers_arrive() {
    let backend = Backend::new(|_, mut stream| async move {
        read_head(&mut stream).await;
        write(&mut stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n")
            .await;
    })
    .await;
    let world = World::new(&[backend.port]);
    let collected = world.get("/").await.unwrap().body.collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "7");
    assert_eq!(collected.to_bytes(), "ok");
}
