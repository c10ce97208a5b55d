//! What is spoken to a backend: TLS, HTTP/2, upgrades.

use super::backend::{Backend, answer, read_head, serve_http2, write};
use super::*;
use proxy_route::BackendProtocol;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::path::Path;
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsAcceptor;

#[tokio::test]
async fn http2_in_plain_shares_one_connection() {
    let backend =
        Backend::http2(|request| format!("{:?} {} {:?}", request.version(), request.uri(), request.headers().len()))
            .await;
    let world = World::with(&[backend.port], |forward| forward.backend_protocol = BackendProtocol::Http2, |_| {}, None);
    let texts = futures_util::future::join_all((0..4).map(|_| world.text("/a?b"))).await;
    assert_eq!(texts, ["HTTP/2.0 http://shop.test/a?b 0"; 4]);
    assert_eq!((backend.accepted(), world.in_flight(), world.events()), (1, 0, vec![]));
}

#[tokio::test]
async fn beyond_the_streams_of_a_peer_another_connection_is_opened() {
    let backend = Backend::http2(|_| "x".repeat(600 * 1024)).await;
    let world = World::with(&[backend.port], |forward| forward.backend_protocol = BackendProtocol::Http2, |_| {}, None);
    // Bodies larger than the window keep their streams. The limit of 4 is known after the first.
    let mut responses = Vec::new();
    for _ in 0..8 {
        responses.push(world.get("/").await.unwrap());
    }
    assert_eq!((backend.accepted(), world.in_flight()), (2, 8));
    for response in responses {
        assert_eq!(text(response).await.unwrap().len(), 600 * 1024);
    }
    assert_eq!((world.in_flight(), world.events()), (0, vec![]));
}

/// A backend with a certificate for `shop.test`, which answers with the SNI, in the protocol agreed on.
async fn encrypted(alpn: &'static [&'static str]) -> (Backend, String) {
    let made = rcgen::generate_simple_self_signed(vec!["shop.test".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let chain: Vec<CertificateDer<'static>> = vec![made.cert.der().clone()];
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let backend = Backend::new(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let session = stream.get_ref().1;
            if session.alpn_protocol() == Some(b"h2") {
                return serve_http2(stream, |request| format!("{:?} {}", request.version(), request.uri())).await;
            }
            let name = session.server_name().unwrap_or("none").to_owned();
            while read_head(&mut stream).await.is_some() {
                answer(&mut stream, &name).await;
            }
        }
    })
    .await;
    (backend, made.cert.pem())
}

fn reencrypting(port: u16, change: impl FnOnce(&mut Forward)) -> World {
    World::with(&[port], change, |_| {}, Some(TlsMode::TerminateAndReencrypt))
}

fn file(pem: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    file
}

fn trusting(path: &Path, name: Option<&str>) -> impl FnOnce(&mut Forward) {
    let (path, name) = (path.to_owned(), name.map(str::to_owned));
    move |forward| {
        forward.backend_tls.ca = Some(path);
        forward.backend_tls.server_name = name;
    }
}

#[tokio::test]
async fn only_a_certificate_of_a_trusted_root_and_the_right_name_is_taken() {
    let (backend, root) = encrypted(&["http/1.1"]).await;
    let (_, other_root) = encrypted(&[]).await;
    let (root, other_root) = (file(&root), file(&other_root));

    assert_eq!(
        reencrypting(backend.port, trusting(root.path(), None)).text("/").await,
        "none",
        "no SNI for an address"
    );
    assert_eq!(reencrypting(backend.port, trusting(root.path(), Some("shop.test"))).text("/").await, "shop.test");
    let skipping = |forward: &mut Forward| forward.backend_tls.insecure_skip_verify = true;
    assert_eq!(reencrypting(backend.port, skipping).text("/").await, "none");

    for (root, name) in [(&other_root, None), (&root, Some("other.test"))] {
        let world = reencrypting(backend.port, trusting(root.path(), name));
        let error = world.get("/").await.unwrap_err();
        assert_eq!((error, error.status().as_u16()), (UpstreamError::Unreachable { timed_out: false }, 502));
        assert_eq!((world.events(), world.in_flight()), (vec!["tls_failed"], 0));
    }
}

#[tokio::test]
async fn the_protocol_is_the_one_agreed_on() {
    for (offered, protocol, expected) in [
        (&["h2", "http/1.1"] as &'static [&'static str], BackendProtocol::Auto, "HTTP/2.0 https://shop.test/"),
        (&["h2", "http/1.1"], BackendProtocol::Http1, "none"),
        (&["http/1.1"], BackendProtocol::Auto, "none"),
        (&[], BackendProtocol::Auto, "none"),
        (&["h2", "http/1.1"], BackendProtocol::Http2, "HTTP/2.0 https://shop.test/"),
    ] {
        let (backend, root) = encrypted(offered).await;
        let root = file(&root);
        let world = reencrypting(backend.port, |forward| {
            trusting(root.path(), None)(forward);
            forward.backend_protocol = protocol;
        });
        let texts = futures_util::future::join_all((0..3).map(|_| world.text("/"))).await;
        assert_eq!(texts, [expected; 3], "{offered:?} {protocol:?}");
        assert_eq!(world.text("/").await, expected);
        if expected.starts_with("HTTP/2") {
            assert_eq!(backend.accepted(), 1, "{offered:?} {protocol:?}");
        }
        assert_eq!(world.in_flight(), 0);
    }
}

#[tokio::test]
async fn an_upgrade_leads_to_the_backend_and_counts_until_its_end() {
    let backend = Backend::new(|_, mut stream| async move {
        let head = read_head(&mut stream).await.unwrap();
        assert!(head.contains("upgrade: websocket\r\n"), "{head}");
        write(
            &mut stream,
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello ",
        )
        .await;
        let mut name = [0; 3];
        stream.read_exact(&mut name).await.unwrap();
        stream.write_all(&name).await.unwrap();
    })
    .await;
    let mut world = World::new(&[backend.port]);
    world.upgrade = true;
    let mut request = request(Method::GET, "/", RequestBody::Empty);
    request.headers_mut().insert("connection", "upgrade".parse().unwrap());
    request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let response = world.send(request).await.unwrap();
    assert_eq!(response.status, 101);
    let mut tunnel = response.body.into_tunnel().unwrap();
    tunnel.write_all(b"bob").await.unwrap();
    let mut text = String::new();
    tunnel.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello bob");
    assert_eq!(world.in_flight(), 1, "as long as the tunnel lives");
    drop(tunnel);
    assert_eq!((world.in_flight(), world.events()), (0, vec![]));
}

#[tokio::test]
async fn the_future_can_be_spawned() {
    let backend = Backend::patient().await;
    let world = Arc::new(World::new(&[backend.port]));
    let spawned = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.text("/").await }
    });
    assert_eq!(spawned.await.unwrap(), "ok");
}

#[tokio::test]
async fn a_host_that_http2_cannot_name_is_the_clients_fault() {
    let backend = Backend::http2(|_| "ok".to_owned()).await;
    let world = World::with(&[backend.port], |forward| forward.backend_protocol = BackendProtocol::Http2, |_| {}, None);
    let mut request = request(Method::GET, "/", RequestBody::Empty);
    request.headers_mut().insert("host", "a b".parse().unwrap());
    let error = world.send(request).await.unwrap_err();
    assert_eq!((error, error.status().as_u16()), (UpstreamError::BadRequest, 400));
    assert_eq!((world.in_flight(), world.events()), (0, vec![]));
}
