//! Health checks speak to a target as the route does: what they find is what requests would.

use crate::support::backend::Backend;
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{admin, certs, eventually, on_eight_threads};
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A backend that wants exactly this before a request, and then answers `/status/500` and others as they say.
async fn announced(header: &'static [u8]) -> Backend {
    Backend::start(move |mut stream| async move {
        let mut got = vec![0; header.len()];
        if stream.read_exact(&mut got).await.is_err() || got != header {
            return;
        }
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
                return;
            }
        }
        let status = if head.starts_with(b"GET /status/500 ") { 500 } else { 200 };
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
    })
    .await
}

/// A header of version 2 that names nobody.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

#[test]
fn checks_go_over_tls_http2_and_behind_a_proxy_header() {
    on_eight_threads(async {
        let folder = tempfile::tempdir().expect("a folder");
        let roots = folder.path().join("roots.pem");
        std::fs::write(&roots, &certs::identity().chain_pem).expect("written");
        let tls = format!(
            "tls: {{ mode: terminate-and-reencrypt, certificate: {} }}, backendTls: {{ ca: {roots:?}, serverName: end.test }}",
            certs::inline()
        );
        let untrusted = tls.replace("end.test", "nobody.test");
        let cases = [
            ("tls", Backend::https(&["http/1.1"]).await, tls.clone(), "500"),
            ("tls2", Backend::https(&["h2"]).await, format!("{tls}, backendProtocol: http2"), "500"),
            ("plain2", Backend::http2().await, "backendProtocol: http2".to_owned(), "500"),
            ("v1", announced(b"PROXY UNKNOWN\r\n").await, "sendProxyProtocol: v1".to_owned(), "500"),
            ("v2", announced(LOCAL).await, "sendProxyProtocol: v2".to_owned(), "500"),
            ("untrusted", Backend::https(&["http/1.1"]).await, untrusted, "certificate"),
        ];
        let mut routes = String::new();
        for (name, backend, more, _) in &cases {
            for (state, status) in [("well", 204), ("ill", 500)] {
                let (port, target) = (free_port(), backend.port());
                let check =
                    format!("{{ path: /status/{status}, interval: 400ms, timeout: 400ms, unhealthyThreshold: 1 }}");
                routes += &format!(
                    "  - name: {name}-{state}
    match: {{ ports: {port}, path: \"/*\" }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {target} }}], {more}, loadBalancing: {{ healthCheck: {check} }} }}
"
                );
            }
        }
        let proxy = Proxy::start(&format!("bind: [\"127.0.0.1\"]\nroutes:\n{routes}"));
        for (name, _, _, why) in &cases {
            let found = |state: &str| {
                let (_, text) = admin::get(proxy.admin, "/api/v1/routes");
                let all: Value = serde_json::from_str(&text).expect("JSON");
                let routes = all["routes"].as_array().expect("a list");
                let route = routes.iter().find(|route| route["name"] == format!("{name}-{state}"));
                route.unwrap_or_else(|| panic!("no {name}-{state} in {text}"))["backends"][0].clone()
            };
            let what = format!("{name}: who answers 500 is down because of it");
            eventually(&what, Duration::from_secs(20), || {
                let one = found("ill");
                let told = one["lastFailure"].as_str().is_some_and(|said| said.contains(why));
                if one["state"] == "down" && told { Ok(()) } else { Err(one.to_string()) }
            })
            .await;
            if *why == "500" {
                eventually(&format!("{name}: who answers 204 is well"), Duration::from_secs(20), || {
                    let one = found("well");
                    if one["healthy"] == true && one["state"] == "up" { Ok(()) } else { Err(one.to_string()) }
                })
                .await;
            }
        }
    });
}
