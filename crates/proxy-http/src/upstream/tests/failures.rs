//! Backends that fail, and clients that do.

use super::backend::{Backend, answer, nobody, read_head, write};
use super::*;
use tokio::io::AsyncReadExt;

fn quick(settings: &mut Settings) {
    settings.timeouts.response = Some(Duration::from_millis(100));
}

#[tokio::test]
async fn no_backend_is_a_502() {
    let world = World::new(&[nobody().await, nobody().await]);
    let error = world.get("/").await.unwrap_err();
    assert_eq!(error, UpstreamError::Unreachable { timed_out: false });
    assert_eq!(error.status().as_u16(), 502);
    assert_eq!(world.events(), ["dial_refused"; 2]);
    assert_eq!(world.in_flight(), 0);
}

#[tokio::test]
async fn an_answer_too_late_is_a_504() {
    let backend = Backend::new(|_, mut stream| async move {
        read_head(&mut stream).await;
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "the connection is given up");
    })
    .await;
    let world = World::with(&[backend.port], |_| {}, quick, None);
    let error = world.get("/").await.unwrap_err();
    assert_eq!((error, error.status().as_u16()), (UpstreamError::TimedOut, 504));
    assert_eq!((world.events(), world.in_flight()), (vec!["response_timeout"], 0));
    eventually("the backend sees the end", || backend.closed() == 1).await;
}

#[tokio::test]
async fn the_clock_stands_while_the_client_keeps_us_waiting() {
    let backend = Backend::new(|_, mut stream| async move {
        read_head(&mut stream).await;
        stream.read_exact(&mut [0; 4]).await.unwrap();
        answer(&mut stream, "ok").await;
    })
    .await;
    let world = World::with(&[backend.port], |_| {}, quick, None);
    let (body, mut client) = streaming(4).await;
    let slowly = async {
        // Slower than a backend may be.
        tokio::time::sleep(Duration::from_millis(300)).await;
        client.write_all(b"data").await.unwrap();
    };
    let (response, ()) = tokio::join!(world.send(request(Method::POST, "/", body)), slowly);
    assert_eq!(text(response.unwrap()).await.unwrap(), "ok");
    assert_eq!(world.events(), [""; 0]);
}

#[tokio::test]
async fn the_clock_runs_once_the_body_is_sent() {
    let backend = Backend::new(|_, mut stream| async move {
        read_head(&mut stream).await;
        drop(stream.read_to_end(&mut Vec::new()).await);
    })
    .await;
    let world = World::with(&[backend.port], |_| {}, quick, None);
    let (body, mut client) = streaming(4).await;
    client.write_all(b"data").await.unwrap();
    let error = world.send(request(Method::POST, "/", body)).await.unwrap_err();
    assert_eq!((error, world.events()), (UpstreamError::TimedOut, vec!["response_timeout"]));
}

#[tokio::test]
async fn what_is_not_http_is_a_502() {
    let backend = Backend::new(|_, mut stream| async move {
        read_head(&mut stream).await;
        write(&mut stream, "SSH-2.0-OpenSSH\r\n\r\n").await;
    })
    .await;
    let world = World::new(&[backend.port]);
    let error = world.get("/").await.unwrap_err();
    assert_eq!((error, error.status().as_u16()), (UpstreamError::Malformed, 502));
    assert_eq!((world.events(), world.in_flight()), (vec!["response_malformed"], 0));
}

#[tokio::test]
async fn a_new_connection_that_breaks_off_is_not_replaced() {
    let backend = Backend::new(|_, mut stream| async move {
        read_head(&mut stream).await;
    })
    .await;
    let world = World::new(&[backend.port]);
    assert_eq!(world.get("/").await.unwrap_err(), UpstreamError::Lost);
    assert_eq!((backend.accepted(), world.events()), (1, vec!["connection_lost"]));
}

#[tokio::test]
async fn a_response_cut_short_is_an_error() {
    for start in ["content-length: 10\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let backend = Backend::new(move |_, mut stream| async move {
            read_head(&mut stream).await;
            write(&mut stream, &format!("HTTP/1.1 200 OK\r\n{start}")).await;
        })
        .await;
        let world = World::new(&[backend.port]);
        let response = world.get("/").await.unwrap();
        assert!(text(response).await.is_err(), "{start:?} is not the whole");
        assert_eq!((world.events(), world.in_flight()), (vec!["connection_lost"], 0));
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_is_no_failure_of_the_backend() {
    let backend = Backend::new(|_, mut stream| async move {
        read_head(&mut stream).await;
        drop(stream.read_to_end(&mut Vec::new()).await);
    })
    .await;
    let world = World::new(&[backend.port]);
    let (body, mut client) = streaming(4).await;
    client.write_all(b"da").await.unwrap();
    drop(client);
    let error = world.send(request(Method::POST, "/", body)).await.unwrap_err();
    assert_eq!((error, error.status().as_u16()), (UpstreamError::RequestBody, 400));
    assert_eq!((world.events(), world.in_flight()), (vec![], 0));
}

#[tokio::test]
async fn a_request_given_up_ends_its_connection() {
    let backend = Backend::new(|_, mut stream| async move { while read_head(&mut stream).await.is_some() {} }).await;
    let world = World::new(&[backend.port]);
    let given_up = tokio::time::timeout(Duration::from_millis(100), world.get("/")).await;
    assert!(given_up.is_err());
    assert_eq!(world.in_flight(), 0);
    eventually("the backend sees the end", || backend.closed() == backend.accepted()).await;
}

#[tokio::test]
async fn a_backend_that_stalls_before_requests_is_a_504_for_all_who_wait() {
    let backend = Backend::new(|_, mut stream| async move {
        drop(stream.read_to_end(&mut Vec::new()).await);
    })
    .await;
    let insecure = |forward: &mut Forward| forward.backend_tls.insecure_skip_verify = true;
    let hurried = |settings: &mut Settings| settings.timeouts.connect = Some(Duration::from_millis(100));
    let world = World::with(&[backend.port], insecure, hurried, Some(TlsMode::TerminateAndReencrypt));
    for answered in futures_util::future::join_all((0..8).map(|_| world.get("/"))).await {
        let error = answered.unwrap_err();
        assert_eq!((error, error.status().as_u16()), (UpstreamError::Unreachable { timed_out: true }, 504));
    }
    assert_eq!((world.events().len(), world.in_flight()), (8, 0));
}

#[tokio::test]
async fn an_answer_nobody_asked_for_is_not_taken_for_the_next() {
    let backend = Backend::new(|number, mut stream| async move {
        read_head(&mut stream).await;
        let smuggled = if number == 0 { "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil" } else { "" };
        write(&mut stream, &format!("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood{smuggled}")).await;
        drop(stream.read_to_end(&mut Vec::new()).await);
    })
    .await;
    let world = World::new(&[backend.port]);
    for _ in 0..2 {
        assert_eq!(world.text("/").await, "good");
    }
    assert_eq!((backend.accepted(), world.in_flight()), (2, 0));
}

/// Takes a request and breaks off.
async fn breaks_off() -> Backend {
    Backend::new(|_, mut stream| async move {
        read_head(&mut stream).await;
    })
    .await
}

#[tokio::test]
async fn what_may_be_repeated_goes_to_the_next_backend_and_nothing_else_does() {
    for (method, again) in [(Method::GET, true), (Method::DELETE, true), (Method::POST, false), (Method::PATCH, false)]
    {
        let (broken, well) = (breaks_off().await, Backend::patient().await);
        let world = World::new(&[broken.port, well.port]);
        let answered = world.send(request(method.clone(), "/", RequestBody::Empty)).await;
        assert_eq!(world.events(), ["connection_lost"], "{method}");
        assert_eq!((broken.accepted(), well.accepted()), (1, usize::from(again)), "{method}");
        match answered {
            Ok(response) => assert!(again && text(response).await.unwrap() == "ok"),
            Err(error) => assert_eq!((error, again), (UpstreamError::Lost, false), "{method}"),
        }
    }
    // With a body it is gone, or may be.
    let (broken, well) = (breaks_off().await, Backend::patient().await);
    let world = World::new(&[broken.port, well.port]);
    let (body, mut client) = streaming(4).await;
    client.write_all(b"data").await.unwrap();
    assert!(world.send(request(Method::PUT, "/", body)).await.is_err());
    assert_eq!(well.accepted(), 0);
    // If all of them break off, each was asked once.
    let all = [breaks_off().await, breaks_off().await, breaks_off().await];
    let world = World::new(&[all[0].port, all[1].port, all[2].port]);
    assert_eq!(world.get("/").await.unwrap_err(), UpstreamError::Lost);
    assert_eq!(all.each_ref().map(Backend::accepted), [1, 1, 1]);
    assert_eq!(world.in_flight(), 0);
}

#[tokio::test]
async fn a_backend_that_is_full_is_passed_over() {
    let (one, other) = (Backend::patient().await, Backend::patient().await);
    let limited = |forward: &mut Forward| forward.targets.iter_mut().for_each(|target| target.max_connections = 1);
    let world = World::with(&[one.port, other.port], limited, |_| {}, None);
    let backends = world.generation.clusters[0].as_ref().unwrap().backends();
    let held = backends[0].count().unwrap();
    for _ in 0..4 {
        assert_eq!(text(world.get("/").await.unwrap()).await.unwrap(), "ok");
    }
    assert_eq!((one.accepted(), other.accepted()), (0, 1));
    let rest = backends[1].count().unwrap();
    let error = world.get("/").await.unwrap_err();
    assert_eq!((error, error.status().as_u16(), world.events()), (UpstreamError::Full, 503, vec!["target_limit"]));
    drop((held, rest));
    assert_eq!(world.in_flight(), 0);
}

#[tokio::test]
async fn a_backend_does_not_pay_for_the_time_that_another_one_took() {
    let well = Backend::patient().await;
    let least = |forward: &mut Forward| forward.algorithm = proxy_route::Algorithm::LeastConnections;
    let mut world = World::with(&[nobody().await, well.port], least, |_| {}, None);
    // So that the other one is tried first.
    let _held = world.generation.clusters[0].as_ref().unwrap().backends()[1].count().unwrap();
    assert_eq!(world.text("/").await, "ok");
    // Much longer than a response may take.
    world.age = Duration::from_secs(3600);
    assert_eq!(world.text("/").await, "ok", "over the connection that was kept");
    assert_eq!((well.accepted(), world.events()), (1, vec!["dial_refused"; 2]));
}

#[tokio::test]
async fn nobody_is_asked_while_all_are_down() {
    let backend = Backend::patient().await;
    let checked = |forward: &mut Forward| forward.health_check = Some(proxy_route::HealthCheck::default());
    let world = World::with(&[backend.port], checked, |_| {}, None);
    let only = &world.generation.clusters[0].as_ref().unwrap().backends()[0];
    only.checked.note(&proxy_route::HealthCheck::default(), std::time::Instant::now(), Err("refused".to_owned()));
    let error = world.get("/").await.unwrap_err();
    assert_eq!((error, error.status().as_u16()), (UpstreamError::NoneHealthy, 503));
    assert_eq!((backend.accepted(), world.events()), (0, vec!["no_healthy_backend"]));
}
