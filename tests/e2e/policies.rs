//! Who may, and how much: dry runs, requests, passwords, lists, overrides, exemption and trusted proxies, on HTTP/1.1,
//! HTTP/2 and passthrough.

use crate::support::backend::Backend;
use crate::support::client::{Attempt, hold_http, hold_tls_echo, in_time, tcp_from};
use crate::support::http::{Http, VERSIONS, text};
use crate::support::leftovers::Baseline;
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{admin, certs, eventually, on_eight_threads};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

const ON_LOOPBACK: &str = "bind: [\"127.0.0.1\"]\n";

/// One of many clients on loopback.
fn client(number: u8) -> IpAddr {
    IpAddr::from([127, 0, 9, number])
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A route on which TLS ends, or a plain one of HTTP; `more` are its other keys.
fn http_route(name: &str, listen: u16, matching: &str, backend: &Backend, over_tls: bool, more: &str) -> String {
    let tls =
        if over_tls { format!("tls: {{ mode: terminate, certificate: {} }}", certs::inline()) } else { String::new() };
    format!(
        "  - name: {name}
    match: {{ ports: {listen}, protocol: http{matching} }}
    action:
      type: forward
      targets: [{{ host: 127.0.0.1, port: {} }}]
      {tls}
    {more}
",
        backend.port()
    )
}

fn passthrough(name: &str, listen: u16, backend: &Backend, more: &str) -> String {
    format!(
        "  - name: {name}
    match: {{ ports: {listen}, domains: pass.test }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}], tls: {{ mode: passthrough }} }}
    {more}
",
        backend.port()
    )
}

/// Refusals by scope, route and reason: those of enforcing, or those that a dry run would have made.
fn refusals(proxy: &Proxy, key: &str) -> BTreeMap<String, u64> {
    let limits = admin::limits(proxy.admin);
    let mut all = BTreeMap::new();
    for scope in limits["scopes"].as_array().expect("a list of scopes") {
        for (reason, count) in scope[key].as_object().expect("counts by reason") {
            let name = format!("{} {} {reason}", scope["scope"], scope["route"]);
            all.insert(name, count.as_u64().expect("a count"));
        }
    }
    all
}

/// Slots held, by scope and route.
fn held(proxy: &Proxy) -> BTreeMap<String, u64> {
    let limits = admin::limits(proxy.admin);
    let scopes = limits["scopes"].as_array().expect("a list of scopes");
    let count = |scope: &serde_json::Value| scope["active"].as_u64().expect("a count");
    scopes.iter().map(|scope| (format!("{} {}", scope["scope"], scope["route"]), count(scope))).collect()
}

/// One attempt of the sequence that is tried with and without enforcing.
#[derive(Clone, Copy)]
enum Try {
    Passthrough(u8),
    Plain(u8),
}

const SEQUENCE: &[(Try, usize)] = &[
    // The route takes three.
    (Try::Passthrough(1), 5),
    // Two of one client on the route, five of it altogether.
    (Try::Plain(1), 5),
    (Try::Plain(2), 4),
    // Three a minute.
    (Try::Passthrough(9), 5),
    // Twelve of all.
    (Try::Plain(3), 2),
    (Try::Plain(4), 2),
    (Try::Plain(5), 2),
    (Try::Passthrough(6), 2),
];

/// Makes the attempts one after the other, each once the counts are those that `after` it were seen before; answers the
/// counts after each, and the refusals.
async fn attempt_all(
    enforce: bool,
    before: Option<&[BTreeMap<String, u64>]>,
) -> (Vec<BTreeMap<String, u64>>, BTreeMap<String, u64>) {
    let (echo, web) = (Backend::tls_echo().await, Backend::http().await);
    let (raw, plain) = (free_port(), free_port());
    let routes = [
        passthrough("pass", raw, &echo, "security: { maxConnections: 3 }"),
        http_route("web", plain, "", &web, false, "security: { maxConnectionsPerIP: 2 }"),
    ];
    let settings = "maxConnections: 12\nmaxConnectionsPerIP: 5\nconnectionRateLimitPerMinute: 0\n\
        clientOverrides: [{ cidr: 127.0.9.9/32, connectionRateLimitPerMinute: 3 }]";
    let proxy = Proxy::start(&format!("{ON_LOOPBACK}enforce: {enforce}\n{settings}\nroutes:\n{}", routes.concat()));
    let baseline = Baseline::of(&proxy).await;
    let (mut open, mut seen) = (Vec::new(), Vec::new());
    let tries = SEQUENCE.iter().flat_map(|&(one, times)| std::iter::repeat_n(one, times));
    for (number, one) in tries.enumerate() {
        let outcome: io::Result<Box<dyn Send>> = match one {
            Try::Passthrough(n) => hold_tls_echo(client(n), at(raw), "pass.test").await.map(|it| Box::new(it) as _),
            Try::Plain(n) => match tcp_from(client(n), at(plain)).await {
                Ok(stream) => hold_http(stream, "web.test").await.map(|it| Box::new(it) as _),
                Err(error) => Err(error),
            },
        };
        assert!(outcome.is_ok() || enforce, "a dry run refuses nobody: {:?}", outcome.err());
        open.extend(outcome.ok());
        // Slots are free a moment after the client learns that it is refused.
        let settled = || match before {
            Some(before) if held(&proxy) != before[number] => {
                Err(format!("{:?}, not {:?}", held(&proxy), before[number]))
            }
            None if held(&proxy)["\"global\" null"] != open.len() as u64 => Err(format!("{:?}", held(&proxy))),
            _ => Ok(()),
        };
        eventually("the counts are those of enforcing", Duration::from_secs(20), settled).await;
        seen.push(held(&proxy));
    }
    let counts = refusals(&proxy, if enforce { "refused" } else { "wouldRefuse" });
    assert!(refusals(&proxy, if enforce { "wouldRefuse" } else { "refused" }).is_empty());
    if !enforce {
        assert!(proxy.log().contains("would refuse"), "it is told");
        let (_, metrics) = admin::get(proxy.admin, "/metrics");
        assert!(metrics.contains("smartproxy_would_refuse_total"), "{metrics}");
    }
    drop((open, echo, web));
    baseline.assert_restored(&proxy).await;
    (seen, counts)
}

#[test]
fn the_figures_of_a_dry_run_are_those_of_enforcing() {
    on_eight_threads(async {
        let (seen, refused) = attempt_all(true, None).await;
        let (_, would_refuse) = attempt_all(false, Some(&seen)).await;
        assert_eq!(refused, would_refuse);
        for reason in ["route_limit", "route_client_limit", "client_limit", "client_rate", "global_limit"] {
            assert!(refused.keys().any(|key| key.ends_with(reason)), "{reason} is not in {refused:?}");
        }
    });
}

#[test]
fn a_dry_run_of_one_route_counts_its_requests_and_streams() {
    on_eight_threads(async {
        for version in VERSIONS {
            let mut figures = Vec::new();
            for enforce in [true, false] {
                let (backend, port) = (Backend::http().await, free_port());
                let limits = format!(
                    "enforce: {enforce}\n    security: {{ maxConnections: 2, rateLimit: {{ maxRequests: 4, window: 3600 }} }}"
                );
                let routes = [
                    http_route("end", port, ", path: \"/head/*\"", &backend, true, &limits),
                    http_route("other", port, "", &backend, true, ""),
                ];
                let proxy = Proxy::start(&format!("{ON_LOOPBACK}routes:\n{}", routes.concat()));
                let mut open = Vec::new();
                for n in [1, 2, 3] {
                    let mut one = Http::connect(client(n), at(port), version).await.expect("it is accepted");
                    // A first route that takes it, so that no refusal ends the connection.
                    assert_eq!(one.status("/", &[]).await, 200);
                    for request in 0..6 {
                        let status = one.status("/head/x", &[]).await;
                        let expected = match n {
                            _ if !enforce => 200,
                            3 => 503,
                            _ if request < 4 => 200,
                            _ => 429,
                        };
                        assert_eq!(status, expected, "{version} client {n} request {request}");
                    }
                    open.push(one);
                }
                figures.push(refusals(&proxy, if enforce { "refused" } else { "wouldRefuse" }));
            }
            assert_eq!(figures[0], figures[1], "{version}");
            assert_eq!(figures[0].values().sum::<u64>(), 2 + 2 + 6, "{figures:?}");
        }
    });
}

#[test]
fn requests_in_flight_have_limits() {
    on_eight_threads(async {
        for version in VERSIONS {
            let (backend, port) = (Backend::http().await, free_port());
            let limits = "security: { maxRequests: 3, maxRequestsPerIP: 2 }";
            let proxy =
                Proxy::start(&format!("{ON_LOOPBACK}routes:\n{}", http_route("end", port, "", &backend, true, limits)));
            let baseline = Baseline::of(&proxy).await;
            let mut open = Vec::new();
            // A request in flight keeps a connection of HTTP/1.1 for itself.
            let mut statuses = Vec::new();
            for n in [1, 1, 1, 2, 2, 3] {
                let mut one = Http::connect(client(n), at(port), version).await.expect("it is accepted");
                let answer = one.ask("/hold", &[]).await;
                let status = answer.status().as_u16();
                statuses.push(status);
                if status != 200 {
                    let after =
                        answer.headers()["retry-after"].to_str().expect("text").parse::<u32>().expect("seconds");
                    assert!((1..=3).contains(&after), "{after}");
                }
                open.push((one, answer));
            }
            assert_eq!(statuses, [200, 200, 429, 200, 503, 503], "{version}");
            assert_eq!(backend.holding(), 3, "a refused request never reaches the backend");
            assert_eq!(admin::active(proxy.admin, "requests", Some("end")), 3);
            open.remove(0);
            eventually("a slot is free", Duration::from_secs(20), || match backend.holding() {
                2 => Ok(()),
                more => Err(format!("{more} requests")),
            })
            .await;
            let mut again = Http::connect(client(3), at(port), version).await.expect("it is accepted");
            assert_eq!(again.ask("/hold", &[]).await.status(), 200, "{version}");
            drop((open, again, backend));
            baseline.assert_restored(&proxy).await;
        }
    });
}

#[test]
fn pitfall_24_streams_that_are_reset_do_not_get_past_a_limit() {
    on_eight_threads(async {
        let (backend, port) = (Backend::http().await, free_port());
        let proxy = Proxy::start(&format!(
            "{ON_LOOPBACK}routes:\n{}",
            http_route("end", port, "", &backend, true, "security: { maxRequests: 2 }")
        ));
        let baseline = Baseline::of(&proxy).await;
        let mut one = Http::connect(client(1), at(port), "h2").await.expect("it is accepted");
        let mut served = 0;
        for _ in 0..200 {
            let answer = one.ask("/hold", &[]).await;
            served += usize::from(answer.status() == 200);
            // Dropped with its body unread, the stream is reset.
            drop(answer);
            // One may not have been seen to end yet; the proxy never has more than the limit under way.
            assert!(admin::active(proxy.admin, "requests", Some("end")) <= 2);
        }
        assert!(served > 0);
        eventually("nothing is left at the backend", Duration::from_secs(20), || match backend.holding() {
            0 => Ok(()),
            more => Err(format!("{more} requests")),
        })
        .await;
        drop((one, backend));
        baseline.assert_restored(&proxy).await;
    });
}

#[test]
fn a_client_may_send_so_many_requests_and_is_told_why_not() {
    on_eight_threads(async {
        for version in VERSIONS {
            let (backend, port) = (Backend::http().await, free_port());
            let limits = "security: { rateLimit: { maxRequests: 5, window: 60, errorMessage: \"slow down\" } }";
            let proxy =
                Proxy::start(&format!("{ON_LOOPBACK}routes:\n{}", http_route("end", port, "", &backend, true, limits)));
            let mut one = Http::connect(client(1), at(port), version).await.expect("it is accepted");
            for _ in 0..5 {
                assert_eq!(one.status("/", &[]).await, 200);
            }
            let refused = one.ask("/", &[]).await;
            assert_eq!(refused.status(), 429);
            let after = refused.headers()["retry-after"].to_str().expect("text").parse::<u32>().expect("seconds");
            assert!((8..=14).contains(&after), "one more every twelve seconds, and two of spread: {after}");
            assert_eq!(text(refused).await, "slow down");
            let mut other = Http::connect(client(2), at(port), version).await.expect("it is accepted");
            assert_eq!(other.status("/", &[]).await, 200, "another client has a rate of its own");
            assert_eq!(admin::refused(proxy.admin, "requests_client", Some("end"), "request_rate"), 1);
            let (_, metrics) = admin::get(proxy.admin, "/metrics");
            assert!(
                metrics.contains("smartproxy_connections_rejected_total{reason=\"request_rate\",route=\"end\"} 1"),
                "{metrics}"
            );
        }
    });
}

#[test]
fn a_password_is_asked_for_even_in_a_dry_run_and_not_passed_on() {
    on_eight_threads(async {
        let (backend, port) = (Backend::http().await, free_port());
        let auth = "security: { basicAuth: { realm: shop, users: [{ username: ann, password: \"open sesame\" }] } }";
        let config =
            format!("{ON_LOOPBACK}enforce: false\nroutes:\n{}", http_route("end", port, "", &backend, true, auth));
        let proxy = Proxy::start(&config);
        for version in VERSIONS {
            let mut one = Http::connect(client(1), at(port), version).await.expect("it is accepted");
            for headers in [&[][..], &[("authorization", "Basic YW5uOndyb25n")], &[("authorization", "Bearer x")]] {
                let asked = one.ask("/", headers).await;
                assert_eq!(asked.status(), 401, "{headers:?}");
                let challenge = asked.headers()["www-authenticate"].to_str().expect("text").to_owned();
                assert_eq!(challenge, "Basic realm=\"shop\", charset=\"UTF-8\"");
                text(asked).await;
            }
            let right = [("authorization", "Basic YW5uOm9wZW4gc2VzYW1l"), ("x-other", "1")];
            let seen = text(one.ask("/head", &right).await).await.to_lowercase();
            assert!(seen.contains("x-other: 1") && !seen.contains("authorization"), "{seen}");
        }
        assert!(!proxy.log().contains("sesame"), "{}", proxy.log());
        let (_, metrics) = admin::get(proxy.admin, "/metrics");
        assert!(metrics.contains("reason=\"basic_auth\",route=\"end\"} 4"), "wrong ones only: {metrics}");
    });
}

#[test]
fn lists_keep_clients_out_even_in_a_dry_run() {
    on_eight_threads(async {
        let (echo, web) = (Backend::tls_echo().await, Backend::http().await);
        let port = free_port();
        let folder = tempfile::tempdir().expect("a folder");
        let list = folder.path().join("blocked.txt");
        std::fs::write(&list, "# pests\n127.0.9.66\n127.0.9.70-127.0.9.79\n").expect("it can be written");
        let routes = [
            passthrough("pass", port, &echo, "security: { ipBlockList: [\"127.0.9.5\"] }"),
            http_route(
                "end",
                port,
                ", domains: end.test",
                &web,
                true,
                "security: { ipAllowList: [\"127.0.9.1-127.0.9.4\"] }",
            ),
        ];
        let settings = format!("enforce: false\nsecurity: {{ ipBlockList: [\"@{}\"] }}", list.display());
        let proxy = Proxy::start(&format!("{ON_LOOPBACK}{settings}\nroutes:\n{}", routes.concat()));
        let baseline = Baseline::of(&proxy).await;
        for n in [66, 75] {
            let passed = Attempt::from(hold_tls_echo(client(n), at(port), "pass.test").await).held();
            assert!(passed.is_none(), "closed at accept");
            for version in VERSIONS {
                assert!(Http::connect(client(n), at(port), version).await.is_err(), "closed at accept");
            }
        }
        assert!(Attempt::from(hold_tls_echo(client(5), at(port), "pass.test").await).held().is_none());
        hold_tls_echo(client(1), at(port), "pass.test").await.expect("nobody else is blocked");
        for version in VERSIONS {
            for (n, status) in [(1, 200), (5, 403)] {
                let mut one = Http::connect(client(n), at(port), version).await.expect("TLS comes before the route");
                assert_eq!(one.status("/", &[]).await, status, "{version} client {n}");
            }
        }
        let (_, metrics) = admin::get(proxy.admin, "/metrics");
        for figure in ["{reason=\"block_list\",route=\"\"} 6", "reason=\"allow_list\",route=\"end\"} 2"] {
            assert!(metrics.contains(figure), "{figure} is not in {metrics}");
        }
        drop((echo, web));
        baseline.assert_restored(&proxy).await;
    });
}

#[test]
fn pitfall_36_some_clients_have_other_limits_and_some_get_through_when_all_is_full() {
    on_eight_threads(async {
        let (echo, web) = (Backend::tls_echo().await, Backend::http().await);
        let (port, plain) = (free_port(), free_port());
        let routes = [
            passthrough("pass", port, &echo, "security: { maxConnections: 8 }"),
            http_route("end", port, ", domains: end.test", &web, true, "security: { maxRequests: 1 }"),
            http_route("web", plain, "", &web, false, ""),
        ];
        let settings = "maxConnections: 10\nmaxConnectionsPerIP: 3\nconnectionRateLimitPerMinute: 0\nonReject: respond\n\
            exempt: [127.0.9.200/31]\nclientOverrides:\n  - { cidr: 127.0.9.64/28, maxConnectionsPerIP: 5 }\n  \
            - { cidr: 127.0.9.66/32, maxConnectionsPerIP: 1 }";
        let proxy = Proxy::start(&format!("{ON_LOOPBACK}{settings}\nroutes:\n{}", routes.concat()));
        let baseline = Baseline::of(&proxy).await;
        let mut open = Vec::new();
        for (n, most) in [(64, 5), (66, 1), (1, 2)] {
            let mut own = Vec::new();
            for _ in 0..most {
                own.push(hold_tls_echo(client(n), at(port), "pass.test").await.expect("within its limit"));
            }
            if n != 1 {
                assert!(Attempt::from(hold_tls_echo(client(n), at(port), "pass.test").await).held().is_none(), "{n}");
            }
            open.extend(own);
        }
        // The passthrough route is full; two more make the process full.
        let mut full = Vec::new();
        for n in [2, 3] {
            let stream = tcp_from(client(n), at(plain)).await.expect("it is accepted");
            full.push(hold_http(stream, "web.test").await.expect("the last slots"));
        }
        let refused = in_time("the answer", whole_answer(client(4), at(plain))).await;
        assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("\r\nretry-after: "), "{refused}");
        assert!(refused.contains("\r\nconnection: close\r\n"), "{refused}");
        let own = in_time("the answer", whole_answer(client(66), at(plain))).await;
        assert!(own.starts_with("HTTP/1.1 429 "), "{own}");

        let passed = hold_tls_echo(client(200), at(port), "pass.test").await.expect("it is exempt");
        for version in VERSIONS {
            let mut streams = Vec::new();
            for _ in 0..3 {
                let mut one = Http::connect(client(201), at(port), version).await.expect("it is exempt");
                let answer = one.ask("/hold", &[]).await;
                assert_eq!(answer.status(), 200, "{version}: no limit of requests either");
                streams.push((one, answer));
            }
            assert_eq!(admin::active(proxy.admin, "exempt", None), 4);
            assert_eq!(admin::active(proxy.admin, "global", None), 10);
            drop(streams);
            eventually("they are gone", Duration::from_secs(20), || match admin::active(proxy.admin, "exempt", None) {
                1 => Ok(()),
                more => Err(format!("{more} exempt")),
            })
            .await;
        }
        drop((open, full, passed, echo, web));
        baseline.assert_restored(&proxy).await;
    });
}

/// What a client gets that sends a request and reads until the end.
async fn whole_answer(source: IpAddr, address: SocketAddr) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream: TcpStream = tcp_from(source, address).await.expect("the kernel accepts");
    // It may be answered before it has asked.
    _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: web.test\r\n\r\n").await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("a clean end");
    String::from_utf8(answer).expect("text")
}

#[test]
fn a_trusted_proxy_speaks_for_its_clients_and_nobody_else_does() {
    on_eight_threads(async {
        let (backend, port) = (Backend::http().await, free_port());
        let limits = "security: { ipBlockList: [203.0.113.66], rateLimit: { maxRequests: 2, window: 3600 } }";
        let routes = [
            http_route("staff", port, ", path: \"/head/*\", clientIp: [203.0.113.128/25]", &backend, true, ""),
            http_route("end", port, "", &backend, true, limits),
        ];
        let settings = "maxConnectionsPerIP: 1\ntrustedProxies: [127.0.9.100, 127.0.9.101]\n\
            security: { ipBlockList: [203.0.113.77] }";
        let proxy = Proxy::start(&format!("{ON_LOOPBACK}{settings}\nroutes:\n{}", routes.concat()));
        for (round, version) in VERSIONS.into_iter().enumerate() {
            let mut peers = Vec::new();
            for _ in 0..4 {
                peers.push(Http::connect(client(100), at(port), version).await.expect("the peer is no client"));
            }
            assert_eq!(admin::active(proxy.admin, "client", None), 0);
            let first = format!("203.0.113.{round}");
            for (hops, statuses) in [
                (first.clone(), [200, 200, 429]),
                // The left-most hop is whatever the client wrote; those of the proxies are passed over.
                (format!("198.51.100.1, {first}, 127.0.9.101"), [429; 3]),
                (format!("203.0.113.1{round}"), [200, 200, 429]),
                ("203.0.113.66".to_owned(), [403; 3]),
                ("203.0.113.77".to_owned(), [403; 3]),
            ] {
                for (peer, status) in peers.iter_mut().zip(statuses) {
                    let headers = [("x-forwarded-for", hops.as_str())];
                    assert_eq!(peer.status("/", &headers).await, status, "{version} {hops}");
                }
            }
            let staff = [("x-forwarded-for", "203.0.113.200")];
            let before = admin::scope(proxy.admin, "route", Some("staff"))["admitted"].as_u64();
            assert_eq!(peers[0].status("/head/x", &staff).await, 200);
            let after = admin::scope(proxy.admin, "route", Some("staff"))["admitted"].as_u64();
            assert_eq!(after, before.map(|before| before + 1), "the route is chosen by the client of the request");

            // What others say of their clients is not believed.
            let mut liar = Http::connect(client(1 + u8::try_from(round).expect("small")), at(port), version)
                .await
                .expect("it is accepted");
            for (number, status) in [(1, 200), (2, 200), (3, 429)] {
                let forged = format!("192.0.2.{number}");
                assert_eq!(liar.status("/", &[("x-forwarded-for", &forged)]).await, status, "{version}");
            }
        }
    });
}
