//! A route that is full takes the slot of a connection that is idle.

use crate::support::backend::Backend;
use crate::support::client::{Body, hold_http, http1, http2, in_time, tcp, tls};
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{admin, certs, eventually, on_eight_threads};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

fn request(uri: &str) -> Request<Body> {
    let empty = Empty::<Bytes>::new().map_err(|never| match never {}).boxed();
    Request::get(uri).header("host", "end.test").body(empty).expect("a request")
}

/// One worker, so that who is idle is known to whoever comes; two connections on one route.
async fn start(reclaim: bool, backend: &Backend) -> (Proxy, SocketAddr, SocketAddr) {
    let (plain, secret) = (free_port(), free_port());
    let proxy = Proxy::start_with(
        "workers: 1\n",
        &format!(
            "bind: [\"127.0.0.1\"]
idleReclaim: {reclaim}
routes:
  - name: plain
    match: {{ ports: {plain}, protocol: http }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}] }}
    security: {{ maxConnections: 2 }}
  - name: secret
    match: {{ ports: {secret} }}
    action:
      type: forward
      targets: [{{ host: 127.0.0.1, port: {} }}]
      tls: {{ mode: terminate, certificate: {} }}
    security: {{ maxConnections: 2 }}
",
            backend.port(),
            backend.port(),
            certs::inline()
        ),
    );
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    (proxy, at(plain), at(secret))
}

async fn rest(proxy: &Proxy, route: &str, active: u64) {
    eventually("so many slots are held", Duration::from_secs(10), || {
        match admin::active(proxy.admin, "route", Some(route)) {
            now if now == active => Ok(()),
            now => Err(now.to_string()),
        }
    })
    .await;
}

macro_rules! status {
    ($client:expr) => {{
        in_time("its turn", $client.ready()).await.expect("an open connection");
        let response = in_time("an answer", $client.send_request(request("/"))).await.expect("an answer");
        let status = response.status();
        in_time("its body", response.into_body().collect()).await.expect("a whole body");
        status
    }};
}

#[test]
fn the_longest_idle_http1_connection_loses_its_slot_and_stays_open() {
    on_eight_threads(async {
        let backend = Backend::http().await;
        let (proxy, plain, _) = start(true, &backend).await;
        let mut oldest = http1(tcp(plain).await.expect("accepted")).await;
        let mut newer = http1(tcp(plain).await.expect("accepted")).await;
        assert_eq!((status!(oldest), status!(newer)), (StatusCode::OK, StatusCode::OK));
        assert_eq!(status!(oldest), StatusCode::OK, "now it is the newer one that has been idle longer");
        let mut third = http1(tcp(plain).await.expect("accepted")).await;
        assert_eq!(status!(third), StatusCode::OK);
        rest(&proxy, "plain", 2).await;
        let (_, metrics) = admin::get(proxy.admin, "/metrics");
        assert!(
            metrics.contains("smartproxy_slots_reclaimed_total{reason=\"route_limit\",route=\"plain\"} 1"),
            "{metrics}"
        );
        // Whoever lost its slot is open, and gets one again from who is idle by then.
        assert_eq!(status!(newer), StatusCode::OK);
        rest(&proxy, "plain", 2).await;
        // Two that are busy lose nothing.
        let held = [
            hold_http(tcp(plain).await.expect("accepted"), "end.test").await.expect("an endless answer"),
            hold_http(tcp(plain).await.expect("accepted"), "end.test").await.expect("an endless answer"),
        ];
        assert_eq!(status!(oldest), StatusCode::SERVICE_UNAVAILABLE);
        drop(held);
        rest(&proxy, "plain", 0).await;
        assert_eq!(status!(oldest), StatusCode::OK, "the same connection");
    });
}

#[test]
fn the_longest_idle_http2_connection_loses_its_slot_and_stays_open() {
    on_eight_threads(async {
        let backend = Backend::http().await;
        let (proxy, _, secret) = start(true, &backend).await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            let stream = tls(tcp(secret).await.expect("accepted"), "end.test", &["h2"]).await.expect("TLS");
            let mut client = http2(stream).await;
            let response = in_time("an answer", client.send_request(request("https://end.test/"))).await;
            let response = response.expect("an answer");
            assert_eq!(response.status(), StatusCode::OK);
            in_time("its body", response.into_body().collect()).await.expect("a whole body");
            clients.push(client);
        }
        rest(&proxy, "secret", 2).await;
        let again = in_time("an answer", clients[0].send_request(request("https://end.test/"))).await;
        assert_eq!(again.expect("it stays open").status(), StatusCode::OK);
        rest(&proxy, "secret", 2).await;
        let streams = [request("https://end.test/hold"), request("https://end.test/hold")];
        let mut held = Vec::new();
        for (client, request) in clients.iter_mut().zip(streams) {
            held.push(in_time("a head", client.send_request(request)).await.expect("an endless answer"));
        }
        let refused = in_time("an answer", clients[2].send_request(request("https://end.test/"))).await;
        assert_eq!(refused.expect("an answer").status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(held);
    });
}

#[test]
fn without_it_a_full_route_is_full() {
    on_eight_threads(async {
        let backend = Backend::http().await;
        let (_proxy, plain, _) = start(false, &backend).await;
        let mut first = http1(tcp(plain).await.expect("accepted")).await;
        let mut second = http1(tcp(plain).await.expect("accepted")).await;
        assert_eq!((status!(first), status!(second)), (StatusCode::OK, StatusCode::OK));
        let mut third = http1(tcp(plain).await.expect("accepted")).await;
        assert_eq!(status!(third), StatusCode::SERVICE_UNAVAILABLE);
    });
}
