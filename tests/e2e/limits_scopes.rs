//! Every other scope: routes, routes × clients, the process, undecided connections, rates, and who a client is.

use crate::support::backend::Backend;
use crate::support::client::{self, Attempt, hold_http, hold_https, hold_tls_echo, in_time, ping, tcp, tcp_from, tls};
use crate::support::leftovers::Baseline;
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{admin, certs, eventually, on_eight_threads};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One of many clients on loopback.
fn client(number: u8) -> IpAddr {
    IpAddr::from([127, 0, 9, number])
}

/// A passthrough route to `port`.
fn passthrough(name: &str, listen: u16, backend: u16, security: &str) -> String {
    format!(
        "  - name: {name}
    match: {{ ports: {listen}, domains: {name}.test }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {backend} }}], tls: {{ mode: passthrough }} }}
    security: {{ {security} }}
"
    )
}

/// A route on which TLS ends, to `port`.
fn terminated(name: &str, listen: u16, backend: u16, security: &str) -> String {
    format!(
        "  - name: {name}
    match: {{ ports: {listen}, domains: {name}.test }}
    action:
      type: forward
      targets: [{{ host: 127.0.0.1, port: {backend} }}]
      tls: {{ mode: terminate, certificate: {} }}
    security: {{ {security} }}
",
        certs::inline()
    )
}

/// A plain TCP route to `port`.
fn plain(name: &str, listen: u16, backend: u16, security: &str) -> String {
    format!(
        "  - name: {name}
    match: {{ ports: {listen} }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {backend} }}] }}
    security: {{ {security} }}
"
    )
}

fn on_loopback(settings: &str, routes: &[String]) -> String {
    format!("bind: [\"127.0.0.1\"]\nconnectionRateLimitPerMinute: 0\n{settings}\nroutes:\n{}", routes.concat())
}

/// Waits until a scope holds so many.
async fn holds(proxy: &Proxy, scope: &str, route: Option<&str>, count: u64) {
    eventually("the scope holds as many as it should", Duration::from_secs(20), || {
        match admin::active(proxy.admin, scope, route) {
            active if active == count => Ok(()),
            active => Err(format!("{scope} {route:?} holds {active}, not {count}")),
        }
    })
    .await;
}

async fn all<T: Send + 'static>(
    attempts: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = attempts.into_iter().map(|attempt| tokio::spawn(in_time("an attempt", attempt))).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("an attempt ends"));
    }
    results
}

#[test]
fn a_passthrough_route_and_its_clients_have_limits_of_their_own() {
    on_eight_threads(async {
        let (backend, port) = (Backend::tls_echo().await, free_port());
        let limits = "maxConnections: 20, maxConnectionsPerIP: 8";
        let routes =
            [passthrough("pass", port, backend.port(), limits), passthrough("other", port, backend.port(), "")];
        let proxy = Proxy::start(&on_loopback("", &routes));
        let baseline = Baseline::of(&proxy).await;
        let address = SocketAddr::new(LOCALHOST, port);

        let held: Vec<_> = all((0..120).map(|n| hold_tls_echo(client(n % 3), address, "pass.test"))).await;
        let held: Vec<_> = held.into_iter().filter_map(|one| Attempt::from(one).held()).collect();
        assert_eq!(held.len(), 20);
        assert_eq!(admin::active(proxy.admin, "route", Some("pass")), 20);
        assert_eq!(admin::active(proxy.admin, "route_client", Some("pass")), 20);
        assert_eq!(backend.connected(), 20, "a refused connection never reaches the backend");
        assert_eq!(backend.accepted(), 20);
        let refused = |reason| {
            admin::refused(
                proxy.admin,
                if reason == "route_limit" { "route" } else { "route_client" },
                Some("pass"),
                reason,
            )
        };
        assert_eq!(refused("route_limit") + refused("route_client_limit"), 100);

        // The other route of the same port is not touched by it.
        let other = hold_tls_echo(client(0), address, "other.test").await.expect("the other route is free");
        drop((held, other));
        holds(&proxy, "route", Some("pass"), 0).await;

        let alone = all((0..40).map(|_| hold_tls_echo(client(7), address, "pass.test"))).await;
        let alone: Vec<_> = alone.into_iter().filter_map(|one| Attempt::from(one).held()).collect();
        assert_eq!(alone.len(), 8, "one client has eight at most");
        drop((alone, backend));
        baseline.assert_restored(&proxy).await;
    });
}

#[test]
fn a_terminated_route_answers_429_for_a_client_and_503_for_itself_on_http1() {
    on_eight_threads(async {
        let (backend, port) = (Backend::http().await, free_port());
        let route = terminated("end", port, backend.port(), "maxConnections: 6, maxConnectionsPerIP: 4");
        let proxy = Proxy::start(&on_loopback("", &[route]));
        let baseline = Baseline::of(&proxy).await;
        let address = SocketAddr::new(LOCALHOST, port);

        let held = all((0..30).map(|_| hold_https(client(1), address, "end.test"))).await;
        let (mut open, mut too_many) = (Vec::new(), 0);
        for one in held {
            match one {
                Ok(stream) => open.push(stream),
                Err(error) => {
                    assert!(error.to_string().contains("429"), "{error}");
                    too_many += 1;
                }
            }
        }
        assert_eq!((open.len(), too_many, backend.holding()), (4, 26, 4));

        let more = all((0..10).map(|_| hold_https(client(2), address, "end.test"))).await;
        let (mut also_open, mut full) = (Vec::new(), 0);
        for one in more {
            match one {
                Ok(stream) => also_open.push(stream),
                Err(error) => {
                    assert!(error.to_string().contains("503"), "{error}");
                    full += 1;
                }
            }
        }
        assert_eq!((also_open.len(), full, backend.accepted()), (2, 8, 6));

        let answer = refusal_in_full(client(2), address).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
        let retry: u32 = answer
            .to_lowercase()
            .split("\r\nretry-after: ")
            .nth(1)
            .and_then(|rest| rest.split('\r').next()?.parse().ok())
            .expect("seconds");
        assert!(retry >= 1, "{answer}");

        // The refused ones are gone: only those that were served are counted.
        holds(&proxy, "global", None, 6).await;
        drop((open, also_open, backend));
        baseline.assert_restored(&proxy).await;
    });
}

/// Everything that a refused HTTP/1.1 connection gets until it is closed.
async fn refusal_in_full(source: IpAddr, address: SocketAddr) -> String {
    let stream = tcp_from(source, address).await.expect("it is accepted");
    let mut stream = tls(stream, "end.test", &["http/1.1"]).await.expect("TLS comes before the route");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: end.test\r\n\r\n").await.expect("a request");
    let mut answer = Vec::new();
    in_time("the answer", stream.read_to_end(&mut answer)).await.expect("a clean end");
    String::from_utf8(answer).expect("text")
}

fn get(host: &str, path: &str) -> Request<client::Body> {
    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed();
    Request::get(format!("https://{host}{path}")).body(body).expect("a request")
}

#[test]
fn an_http2_connection_holds_one_slot_of_each_route_it_uses() {
    on_eight_threads(async {
        let (backend, port) = (Backend::http().await, free_port());
        let routes = [
            terminated("end", port, backend.port(), "maxConnections: 2"),
            terminated("other", port, backend.port(), "maxConnectionsPerIP: 1"),
        ];
        let proxy = Proxy::start(&on_loopback("", &routes));
        let baseline = Baseline::of(&proxy).await;
        let address = SocketAddr::new(LOCALHOST, port);
        let connect = async |source: IpAddr| {
            let stream = tcp_from(source, address).await.expect("it is accepted");
            client::http2(tls(stream, "end.test", &["h2"]).await.expect("TLS ends here")).await
        };
        let status = async |sender: &mut hyper::client::conn::http2::SendRequest<client::Body>, host: &str| {
            let answer = in_time("a request", sender.send_request(get(host, "/"))).await.expect("an answer");
            let status = answer.status().as_u16();
            let _ = answer.into_body().collect().await;
            status
        };

        let (mut first, mut second, mut third) =
            (connect(client(1)).await, connect(client(1)).await, connect(client(2)).await);
        for _ in 0..20 {
            assert_eq!(status(&mut first, "end.test").await, 200);
        }
        assert_eq!(admin::active(proxy.admin, "route", Some("end")), 1, "twenty streams are one connection");
        assert_eq!(status(&mut second, "end.test").await, 200);
        assert_eq!(status(&mut third, "end.test").await, 503, "the route is full");
        assert_eq!(status(&mut third, "other.test").await, 200, "the connection is still good for another route");
        assert_eq!(status(&mut first, "other.test").await, 200, "another client has its own slot");
        assert_eq!(status(&mut second, "other.test").await, 429, "this client's slot is taken by its first connection");
        assert_eq!(status(&mut second, "end.test").await, 200, "what is held stays held");
        assert_eq!(admin::active(proxy.admin, "route", Some("other")), 2);
        assert_eq!(admin::active(proxy.admin, "global", None), 3);
        drop(first);
        holds(&proxy, "route", Some("end"), 1).await;
        assert_eq!(status(&mut third, "end.test").await, 200, "a slot is free again");
        drop((second, third, backend));
        baseline.assert_restored(&proxy).await;
    });
}

#[test]
fn pitfall_38_the_process_has_a_limit_over_all_clients_and_exempt_ones_pass_it() {
    on_eight_threads(async {
        let (backend, port) = (Backend::echo().await, free_port());
        let settings = "maxConnections: 12\nexempt: [\"127.0.9.200/32\"]";
        let proxy = Proxy::start(&on_loopback(settings, &[plain("raw", port, backend.port(), "")]));
        let baseline = Baseline::of(&proxy).await;
        let address = SocketAddr::new(LOCALHOST, port);
        let attempts = all((0..60).map(|n| async move { ping(tcp_from(client(n % 5), address).await?).await })).await;
        let held: Vec<_> = attempts.into_iter().filter_map(|one| Attempt::from(one).held()).collect();
        assert_eq!((held.len(), backend.connected()), (12, 12));
        assert_eq!(admin::active(proxy.admin, "global", None), 12);
        assert_eq!(admin::refused(proxy.admin, "global", None, "global_limit"), 48);

        let exempt = async { ping(tcp_from(client(200), address).await?).await }.await.expect("it gets through");
        assert_eq!(admin::active(proxy.admin, "exempt", None), 1);
        assert_eq!(admin::active(proxy.admin, "global", None), 12);
        drop((held, exempt, backend));
        baseline.assert_restored(&proxy).await;
    });
}

#[test]
fn pitfall_20_connections_that_do_not_say_where_they_go_have_a_limit_and_a_deadline() {
    on_eight_threads(async {
        let (backend, port) = (Backend::tls_echo().await, free_port());
        let settings = "maxPendingConnections: 5\ninitialDataTimeout: 1500";
        let proxy = Proxy::start(&on_loopback(settings, &[passthrough("pass", port, backend.port(), "")]));
        let baseline = Baseline::of(&proxy).await;
        let address = SocketAddr::new(LOCALHOST, port);
        let mut silent = Vec::new();
        for _ in 0..5 {
            silent.push(tcp(address).await.expect("it is accepted"));
        }
        holds(&proxy, "pending", None, 5).await;
        let refused = Attempt::from(hold_tls_echo(LOCALHOST, address, "pass.test").await);
        assert!(refused.held().is_none(), "nobody else may be undecided");
        assert_eq!(admin::refused(proxy.admin, "pending", None, "pending_limit"), 1);
        for mut stream in silent {
            let end = in_time("the deadline", stream.read(&mut [0; 1])).await;
            assert!(matches!(end, Ok(0)) || end.is_err_and(|error| client::is_close(&error)));
        }
        holds(&proxy, "pending", None, 0).await;
        let held = hold_tls_echo(LOCALHOST, address, "pass.test").await.expect("there is room again");
        assert_eq!(admin::active(proxy.admin, "pending", None), 0, "a routed connection is not pending");
        drop((held, backend));
        baseline.assert_restored(&proxy).await;
    });
}

#[test]
fn a_client_may_open_so_many_a_minute_and_no_more() {
    on_eight_threads(async {
        let (backend, port) = (Backend::echo().await, free_port());
        let config = format!(
            "bind: [\"127.0.0.1\"]\nconnectionRateLimitPerMinute: 10\nroutes:\n{}",
            plain("raw", port, backend.port(), "")
        );
        let proxy = Proxy::start(&config);
        let baseline = Baseline::of(&proxy).await;
        let address = SocketAddr::new(LOCALHOST, port);
        let attempts = all((0..50).map(|_| async move { ping(tcp_from(client(1), address).await?).await })).await;
        let held: Vec<_> = attempts.into_iter().filter_map(|one| Attempt::from(one).held()).collect();
        assert!((10..=11).contains(&held.len()), "ten at once, and at most one more per six seconds: {}", held.len());
        assert_eq!(admin::refused(proxy.admin, "client", None, "client_rate"), 50 - held.len() as u64);
        ping(tcp_from(client(2), address).await.expect("another client")).await.expect("has a rate of its own");
        drop((held, backend));
        baseline.assert_restored(&proxy).await;
    });
}

#[test]
fn a_client_may_open_so_many_a_minute_on_a_route_and_no_more() {
    on_eight_threads(async {
        let (bytes, http, port) = (Backend::tls_echo().await, Backend::http().await, free_port());
        let routes = [
            passthrough("pass", port, bytes.port(), "connectionRateLimitPerMinute: 2"),
            terminated("end", port, http.port(), "connectionRateLimitPerMinute: 2"),
            passthrough("other", port, bytes.port(), ""),
        ];
        let proxy = Proxy::start(&on_loopback("", &routes));
        let baseline = Baseline::of(&proxy).await;
        let address = SocketAddr::new(LOCALHOST, port);
        let rate_of = |route| admin::refused(proxy.admin, "route_client", Some(route), "route_client_rate");

        let passed = all((0..30).map(|_| hold_tls_echo(client(1), address, "pass.test"))).await;
        let passed: Vec<_> = passed.into_iter().filter_map(|one| Attempt::from(one).held()).collect();
        assert!((2..=3).contains(&passed.len()), "two at once, and one more per half a minute: {}", passed.len());
        assert_eq!((bytes.accepted(), rate_of("pass")), (passed.len(), 30 - passed.len() as u64));

        let answers = all((0..30).map(|_| hold_https(client(1), address, "end.test"))).await;
        let (served, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert!((2..=3).contains(&served.len()), "a route has a rate of its own: {}", served.len());
        for error in refused.iter().filter_map(|answer| answer.as_ref().err()) {
            assert!(error.to_string().contains("429"), "{error}");
        }
        assert_eq!(rate_of("end"), refused.len() as u64);
        let answer = refusal_in_full(client(1), address).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 429 ") && answer.contains("\r\nretry-after: "), "{answer}");

        // Slots given back are no new connections; other clients and other routes are not touched.
        drop((passed, served));
        holds(&proxy, "route", Some("pass"), 0).await;
        let again = hold_tls_echo(client(1), address, "pass.test").await;
        let other = hold_tls_echo(client(1), address, "other.test").await.expect("the other route has no rate");
        let another = hold_tls_echo(client(2), address, "pass.test").await.expect("another client has its own");
        drop((again, other, another, bytes, http));
        baseline.assert_restored(&proxy).await;
    });
}

/// A PROXY v1 header for a client.
fn header(client: &str) -> Vec<u8> {
    let family = if client.contains(':') { "TCP6" } else { "TCP4" };
    let to = if client.contains(':') { "::1" } else { "127.0.0.1" };
    format!("PROXY {family} {client} {to} 40000 443\r\n").into_bytes()
}

/// Connects from the trusted peer for `client`, to a TLS echo.
async fn through_peer(address: SocketAddr, client: String) -> io::Result<TlsStream<TcpStream>> {
    let mut stream = tcp_from([127, 0, 9, 100], address).await?;
    stream.write_all(&header(&client)).await?;
    ping(tls(stream, "pass.test", &[]).await?).await
}

#[test]
fn clients_behind_a_trusted_peer_are_limited_and_the_peer_never_is() {
    on_eight_threads(async {
        let (backend, port) = (Backend::tls_echo().await, free_port());
        let settings = "maxConnectionsPerIP: 3\nacceptProxyProtocol: true\nproxyIPs: [\"127.0.9.100\"]";
        let proxy = Proxy::start(&on_loopback(settings, &[passthrough("pass", port, backend.port(), "")]));
        let baseline = Baseline::of(&proxy).await;
        let address = SocketAddr::new(LOCALHOST, port);

        // Twenty clients of three connections each: sixty from one peer.
        let many = all((0..200_u32).map(|n| through_peer(address, format!("203.0.113.{}", n % 20)))).await;
        let many: Vec<_> = many.into_iter().filter_map(|one| Attempt::from(one).held()).collect();
        assert_eq!(many.len(), 60);
        assert_eq!(admin::refused(proxy.admin, "client", None, "client_limit"), 140);
        drop(many);
        holds(&proxy, "client", None, 0).await;

        // One client in all its spellings; one /64.
        let spellings = ["203.0.113.7", "::ffff:203.0.113.7", "64:ff9b::203.0.113.7"];
        let one = all((0..30).map(|n| through_peer(address, spellings[n % 3].to_owned()))).await;
        let one: Vec<_> = one.into_iter().filter_map(|one| Attempt::from(one).held()).collect();
        assert_eq!(one.len(), 3, "an IPv4-mapped client is the IPv4 client");
        let network = all((0..30).map(|n| through_peer(address, format!("2001:db8:0:1::{n:x}")))).await;
        let network: Vec<_> = network.into_iter().filter_map(|one| Attempt::from(one).held()).collect();
        assert_eq!(network.len(), 3, "a /64 is one client");
        let neighbour = Attempt::from(through_peer(address, "2001:db8:0:2::1".to_owned()).await);
        assert!(neighbour.held().is_some(), "the next /64 is another");

        // The client itself, without the peer: the same counts. Its bytes are payload, whatever they look like.
        let direct = Attempt::from(hold_tls_echo(LOCALHOST, address, "pass.test").await);
        assert!(direct.held().is_some(), "from others nothing is expected");
        drop((one, network, backend));
        baseline.assert_restored(&proxy).await;
    });
}

#[test]
fn an_ipv4_client_is_the_same_on_an_ipv6_listener() {
    on_eight_threads(async {
        let (backend, port) = (Backend::echo().await, free_port());
        let config = format!(
            "bind: [\"::\"]\nmaxConnectionsPerIP: 4\nconnectionRateLimitPerMinute: 0\nexempt: [\"::1/128\"]\nroutes:\n{}",
            plain("raw", port, backend.port(), "")
        );
        let proxy = Proxy::start(&config);
        let baseline = Baseline::of(&proxy).await;
        let v4 = SocketAddr::new(LOCALHOST, port);
        let attempts = all((0..20).map(|_| async move { ping(tcp_from(client(1), v4).await?).await })).await;
        let held: Vec<_> = attempts.into_iter().filter_map(|one| Attempt::from(one).held()).collect();
        assert_eq!(held.len(), 4);
        let v6 = SocketAddr::new("::1".parse().expect("an address"), port);
        ping(TcpStream::connect(v6).await.expect("the listener is dual stack")).await.expect("an exempt client");
        drop((held, backend));
        baseline.assert_restored(&proxy).await;
    });
}

#[test]
fn http_on_a_plain_port_has_the_same_limits() {
    on_eight_threads(async {
        let (backend, port) = (Backend::http().await, free_port());
        let route = format!(
            "  - name: web
    match: {{ ports: {port}, path: \"/*\" }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}] }}
    security: {{ maxConnectionsPerIP: 3 }}
",
            backend.port()
        );
        let proxy = Proxy::start(&on_loopback("maxConnectionsPerIP: 5", &[route]));
        let baseline = Baseline::of(&proxy).await;
        let address = SocketAddr::new(LOCALHOST, port);
        let mut held = Vec::new();
        for _ in 0..3 {
            let stream = tcp(address).await.expect("it is accepted");
            held.push(hold_http(stream, "web.test").await.expect("a free slot"));
        }
        let refused =
            hold_http(tcp(address).await.expect("accepted"), "web.test").await.expect_err("the route is full");
        assert!(refused.to_string().contains("429"), "{refused}");
        drop((held, backend));
        baseline.assert_restored(&proxy).await;
    });
}
