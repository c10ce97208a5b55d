//! Keeping connections, and replacing dead ones.

use super::backend::{Backend, answer, nobody, read_head, write};
use super::*;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let backend = Backend::patient().await;
    let world = World::new(&[backend.port]);
    for _ in 0..5 {
        assert_eq!(world.text("/").await, "ok");
    }
    assert_eq!(backend.accepted(), 1);
    assert_eq!((world.in_flight(), world.events()), (0, vec![]));
}

#[tokio::test]
async fn an_unread_response_keeps_its_connection_and_its_count() {
    let backend = Backend::patient().await;
    let world = World::new(&[backend.port]);
    let response = world.get("/").await.unwrap();
    assert_eq!(world.in_flight(), 1);
    assert_eq!(world.text("/").await, "ok");
    assert_eq!(backend.accepted(), 2);
    drop(response);
    assert_eq!(world.in_flight(), 0);
    eventually("a response that nobody read closes its connection", || backend.closed() == 1).await;
}

#[tokio::test]
async fn a_response_without_body_gives_the_connection_back_at_once() {
    let backend = Backend::new(|_, mut stream| async move {
        while read_head(&mut stream).await.is_some() {
            write(&mut stream, "HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await;
    let world = World::new(&[backend.port]);
    let first = world.get("/").await.unwrap();
    assert_eq!(world.in_flight(), 0);
    world.get("/").await.unwrap();
    assert_eq!(backend.accepted(), 1);
    drop(first);
}

/// A backend that closes its first connection on the second request, without an answer.
async fn forgetful() -> Backend {
    Backend::new(|number, mut stream| async move {
        read_head(&mut stream).await;
        answer(&mut stream, "ok").await;
        while read_head(&mut stream).await.is_some() && number > 0 {
            answer(&mut stream, "again").await;
        }
    })
    .await
}

#[tokio::test]
async fn a_get_on_a_dead_kept_connection_is_sent_again() {
    let backend = forgetful().await;
    let world = World::new(&[backend.port]);
    assert_eq!(world.text("/").await, "ok");
    assert_eq!(world.text("/").await, "ok", "answered by a new connection");
    assert_eq!((backend.accepted(), world.events()), (2, vec![]));
    eventually("all counts are given back", || world.in_flight() == 0).await;
}

#[tokio::test]
async fn what_may_have_been_done_is_not_sent_again() {
    for with_body in [false, true] {
        let backend = forgetful().await;
        let world = World::new(&[backend.port]);
        assert_eq!(world.text("/").await, "ok");
        let (body, client) = if with_body {
            let (body, mut client) = streaming(4).await;
            client.write_all(b"data").await.unwrap();
            (body, Some(client))
        } else {
            (RequestBody::Empty, None)
        };
        let error = world.send(request(Method::POST, "/", body)).await.unwrap_err();
        assert_eq!(error, UpstreamError::Lost);
        assert_eq!(error.status().as_u16(), 502);
        assert_eq!((backend.accepted(), world.events()), (1, vec!["connection_lost"]));
        assert_eq!(world.in_flight(), 0);
        drop(client);
    }
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_not_used() {
    let backend = Backend::new(|_, mut stream| async move {
        read_head(&mut stream).await;
        answer(&mut stream, "ok").await;
    })
    .await;
    let world = World::new(&[backend.port]);
    assert_eq!(world.text("/").await, "ok");
    eventually("the backend has closed", || backend.closed() == 1).await;
    let (body, mut client) = streaming(4).await;
    client.write_all(b"data").await.unwrap();
    let response = world.send(request(Method::POST, "/", body)).await.unwrap();
    assert_eq!(text(response).await.unwrap(), "ok", "even a POST, which cannot be sent twice");
    assert_eq!((backend.accepted(), world.events()), (2, vec![]));
}

#[tokio::test]
async fn idle_connections_go_away() {
    let http1 = Backend::patient().await;
    let http2 = Backend::http2(|_| "ok".to_owned()).await;
    for (backend, protocol) in
        [(&http1, proxy_route::BackendProtocol::Http1), (&http2, proxy_route::BackendProtocol::Http2)]
    {
        let mut world = World::with(&[backend.port], |forward| forward.backend_protocol = protocol, |_| {}, None);
        let limits = PoolLimits { idle_age: Duration::from_millis(50), ..PoolLimits::default() };
        world.pools = Pools::new(limits, Arc::clone(&world.events) as Arc<dyn Report>);
        assert_eq!(world.text("/").await, "ok");
        eventually("an idle connection is closed", || backend.closed() == 1).await;
        assert_eq!(world.text("/").await, "ok");
        assert_eq!(backend.accepted(), 2);
        eventually("it is closed again", || backend.closed() == 2).await;
    }
}

#[tokio::test]
async fn connections_end_with_the_pools() {
    let backend = Backend::patient().await;
    let world = World::new(&[backend.port]);
    assert_eq!(world.text("/").await, "ok");
    drop(world);
    eventually("the connection is closed", || backend.closed() == 1).await;
}

#[tokio::test]
async fn no_more_connections_are_kept_than_allowed() {
    let backend = Backend::patient().await;
    let mut world = World::new(&[backend.port]);
    let limits = PoolLimits { idle_per_backend: 2, ..PoolLimits::default() };
    world.pools = Pools::new(limits, Arc::clone(&world.events) as Arc<dyn Report>);
    let mut responses = Vec::new();
    for _ in 0..5 {
        responses.push(world.get("/").await.unwrap());
    }
    for response in responses {
        assert_eq!(text(response).await.unwrap(), "ok");
    }
    eventually("three of five are closed", || backend.closed() == 3).await;
}

#[tokio::test]
async fn a_connection_comes_back_after_the_request_has_been_sent() {
    let backend = Backend::new(|_, mut stream| async move {
        read_head(&mut stream).await;
        answer(&mut stream, "early").await;
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        while read_head(&mut stream).await.is_some() {
            answer(&mut stream, "later").await;
        }
    })
    .await;
    let world = World::new(&[backend.port]);
    let (body, mut client) = streaming(4).await;
    let response = world.send(request(Method::POST, "/", body)).await.unwrap();
    assert_eq!(text(response).await.unwrap(), "early");
    assert_eq!(world.in_flight(), 1, "the backend is still taking the request");
    client.write_all(b"data").await.unwrap();
    eventually("the request has been sent", || world.in_flight() == 0).await;
    assert_eq!(world.text("/").await, "later");
    assert_eq!(backend.accepted(), 1);
}

#[tokio::test]
async fn a_connection_with_a_proxy_header_serves_one_request() {
    let backend = Backend::new(|_, mut stream| async move {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(stream.read_u8().await.unwrap());
        }
        read_head(&mut stream).await;
        answer(&mut stream, String::from_utf8(line).unwrap().trim_end()).await;
        stream.read_u8().await.unwrap_err();
    })
    .await;
    let proxied = |forward: &mut Forward| forward.targets[0].send_proxy = Some(proxy_route::ProxyVersion::V1);
    let world = World::with(&[backend.port], proxied, |_| {}, None);
    for _ in 0..2 {
        assert_eq!(world.text("/").await, "PROXY TCP4 203.0.113.7 198.51.100.1 4711 443");
    }
    assert_eq!(backend.accepted(), 2);
    eventually("both are closed", || backend.closed() == 2).await;
}

#[tokio::test]
async fn the_next_backend_is_tried_and_each_failure_told() {
    let backend = Backend::patient().await;
    let world = World::new(&[nobody().await, backend.port]);
    for _ in 0..4 {
        assert_eq!(world.text("/").await, "ok");
    }
    assert_eq!(world.events(), ["dial_refused"; 2], "every second request begins at the dead one");
    assert_eq!(world.in_flight(), 0);
}

#[tokio::test]
async fn a_connection_that_says_goodbye_is_replaced() {
    let backend = Backend::new(|_, stream| async move {
        let answered = Arc::new(tokio::sync::Notify::new());
        let service = service_fn(|_| {
            answered.notify_one();
            async { Ok::<_, std::convert::Infallible>(http::Response::new("ok".to_owned())) }
        });
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = answered.notified() => connection.as_mut().graceful_shutdown(),
        }
        drop(connection.await);
    })
    .await;
    let http2 = |forward: &mut Forward| forward.backend_protocol = proxy_route::BackendProtocol::Http2;
    let world = World::with(&[backend.port], http2, |_| {}, None);
    for connections in 1..4 {
        assert_eq!(world.text("/").await, "ok");
        assert_eq!(backend.accepted(), connections);
        eventually("the backend has closed", || backend.closed() == connections).await;
    }
    assert_eq!((world.events(), world.in_flight()), (vec![], 0));
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_closed_too() {
    let backend = Backend::new(|_, mut stream| async move {
        read_head(&mut stream).await;
        answer(&mut stream, "ok").await;
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "the other side closes too");
    })
    .await;
    let world = World::new(&[backend.port]);
    assert_eq!(world.text("/").await, "ok");
    eventually("it is closed without being asked for", || backend.closed() == 1).await;
}

#[tokio::test]
async fn what_a_wave_has_left_behind_goes_unless_the_next_one_needs_it() {
    let backend = Backend::patient().await;
    let mut world = World::new(&[backend.port]);
    let limits = PoolLimits { idle_at_rest: 2, ..PoolLimits::default() };
    world.pools = Pools::new(limits, Arc::clone(&world.events) as Arc<dyn Report>);
    for _ in 0..2 {
        let wave = futures_util::future::join_all((0..8).map(|_| world.text("/"))).await;
        assert_eq!((wave.len(), backend.accepted()), (8, 8), "the second wave dials nobody");
    }
    world.pools.sweep();
    assert_eq!(world.text("/").await, "ok");
    world.pools.sweep();
    eventually("of the seven that rested, two are kept", || backend.closed() == 5).await;
    futures_util::future::join_all((0..3).map(|_| world.text("/"))).await;
    assert_eq!(backend.accepted(), 8, "three are left");
}
