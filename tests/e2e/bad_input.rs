//! Whatever arrives: a clear answer or a close, a counted reason, no panic, no slot left.

use crate::support::backend::Backend;
use crate::support::client::{self, in_time, tcp, tls};
use crate::support::leftovers::Baseline;
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{admin, certs, eventually, on_eight_threads};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One port for everything in TLS, one for plain HTTP, one for a tcp route to a backend that is not there.
struct Target {
    proxy: Proxy,
    tls: SocketAddr,
    web: SocketAddr,
    nowhere: SocketAddr,
    backends: Vec<Backend>,
}

impl Target {
    async fn start() -> Self {
        let (web, echo) = (Backend::http().await, Backend::tls_echo().await);
        let silent = Backend::start(|mut stream| async move {
            // Reads everything, says nothing.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            std::future::pending::<()>().await;
        })
        .await;
        let broken = Backend::start(|mut stream| async move {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this").await;
        })
        .await;
        let gibberish = Backend::start(|mut stream| async move {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"220 smtp.test ready\r\n").await;
        })
        .await;
        let [tls_port, web_port, nowhere, gone] = [(); 4].map(|()| free_port());
        let http = |name: &str, backend: u16| {
            format!(
                "  - name: {name}
    match: {{ ports: {web_port}, domains: {name}.test }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {backend} }}] }}
"
            )
        };
        let proxy = Proxy::start(&format!(
            "bind: [\"127.0.0.1\"]
connectionRateLimitPerMinute: 0
initialDataTimeout: 1s
requestHeaderTimeout: 1s
responseTimeout: 1s
routes:
  - name: pass
    match: {{ ports: {tls_port}, domains: pass.test }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}], tls: {{ mode: passthrough }} }}
  - name: end
    match: {{ ports: {tls_port}, domains: end.test }}
    action:
      type: forward
      targets: [{{ host: 127.0.0.1, port: {} }}]
      tls: {{ mode: terminate, certificate: {} }}
  - name: nowhere
    match: {{ ports: {nowhere} }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {gone} }}] }}
{}{}{}{}{}",
            echo.port(),
            web.port(),
            certs::inline(),
            http("web", web.port()),
            http("gone", gone),
            http("silent", silent.port()),
            http("broken", broken.port()),
            http("gibberish", gibberish.port()),
        ));
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let backends = vec![web, echo, silent, broken, gibberish];
        Self { proxy, tls: at(tls_port), web: at(web_port), nowhere: at(nowhere), backends }
    }

    /// Sends bytes and reads until the proxy closes.
    async fn answer(&self, address: SocketAddr, bytes: &[u8]) -> String {
        read_all(tcp(address).await.expect("accepted"), bytes).await
    }

    /// How often a reason was counted.
    fn counted(&self, reason: &str) -> u64 {
        let (status, metrics) = admin::get(self.proxy.admin, "/metrics");
        assert_eq!(status, 200);
        // Handshakes are counted by their result, everything else by its reason.
        let labels = ["reason", "result"].map(|label| format!("{label}=\"{reason}\""));
        let samples = metrics.lines().filter(|line| labels.iter().any(|label| line.contains(label)));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    async fn assert_counted(&self, reason: &str, least: u64) {
        eventually(&format!("{reason} is counted"), Duration::from_secs(20), || match self.counted(reason) {
            count if count >= least => Ok(()),
            count => Err(format!("{count} instead of {least}:\n{}", admin::get(self.proxy.admin, "/metrics").1)),
        })
        .await;
    }
}

async fn read_all(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, bytes: &[u8]) -> String {
    // The proxy may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    if let Err(error) = in_time("the answer or close", stream.read_to_end(&mut answer)).await {
        assert!(client::is_close(&error), "{error}");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn garbage_on_any_port_is_closed_or_answered_and_counted() {
    on_eight_threads(async {
        let target = Target::start().await;
        let baseline = Baseline::of(&target.proxy).await;
        let noise: Vec<u8> = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80).collect();

        assert_eq!(target.answer(target.tls, &noise).await, "", "neither TLS nor routed: closed");
        target.assert_counted("not_http", 0).await;
        let answer = target.answer(target.web, &noise).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
        target.assert_counted("request_malformed", 1).await;

        // A hello that says it is larger than any hello, one that is cut off, one that is none.
        let mut oversized = vec![0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
        oversized.resize(5 + 0x4000, 0);
        assert_eq!(target.answer(target.tls, &oversized).await, "");
        target.assert_counted("hello_too_large", 1).await;
        assert_eq!(target.answer(target.tls, &[0x16, 3, 1, 0, 4, 2, 0, 0, 0]).await, "");
        target.assert_counted("hello_malformed", 1).await;
        let mut cut = tcp(target.tls).await.expect("accepted");
        cut.write_all(&[0x16, 3, 1, 2, 0, 1, 0]).await.expect("it is read");
        cut.shutdown().await.expect("the way is open");
        assert_eq!(read_all(cut, b"").await, "");
        target.assert_counted("hello_truncated", 1).await;
        assert_eq!(target.answer(target.tls, &[0x16, 3, 1, 2, 0, 1, 0]).await, "", "closed by the deadline");
        target.assert_counted("initial_data_timeout", 1).await;

        for request in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "GET / HTTP/1.1\r\nHost : web.test\r\n\r\n",
            "GET  HTTP/1.1\r\nHost: web.test\r\n\r\n",
            "GET / HTTP/9.9\r\nHost: web.test\r\n\r\n",
        ] {
            let answer = target.answer(target.web, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{request:?}: {answer:?}");
        }
        let large = format!("GET / HTTP/1.1\r\nHost: web.test\r\nX-Large: {}\r\n\r\n", "x".repeat(100_000));
        let answer = target.answer(target.web, large.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer:?}");
        target.assert_counted("header_too_large", 1).await;
        // The second of its connection: the first one has another deadline, which a slow machine may reach before.
        let slow = b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\nGET / HTTP/1.1\r\nHost: web";
        let slow = target.answer(target.web, slow).await;
        assert!(slow.starts_with("HTTP/1.1 200") && slow.contains("HTTP/1.1 408"), "{slow:?}");
        target.assert_counted("request_header_timeout", 1).await;

        drop(target.backends);
        baseline.assert_restored(&target.proxy).await;
    });
}

#[test]
fn what_nothing_is_routed_for_is_told_so() {
    on_eight_threads(async {
        let target = Target::start().await;
        let baseline = Baseline::of(&target.proxy).await;
        let answer =
            target.answer(target.web, b"GET / HTTP/1.1\r\nHost: unknown.test\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        target.assert_counted("no_route", 1).await;
        let stream = tls(tcp(target.tls).await.expect("accepted"), "end.test", &["http/1.1"]).await.expect("TLS");
        let answer = read_all(stream, b"GET / HTTP/1.1\r\nHost: unknown.test\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        target.assert_counted("no_route", 2).await;
        drop(target.backends);
        baseline.assert_restored(&target.proxy).await;
    });
}

#[test]
fn a_backend_that_refuses_hangs_breaks_off_or_babbles_is_answered_for() {
    on_eight_threads(async {
        let target = Target::start().await;
        let baseline = Baseline::of(&target.proxy).await;
        let ask = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}.test\r\nConnection: close\r\n\r\n");
        for (host, status, reason) in [
            ("gone", "502", "dial_refused"),
            ("silent", "504", "response_timeout"),
            ("gibberish", "502", "response_malformed"),
        ] {
            let answer = target.answer(target.web, ask(host).as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
            target.assert_counted(reason, 1).await;
        }
        let answer = target.answer(target.web, ask("broken").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("only this"), "{answer}");
        assert!(
            answer.to_lowercase().contains("content-length: 100"),
            "the client sees that bytes are missing: {answer}"
        );
        target.assert_counted("connection_lost", 1).await;

        let refused = target.answer(target.nowhere, b"").await;
        assert_eq!(refused, "", "a tcp client is closed");
        target.assert_counted("dial_refused", 2).await;
        drop(target.backends);
        baseline.assert_restored(&target.proxy).await;
    });
}

#[test]
fn pitfall_21_a_tls_client_that_breaks_off_is_counted() {
    on_eight_threads(async {
        let target = Target::start().await;
        let baseline = Baseline::of(&target.proxy).await;
        // A client that does not trust the certificate.
        let roots = rustls::RootCertStore::empty();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let stream: TcpStream = tcp(target.tls).await.expect("accepted");
        assert!(connector.connect(certs::name("end.test"), stream).await.is_err());
        eventually("the handshake is counted", Duration::from_secs(20), || {
            let all = ["handshake_failed", "handshake_aborted"].map(|reason| target.counted(reason));
            if all.iter().sum::<u64>() > 0 { Ok(()) } else { Err("it is not".to_owned()) }
        })
        .await;
        drop(target.backends);
        baseline.assert_restored(&target.proxy).await;
    });
}
