//! What HTTP/1.1 leaves to be read in two ways is refused, on every way into the proxy and behind any other request.

use super::client::{get, get2, text};
use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A request, and whether it is served. `@` stands for the line of the host.
struct Case(&'static str, Verdict);

enum Verdict {
    /// 400, counted, and closed.
    Bad,
    /// Another refusal, and closed.
    Refused(u16),
    /// 200; the backend sees this in its head and not that.
    Served(&'static str, &'static str),
}
use Verdict::{Bad, Refused, Served};

const CASES: &[Case] = &[
    // Two ends of one body.
    Case("POST / HTTP/1.1\r\n@Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Bad),
    Case("POST / HTTP/1.1\r\n@Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", Bad),
    Case("POST / HTTP/1.1\r\n@Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", Bad),
    Case("POST / HTTP/1.1\r\n@Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", Bad),
    Case("POST / HTTP/1.1\r\n@Content-Length: 5, 5\r\n\r\nhello", Bad),
    Case("POST / HTTP/1.1\r\n@Content-Length: +5\r\n\r\nhello", Bad),
    Case("POST / HTTP/1.1\r\n@Content-Length: -5\r\n\r\nhello", Bad),
    Case("POST / HTTP/1.1\r\n@Content-Length: five\r\n\r\nhello", Bad),
    Case("POST / HTTP/1.1\r\n@Content-Length: 99999999999999999999\r\n\r\nhello", Bad),
    Case("POST / HTTP/1.1\r\n@Content-Length: \r\n\r\n", Bad),
    Case("POST / HTTP/1.1\r\n@Content_Length: 5\r\n\r\nhello", Bad),
    Case("POST / HTTP/1.1\r\n@Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n", Bad),
    Case("POST / HTTP/1.1\r\n@Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Bad),
    Case("POST / HTTP/1.1\r\n@Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", Bad),
    Case("POST / HTTP/1.1\r\n@Transfer-Encoding: identity\r\n\r\n", Bad),
    Case("POST / HTTP/1.1\r\n@Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Bad),
    Case("POST / HTTP/1.1\r\n@Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", Bad),
    Case("POST / HTTP/1.1\r\n@Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Refused(501)),
    Case("POST / HTTP/1.0\r\n@Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Bad),
    // Hosts.
    Case("GET / HTTP/1.1\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\nHost: user@a.test\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\nHost: a.test/b\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\nHost: a.test:80:80\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Bad),
    Case("GET http://b.test/ HTTP/1.1\r\nHost: a.test,\r\n\r\n", Bad),
    Case("GET a.test HTTP/1.1\r\n@\r\n", Bad),
    Case("GET http:// HTTP/1.1\r\n@\r\n", Bad),
    Case("CONNECT a.test:443 HTTP/1.1\r\n@\r\n", Refused(405)),
    // Lines.
    Case("GET / HTTP/1.1\r\n@X: a\0b\r\n\r\n", Bad),
    Case("GET /\0 HTTP/1.1\r\n@\r\n", Bad),
    Case("GET / HTTP/1.1\r\n@X\0: a\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\n@X : a\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\n@Content-Length : 5\r\n\r\nhello", Bad),
    Case("GET / HTTP/1.1\r\n@Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\n@X: a\r\n b\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\n@X: a\r\n\tb\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\n Host: a.test\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\n@X: a\rb\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\n@X: a\r\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r@\r\n", Bad),
    Case("GET / HTTP/1.1\r\n@: a\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\n@no colon\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\n@X(Y): a\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\n@X: a\x7f\r\n\r\n", Bad),
    Case("GET / HTTP/1.1\r\n@X: a\x0bb\r\n\r\n", Bad),
    // First lines.
    Case("GET /\r\n@\r\n", Bad),
    Case("GET\r\n\r\n", Bad),
    Case("GET / \r\n@\r\n", Bad),
    Case("GET / HTTP/0.9\r\n@\r\n", Bad),
    Case("GET / HTTP/2.0\r\n@\r\n", Bad),
    Case("GET / HTTP/1.2\r\n@\r\n", Bad),
    Case("GET / http/1.1\r\n@\r\n", Bad),
    Case("GET  / HTTP/1.1\r\n@\r\n", Bad),
    Case("GET / HTTP/1.1 \r\n@\r\n", Bad),
    Case("GET / x HTTP/1.1\r\n@\r\n", Bad),
    Case("G@T / HTTP/1.1\r\nHost: a.test\r\n\r\n", Bad),
    Case(" GET / HTTP/1.1\r\n@\r\n", Bad),
    // Chunks.
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\nx\r\nhello\r\n0\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5 5\r\nhello\r\n0\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n-1\r\nhello\r\n0\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5;a\0b\r\nhello\r\n0\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5;a\rb\r\nhello\r\n0\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5\r\r\nhello\r\n0\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5\r;a\r\nhello\r\n0\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5\x0c\r\nhello\r\n0\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5\r\nhello!0\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: x\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n0\r\nHost: b.test\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n\r\n", Bad),
    Case("POST /count HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n0\r\nX : y\r\n\r\n", Bad),
    // What is tolerated reaches the backend in one way only.
    Case("\r\n\r\nGET / HTTP/1.1\r\n@\r\n", Served("GET /\n", "x-none")),
    Case("GET / HTTP/1.1\n@X: a\n\n", Served("x: a\n", "x-none")),
    Case("GET / HTTP/1.1\r\n@X:a \t\r\n\r\n", Served("x: a\n", "x: a ")),
    Case(
        "POST /count HTTP/1.1\r\n@Content-Length: 05\r\n\r\nhello",
        Served("content-length: 5\n", "transfer-encoding"),
    ),
    Case("GET / HTTP/1.1\r\n@Content-Length: 0\r\n\r\n", Served("GET /\n", "transfer-encoding")),
    Case(
        "POST /count HTTP/1.1\r\n@Transfer-Encoding: CHUNKED\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        Served("transfer-encoding: chunked\n", "content-length"),
    ),
    Case("GET http://b.test/x?y HTTP/1.1\r\n@\r\n", Served("host: b.test\n", "a.test")),
    Case("GET http://b.test?y HTTP/1.1\r\n@\r\n", Served("GET /?y\n", "a.test")),
    Case("GET / HTTP/1.0\r\n\r\n", Served("GET /\n", "x-none")),
    // What belongs to the connection, and what it names, ends here.
    Case("GET / HTTP/1.1\r\n@Connection: x-secret, close\r\nX-Secret: 1\r\n\r\n", Served("host", "x-secret")),
    Case(
        "GET / HTTP/1.1\r\n@Connection: X-One\r\nConnection: x-two\r\nX-One: 1\r\nx-two: 2\r\n\r\n",
        Served("host", "x-"),
    ),
    Case(
        "GET / HTTP/1.1\r\n@Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        Served("host", "h2c"),
    ),
    Case("GET / HTTP/1.1\r\n@Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\n\r\n", Served("host", "te:")),
];

/// The bytes of a case.
fn request(text: &str) -> String {
    text.replacen("\r\n@", "\r\nHost: a.test\r\n", 1).replacen("\r@", "\rHost: a.test\r\n", 1).replacen(
        "HTTP/1.1\n@",
        "HTTP/1.1\nHost: a.test\n",
        1,
    )
}

/// Sends requests in pieces of this size; every answer until the end.
async fn answers(world: &World, bytes: &str, size: usize) -> String {
    let mut stream = world.raw().await;
    for piece in bytes.as_bytes().chunks(size) {
        // The proxy may have closed.
        if stream.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut answer = Vec::new();
    match tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await {
        Ok(_) => String::from_utf8_lossy(&answer).into_owned(),
        Err(_) => panic!("{bytes:?} is not answered and closed, but {:?}", String::from_utf8_lossy(&answer)),
    }
}

fn statuses(answer: &str) -> Vec<&str> {
    answer.match_indices("HTTP/1.").map(|(at, _)| &answer[at + 9..at + 12]).collect()
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_and_the_rest_is_written_in_one() {
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend)]).await;
    let before = "GET /before HTTP/1.1\r\nHost: a.test\r\n\r\n";
    for Case(text, verdict) in CASES {
        let text = request(text);
        for (leading, size) in [("", usize::MAX), ("", 1), (before, usize::MAX), (before, 1)] {
            world.log.events.lock().clear();
            // What is served leaves the connection open, unless it says otherwise: so the last request is one that does not.
            let ended = text.contains("close") || text.contains("HTTP/1.0");
            let last = if let (Served(..), false) = (verdict, ended) { "GET \0 HTTP/1.1\r\n\r\n" } else { "" };
            let answer = answers(&world, &format!("{leading}{text}{last}"), size).await;
            let mut seen = statuses(&answer);
            if !leading.is_empty() {
                assert!(answer.contains("you asked for /before"), "{text:?}: {answer}");
                assert_eq!(seen.remove(0), "200", "{text:?}: {answer}");
            }
            let refused = match verdict {
                Bad => "400".to_owned(),
                Refused(status) => status.to_string(),
                Served(seen_by_backend, hidden) => {
                    assert_eq!(seen.first(), Some(&"200"), "{text:?} behind {leading:?} in pieces of {size}: {answer}");
                    seen.remove(0);
                    let head = backend.seen.lock().clone();
                    assert!(head.contains(seen_by_backend), "{text:?}: {head}");
                    let own = [
                        "x-forwarded-for",
                        "x-forwarded-proto",
                        "x-forwarded-host",
                        "x-forwarded-port",
                        "x-request-id",
                    ];
                    let theirs: Vec<_> =
                        head.lines().filter(|line| !own.iter().any(|name| line.starts_with(name))).collect();
                    assert!(!theirs.join("\n").contains(hidden), "{text:?}: {head}");
                    "400".to_owned()
                }
            };
            match verdict {
                Served(..) if ended => assert!(seen.is_empty(), "{text:?}: {answer}"),
                _ => assert_eq!(seen, [refused], "{text:?}: {answer}"),
            }
            if let Bad = verdict {
                eventually(&format!("{text:?} is counted"), || !world.log.events().is_empty()).await;
                assert_eq!(world.log.events(), [("bad_request", "request_malformed")], "{text:?}");
            }
        }
    }
    world.settled().await;
}

#[tokio::test]
async fn nothing_is_taken_for_a_request_that_came_for_a_tunnel() {
    let backend = Backend::start().await;
    let world = World::new(vec![forward("all", &backend)]).await;
    // The backend does not agree to the upgrade; what came behind it was not looked at.
    let smuggled = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\
                    POST /smuggled HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = answers(&world, smuggled, usize::MAX).await;
    assert_eq!(statuses(&answer), ["200"], "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(!backend.seen.lock().contains("smuggled"));
    world.settled().await;
}

#[tokio::test]
async fn pitfall_25_a_request_for_a_host_with_other_tls_is_misdirected() {
    let backend = Backend::start().await;
    let own = rcgen::generate_simple_self_signed(["other.test".to_owned()]).unwrap();
    let mut other = over_tls(forward("other", &backend));
    other.matching.domains = vec!["other.test".parse().unwrap()];
    other.certificate = Some(Certificate {
        domains: vec![],
        chain: PemSource::Inline(own.cert.pem()),
        key: PemSource::Inline(own.signing_key.serialize_pem()),
    });
    let mut passed = over_tls(forward("passed", &backend));
    passed.tls = Some(TlsMode::Passthrough);
    passed.matching.domains = vec!["passed.test".parse().unwrap()];
    let mut shop = over_tls(forward("shop", &backend));
    shop.matching.domains = vec!["*.test".parse().unwrap(), "shop.test".parse().unwrap()];
    let world = World::new(vec![other, passed, shop]).await;
    // The connection is for shop.test. The first certificate is that of other.test, the one for all others is general.
    let (mut one, mut two) = (world.https1().await, world.https2().await);
    for (host, status) in [("shop.test", 200), ("SHOP.test:443", 200), ("passed.test", 421), ("shop.test", 200)] {
        let answer = soon(one.send_request(get(host, "/"))).await.unwrap();
        assert_eq!(answer.status(), status, "{host}");
        text(answer).await;
        let answer = soon(two.send_request(get2(host, "/"))).await.unwrap();
        assert_eq!(answer.status(), status, "{host}");
        text(answer).await;
    }
    let answer = soon(two.send_request(get2("other.test", "/"))).await.unwrap();
    assert_eq!(answer.status(), 421, "other.test has a certificate of its own");
    text(answer).await;
    assert!(
        world.log.events().iter().all(|event| *event == ("bad_request", "misdirected")),
        "{:?}",
        world.log.events()
    );
    drop((one, two));
    world.settled().await;
}
