//! Which route answers, in every protocol, and what it is told.

use super::client::{exchange, get, get2, text};
use super::*;
use http::{HeaderValue, Request, StatusCode};
use proxy_route::{BackendProtocol, HeaderPattern, Redirect, Respond};

#[tokio::test]
async fn every_protocol_is_forwarded() {
    let backend = Backend::start().await;
    let world = World::new(vec![forward("plain", &backend), over_tls(forward("tls", &backend))]).await;
    let (mut http1, mut https1) = (world.http1().await, world.https1().await);
    let (mut http2, mut https2) = (world.http2().await, world.https2().await);
    for round in ["/a", "/b"] {
        let expected = format!("you asked for {round}");
        assert_eq!(text(soon(http1.send_request(get("shop.test", round))).await.unwrap()).await, expected);
        assert!(backend.seen.lock().contains("x-forwarded-proto: http\n"));
        assert_eq!(text(soon(https1.send_request(get("shop.test", round))).await.unwrap()).await, expected);
        assert!(backend.seen.lock().contains("x-forwarded-proto: https\n"));
        assert_eq!(text(soon(http2.send_request(get2("shop.test", round))).await.unwrap()).await, expected);
        assert!(backend.seen.lock().contains("host: shop.test\n"));
        assert_eq!(text(soon(https2.send_request(get2("shop.test", round))).await.unwrap()).await, expected);
    }
    assert_eq!(world.limits.held(), 4);
    assert_eq!(world.limits.bound(), 4);
    assert_eq!(world.log.handshakes.load(Ordering::SeqCst), 2);
    drop((http1, https1, http2, https2));
    world.settled().await;
    assert_eq!(world.log.outcomes(), [200; 8]);
    assert!(world.log.events().is_empty(), "{:?}", world.log.events());
}

#[tokio::test]
async fn a_host_arrives_however_it_was_named() {
    let (h1, h2) = (Backend::start().await, Backend::start_h2().await);
    let to_h2 = forward_with("h2", &h2, |rules| rules.backend_protocol = BackendProtocol::Http2);
    for (backend, mut route, named) in
        [(&h1, forward("h1", &h1), "\nhost: shop.test:81\n"), (&h2, to_h2, "GET http://shop.test:81/a\n")]
    {
        // With a rule for fields the host is among them, without one it stays where it came.
        for rules in [vec![], vec![("x-env".into(), Some("prod".into()))]] {
            route.headers.request.0 = rules;
            let world = World::new(vec![route.clone()]).await;
            let (mut http1, mut http2) = (world.http1().await, world.http2().await);
            let absolute = Request::builder().uri("http://shop.test:81/a").header("host", "other.test");
            let mut cased = get2("shop.test:81", "/a");
            cased.headers_mut().insert("host", HeaderValue::from_static("SHOP.test:81"));
            for response in [
                soon(http1.send_request(get("shop.test:81", "/a"))).await,
                soon(http1.send_request(absolute.body(Default::default()).unwrap())).await,
                soon(http2.send_request(get2("shop.test:81", "/a"))).await,
                soon(http2.send_request(cased)).await,
            ] {
                assert_eq!(text(response.unwrap()).await, "you asked for /a");
                let seen = backend.seen.lock().clone();
                assert!(seen.contains(named), "{named:?} is not in {seen}");
                let told: Vec<_> = seen.lines().filter(|line| line.contains("host: ")).collect();
                assert!(told.contains(&"x-forwarded-host: shop.test:81"), "{seen}");
                assert_eq!(told.len(), if named.contains("host") { 2 } else { 1 }, "{seen}");
            }
        }
    }
}

#[tokio::test]
async fn host_path_and_headers_choose_and_each_route_is_bound_once() {
    let backend = Backend::start().await;
    let respond = |body: &str| Action::Respond(Respond { status: 200, headers: vec![], body: body.into() });
    let mut routes = vec![];
    for (name, domain, path, header) in
        [("a", "a.test", None, None), ("api", "a.test", Some("/api/*"), None), ("v2", "a.test", None, Some("2"))]
    {
        let mut route = Route::new(name, respond(name));
        route.matching.ports = vec![PortRange::single(PORT)];
        route.matching.domains = vec![domain.parse().unwrap()];
        route.matching.path = path.map(Into::into);
        route.matching.headers =
            header.into_iter().map(|value| ("x-version".to_owned(), HeaderPattern::Exact(value.to_owned()))).collect();
        routes.push(route);
    }
    let mut other = forward("b", &backend);
    other.matching.domains = vec!["b.test".parse().unwrap()];
    routes.push(other);
    let world = World::new(routes).await;
    let mut client = world.http1().await;
    for (host, path, version, expected) in [
        ("a.test", "/", "1", "a"),
        ("A.TEST:8080", "/", "1", "a"),
        ("a.test", "/api/x?y", "1", "api"),
        ("a.test", "/", "2", "v2"),
        ("b.test", "/z", "1", "you asked for /z"),
        ("a.test", "/", "1", "a"),
    ] {
        let mut request = get(host, path);
        request.headers_mut().insert("x-version", version.parse().unwrap());
        assert_eq!(text(soon(client.send_request(request)).await.unwrap()).await, expected, "{host}{path}");
    }
    assert_eq!(world.limits.bound(), 4, "one connection on four routes");
    assert_eq!(world.limits.held(), 1);
    // In HTTP/2 it is a part of the value; a backend, told in HTTP/1.1, would not see it.
    let mut spaced = get2("a.test", "/");
    spaced.headers_mut().insert("x-version", HeaderValue::from_static(" 2\t"));
    assert_eq!(text(soon(world.http2().await.send_request(spaced)).await.unwrap()).await, "v2");
    let missing = soon(client.send_request(get("c.test", "/"))).await.unwrap();
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    drop(client);
    world.settled().await;
    assert_eq!(world.log.events(), [("bad_request", "no_route")]);
}

#[tokio::test]
async fn the_proxy_answers_by_itself() {
    let mut redirect =
        Route::new("to", Action::Redirect(Redirect { to: "https://{domain}{path}".into(), status: 308 }));
    redirect.matching.ports = vec![PortRange::single(PORT)];
    let mut block = Route::new("no", Action::Block);
    block.matching.ports = vec![PortRange::single(PORT)];
    block.matching.path = Some("/no".into());
    let mut listed = Route::new("listed", Action::Block);
    listed.matching.ports = vec![PortRange::single(PORT)];
    listed.matching.path = Some("/listed".into());
    listed.security.access.block = ["127.0.0.0/8".parse::<ipnet::IpNet>().unwrap()].into_iter().collect();
    let world = World::new(vec![redirect, block, listed]).await;
    let mut client = world.http1().await;
    let response = soon(client.send_request(get("a.test:80", "/x?y=1"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(response.headers()["location"], "https://a.test/x?y=1");
    text(response).await;
    for path in ["/no", "/listed"] {
        let response = soon(client.send_request(get("a.test", path))).await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path}");
        text(response).await;
    }
    drop(client);
    world.settled().await;
    assert_eq!(world.log.events(), [("blocked", "block_route"), ("blocked", "block_list")]);
}

#[tokio::test]
async fn an_unusable_head_is_refused_and_reported() {
    let backend = Backend::start().await;
    let world = World::with(vec![forward("all", &backend)], |settings| settings.max_request_header_bytes = 8192).await;
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(9000));
    for (head, status, event) in [
        ("GET / HTTP/1.1\r\n\r\n", "400", "request_malformed"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400", "request_malformed"),
        ("GET / HTTP/1.1\r\nhost: a@b\r\n\r\n", "400", "request_malformed"),
        ("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", "405", "request_malformed"),
        ("GET a HTTP/1.1\r\nhost: a\r\n\r\n", "400", "request_malformed"),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n", "501", "request_malformed"),
        ("nonsense\r\n\r\n", "400", "request_malformed"),
        ("GET / HTTP/1.1\r\nbad header: 1\r\n\r\n", "400", "request_malformed"),
        ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", "400", "request_malformed"),
        (&long, "431", "header_too_large"),
    ] {
        let answer = exchange(world.raw().await, head.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head:?} was answered {answer:?}");
        let expected = ("bad_request", event);
        eventually("the event", || world.log.events().last() == Some(&expected)).await;
        world.log.events.lock().clear();
    }
    world.settled().await;
    assert_eq!(backend.accepted.load(Ordering::SeqCst), 0);
    // A client that leaves without a word, or in the middle of a head, is no event of a bad request.
    drop(world.raw().await);
    world.settled().await;
    assert!(world.log.events().is_empty(), "{:?}", world.log.events());
}

#[tokio::test]
async fn rewriting_holds_both_ways() {
    let backend = Backend::start().await;
    let mut route = forward("all", &backend);
    route.headers.request.0 = vec![("x-env".into(), Some("prod".into())), ("x-secret".into(), None)];
    route.headers.response.0 = vec![("x-stays".into(), None), ("x-new".into(), Some("1".into()))];
    let world = World::new(vec![route]).await;
    let mut client = world.http1().await;
    let mut request = get("shop.test", "/hops?q=1");
    for (name, value) in [
        ("x-secret", "1"),
        ("x-forwarded-for", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1"),
        ("connection", "x-mine"),
        ("x-mine", "1"),
        ("te", "trailers, gzip"),
        ("upgrade", "h2c"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let response = soon(client.send_request(request)).await.unwrap();
    let names: Vec<_> = response.headers().keys().map(|name| name.as_str().to_owned()).collect();
    assert!(names.contains(&"x-new".to_owned()));
    for gone in ["connection", "x-hop", "keep-alive", "x-stays"] {
        assert!(!names.contains(&gone.to_owned()), "{gone} in {names:?}");
    }
    text(response).await;
    let seen = backend.seen.lock().clone();
    for expected in [
        "GET /hops?q=1\n",
        "host: shop.test\n",
        "x-env: prod\n",
        "x-forwarded-for: 127.0.0.1\n",
        "te: trailers\n",
        "x-forwarded-host: shop.test\n",
        "x-forwarded-port: 8080\n",
    ] {
        assert!(seen.contains(expected), "{expected:?} is not in {seen}");
    }
    for gone in ["x-secret", "forwarded: ", "x-mine", "connection", "upgrade"] {
        assert!(!seen.lines().any(|line| line.starts_with(gone)), "{gone} in {seen}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_speak_http2_is_reported() {
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // A DATA frame on stream 0.
    let broken = [preface.as_slice(), &[0, 0, 0, 4, 0, 0, 0, 0, 0], &[0, 0, 1, 0, 0, 0, 0, 0, 0, 7]].concat();
    exchange(world.raw().await, &broken).await;
    world.settled().await;
    assert_eq!(world.log.events(), [("bad_request", "request_malformed")]);
    // One that resets its connection is not.
    let mut client = world.http2().await;
    text(soon(client.send_request(get2("a", "/x"))).await.unwrap()).await;
    drop(client);
    let stream = world.raw().await;
    stream.try_write(preface).unwrap();
    stream.set_zero_linger().unwrap();
    drop(stream);
    world.settled().await;
    assert_eq!(world.log.events().len(), 1);
}

#[tokio::test]
async fn a_trusted_peer_names_the_client() {
    let backend = Backend::start().await;
    let mut inside = forward("inside", &backend);
    inside.matching.client_ip = Some(["192.0.2.0/24".parse::<ipnet::IpNet>().unwrap()].into_iter().collect());
    inside.security.access.block = ["192.0.2.66/32".parse::<ipnet::IpNet>().unwrap()].into_iter().collect();
    let world = World::with(vec![inside], |settings| {
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        settings.access.block = ["192.0.2.77/32".parse::<ipnet::IpNet>().unwrap()].into_iter().collect();
    })
    .await;
    let mut client = world.http1().await;
    for (said, status) in
        [("192.0.2.1", 200), ("198.51.100.1, 192.0.2.1", 200), ("192.0.2.66", 403), ("192.0.2.77", 403)]
    {
        let mut request = get("a", "/x");
        request.headers_mut().insert("x-forwarded-for", said.parse().unwrap());
        let response = soon(client.send_request(request)).await.unwrap();
        assert_eq!(response.status(), status, "{said}");
        text(response).await;
    }
    let response = soon(client.send_request(get("a", "/x"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND, "the peer itself is not inside");
    drop(client);
    world.settled().await;
}
