//! TLS that ends at the proxy: sessions, certificates of clients, and handshakes that do not end.

use crate::support::backend::Backend;
use crate::support::client::{http1, in_time, tcp};
use crate::support::ports::{free_port, local};
use crate::support::proxy::Proxy;
use crate::support::{admin, certs, eventually, is_installed, on_eight_threads};
use base64::Engine;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, HandshakeKind};
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A route that ends TLS; `matching` are more keys of its match, `tls` of its TLS.
fn route(name: &str, port: u16, backend: &Backend, matching: &str, tls: &str) -> String {
    format!(
        "  - name: {name}
    match: {{ ports: {port}, {matching} }}
    action:
      type: forward
      targets: [{{ host: 127.0.0.1, port: {} }}]
      tls: {{ mode: terminate, certificate: {}, {tls} }}
",
        backend.port(),
        certs::inline(),
    )
}

fn config(settings: &str, routes: &str) -> String {
    format!("bind: [\"127.0.0.1\"]\nconnectionRateLimitPerMinute: 0\n{settings}\nroutes:\n{routes}")
}

async fn shake(port: u16, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = tcp(local(port)).await?;
    in_time("a handshake", TlsConnector::from(Arc::clone(config)).connect(certs::name(name), stream)).await
}

/// One request: status and body.
async fn ask(
    stream: TlsStream<TcpStream>,
    host: &str,
    path: &str,
    header: (&str, &str),
) -> hyper::Result<(u16, String)> {
    let empty = Empty::new().map_err(|never| match never {}).boxed();
    let request = Request::get(path).header("host", host).header(header.0, header.1).body(empty).expect("a request");
    let mut sender = http1(stream).await;
    let response = in_time("an answer", sender.send_request(request)).await?;
    let status = response.status().as_u16();
    let body = in_time("the body", response.into_body().collect()).await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

const NOTHING: (&str, &str) = ("x-nothing", "1");

/// Resumed or not, and what the answer to a request was.
async fn visit(port: u16, config: &Arc<ClientConfig>) -> Option<HandshakeKind> {
    let mut stream = shake(port, config, "end.test").await.expect("TLS");
    let request = b"GET / HTTP/1.1\r\nhost: end.test\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.expect("the way is open");
    let mut answer = Vec::new();
    // The ticket comes with it.
    let _ = in_time("the answer", stream.read_to_end(&mut answer)).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    stream.get_ref().1.handshake_kind()
}

#[test]
fn sessions_are_resumed_across_workers_and_reloads() {
    on_eight_threads(async {
        let (backend, port) = (Backend::http().await, free_port());
        let text = config("", &route("end", port, &backend, "domains: [end.test]", ""));
        let proxy = Proxy::start(&text);
        let client = certs::client(&["http/1.1"]);
        assert_eq!(visit(port, &client).await, Some(HandshakeKind::Full));
        for round in 0..3 {
            // Whose worker a connection comes to is by the hash of its port: forty meet all four of them.
            for visitor in 0..40 {
                let kind = visit(port, &client).await;
                assert_eq!(kind, Some(HandshakeKind::Resumed), "visitor {visitor} of round {round}");
            }
            proxy.reload(
                &text.replace("connectionRateLimitPerMinute: 0", &format!("maxPendingConnections: {}", 900 + round)),
            );
        }
    });
}

#[test]
fn openssl_resumes_in_both_versions() {
    on_eight_threads(async {
        if !is_installed("openssl", "version") {
            return;
        }
        let (backend, port) = (Backend::http().await, free_port());
        let proxy = Proxy::start(&config("", &route("end", port, &backend, "domains: [end.test]", "")));
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), &certs::identity().chain_pem).expect("written");
        for version in ["-tls1_3", "-tls1_2"] {
            for (session, expected) in [("-sess_out", "New, TLSv1."), ("-sess_in", "Reused, TLSv1.")] {
                let mut child = Command::new("openssl")
                    .args(["s_client", "-ign_eof", version, "-servername", "end.test", "-CAfile", "ca.pem"])
                    .args(["-connect", &local(port).to_string(), session, "session"])
                    .current_dir(folder.path())
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("openssl starts");
                let request = b"GET / HTTP/1.1\r\nHost: end.test\r\nConnection: close\r\n\r\n";
                child.stdin.take().expect("it is piped").write_all(request).expect("it reads");
                let output = tokio::task::spawn_blocking(move || child.wait_with_output());
                let output = in_time("openssl", output).await.expect("no panic").expect("it ends");
                let text = String::from_utf8_lossy(&output.stdout);
                assert!(text.contains(expected) && text.contains("HTTP/1.1 200"), "{version} {session}: {text}");
            }
        }
        drop(proxy);
    });
}

/// Somebody who makes certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A client with a certificate of this authority; and its certificate.
    fn client(&self, alpn: &[&str]) -> (Arc<ClientConfig>, CertificateDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["ann.test".to_owned()]).expect("a name");
        let made = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![made.der().clone()];
        (certs::client_with(alpn, Some((chain, key))), made.der().clone())
    }
}

#[test]
fn clients_show_certificates_where_routes_want_to_see_them() {
    on_eight_threads(async {
        let (backend, port) = (Backend::http().await, free_port());
        let (house, stranger) = (Authority::new(), Authority::new());
        let folder = tempfile::tempdir().expect("a folder");
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, &house.pem).expect("written");
        let auth = |mode: &str| format!("clientAuth: {{ ca: {ca:?}, mode: {mode} }}");
        let routes = [
            route("closed", port, &backend, "domains: [end.test]", &auth("require")),
            route("open", port, &backend, "domains: [other.test]", ""),
            route("asks", port, &backend, "domains: [a.wild.test]", &auth("optional")),
            route("part", port, &backend, "domains: [b.wild.test], path: \"/head/part\"", &auth("require")),
            route("rest", port, &backend, "domains: [b.wild.test]", ""),
        ];
        let proxy = Proxy::start(&config("", &routes.concat()));
        let nobody = certs::client(&["http/1.1"]);
        let (ann, leaf) = house.client(&["http/1.1"]);
        let (mallory, _) = stranger.client(&["http/1.1"]);
        let told = format!("client-cert: :{}:", base64::engine::general_purpose::STANDARD.encode(&leaf));
        let spoof = ("client-cert", ":c3Bvb2Y=:");

        // Required of everybody for the name: without one there is no connection. In TLS 1.3 the client learns late.
        for client in [&nobody, &mallory] {
            let refused = match shake(port, client, "end.test").await {
                Ok(stream) => ask(stream, "end.test", "/head", NOTHING).await.is_err(),
                Err(_) => true,
            };
            assert!(refused);
        }
        let stream = shake(port, &ann, "end.test").await.expect("TLS");
        let (status, head) = ask(stream, "end.test", "/head", spoof).await.expect("an answer");
        assert_eq!((status, head.matches("client-cert").count()), (200, 1), "{head}");
        assert!(head.contains(&told), "{head}");

        // Resumption would show no certificate.
        for _ in 0..3 {
            assert_eq!(visit(port, &ann).await, Some(HandshakeKind::Full));
        }

        // A connection for another name was not asked.
        for client in [&nobody, &ann] {
            let stream = shake(port, client, "other.test").await.expect("TLS");
            assert_eq!(ask(stream, "end.test", "/head", NOTHING).await.expect("an answer").0, 421);
            let stream = shake(port, client, "other.test").await.expect("TLS");
            let (status, head) = ask(stream, "other.test", "/head", spoof).await.expect("an answer");
            assert!(status == 200 && !head.contains("client-cert"), "{head}");
        }

        // Optional: with and without, but not with a wrong one.
        let stream = shake(port, &nobody, "a.wild.test").await.expect("TLS");
        let (status, head) = ask(stream, "a.wild.test", "/head", spoof).await.expect("an answer");
        assert!(status == 200 && !head.contains("client-cert"), "{head}");
        let stream = shake(port, &ann, "a.wild.test").await.expect("TLS");
        assert!(ask(stream, "a.wild.test", "/head", NOTHING).await.expect("an answer").1.contains(&told));
        let refused = match shake(port, &mallory, "a.wild.test").await {
            Ok(stream) => ask(stream, "a.wild.test", "/head", NOTHING).await.is_err(),
            Err(_) => true,
        };
        assert!(refused);

        // Required of a part of a name: the request tells.
        for (client, path, expected) in [
            (&nobody, "/head/part", 403),
            (&nobody, "/head/other", 200),
            (&ann, "/head/part", 200),
            (&ann, "/head/other", 200),
        ] {
            let stream = shake(port, client, "b.wild.test").await.expect("TLS");
            let (status, head) = ask(stream, "b.wild.test", path, NOTHING).await.expect("an answer");
            assert_eq!(status, expected, "{path}: {head}");
            assert_eq!(head.contains(&told), (status, path) == (200, "/head/part"), "{path}: {head}");
        }
        let (_, metrics) = admin::get(proxy.admin, "/metrics");
        for reason in ["reason=\"client_certificate\",route=\"part\"} 1", "reason=\"misdirected\""] {
            assert!(metrics.contains(reason), "{metrics}");
        }
        eventually("failed handshakes are counted by client", Duration::from_secs(20), || {
            let limits = admin::limits(proxy.admin);
            let failed = &limits["top"]["failedHandshakes"];
            if failed[0]["client"] == "127.0.0.1" && failed[0]["failed"] == 3 {
                Ok(())
            } else {
                Err(failed.to_string())
            }
        })
        .await;

        // New roots are for new connections.
        std::fs::write(&ca, &stranger.pem).expect("written");
        eventually("they are in force", Duration::from_secs(15), || {
            if proxy.log().contains("are in force") { Ok(()) } else { Err(proxy.log()) }
        })
        .await;
        let stream = shake(port, &mallory, "end.test").await.expect("TLS");
        assert_eq!(ask(stream, "end.test", "/head", NOTHING).await.expect("an answer").0, 200);
    });
}

fn handshakes(proxy: &Proxy) -> (u64, u64) {
    let (_, text) = admin::get(proxy.admin, "/api/v1/status");
    let status: Value = serde_json::from_str(&text).expect("JSON");
    let count = |what: &str| status["handshakes"][what].as_u64().expect("a count");
    (count("active"), count("waiting"))
}

async fn there_are(proxy: &Proxy, expected: (u64, u64)) {
    eventually(&format!("{expected:?} go on and wait"), Duration::from_secs(10), || match handshakes(proxy) {
        counts if counts == expected => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[test]
fn a_handshake_that_stands_still_holds_its_turn_until_it_is_given_up() {
    on_eight_threads(async {
        let (backend, port) = (Backend::http().await, free_port());
        let settings = "maxTlsHandshakes: 1\ninitialDataTimeout: 1h";
        let text = config(settings, &route("end", port, &backend, "domains: [end.test]", ""));
        let proxy = Proxy::start(&text);
        let client = certs::client(&["http/1.1"]);
        for reset in [false, true] {
            let mut still = tcp(local(port)).await.expect("accepted");
            let mut hello = Vec::new();
            let mut connection =
                rustls::ClientConnection::new(Arc::clone(&client), certs::name("end.test")).expect("a client");
            connection.write_tls(&mut hello).expect("a vector takes everything");
            still.write_all(&hello).await.expect("the way is open");
            assert!(still.read(&mut [0; 64]).await.is_ok_and(|count| count > 0), "the server's part begins");
            there_are(&proxy, (1, 0)).await;
            let waiting = tokio::spawn({
                let client = Arc::clone(&client);
                async move { shake(port, &client, "end.test").await }
            });
            there_are(&proxy, (1, 1)).await;
            assert_eq!(admin::active(proxy.admin, "pending", None), 2, "both are pending");
            // One that leaves the queue is not waited for.
            let mut impatient = tcp(local(port)).await.expect("accepted");
            impatient.write_all(&hello).await.expect("the way is open");
            there_are(&proxy, (1, 2)).await;
            if reset {
                still.set_zero_linger().expect("a socket");
            }
            drop(still);
            let stream = waiting.await.expect("no panic").expect("its turn has come");
            assert_eq!(ask(stream, "end.test", "/", NOTHING).await.expect("an answer").0, 200);
            drop(impatient);
            there_are(&proxy, (0, 0)).await;
        }

        // A raised limit lets all of them begin.
        proxy.reload(&text.replace("maxTlsHandshakes: 1", "maxTlsHandshakes: 0"));
        for _ in 0..3 {
            visit(port, &client).await;
        }
    });
}
