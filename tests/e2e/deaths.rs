//! Connections that are killed in every stage of their life, by FIN and by RST: nothing is left of them.

use crate::support::backend::Backend;
use crate::support::client::{self, hello, hold_http, ping, tcp, tls};
use crate::support::leftovers::Baseline;
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{admin, certs, eventually, on_eight_threads};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// How a client goes away.
#[derive(Clone, Copy, Debug)]
enum Death {
    Fin,
    Rst,
}

/// When it does.
#[derive(Clone, Copy, Debug)]
enum Stage {
    BeforeAnyByte,
    InTheHello,
    InTheHandshake,
    InTheHead,
    InTheBody,
    InTheAnswer,
    AfterUpgrade,
    InTheTunnel,
    HalfClosed,
    WhileDialling,
    WhileDiallingForHttp,
    WithMoreBehind,
}

const STAGES: [Stage; 12] = [
    Stage::BeforeAnyByte,
    Stage::InTheHello,
    Stage::InTheHandshake,
    Stage::InTheHead,
    Stage::InTheBody,
    Stage::InTheAnswer,
    Stage::AfterUpgrade,
    Stage::InTheTunnel,
    Stage::HalfClosed,
    Stage::WhileDialling,
    Stage::WhileDiallingForHttp,
    Stage::WithMoreBehind,
];

/// A proxy with everything that a connection can die in.
struct House {
    proxy: Proxy,
    address: SocketAddr,
    backends: [Backend; 3],
    /// Keeps the queue of the backend that never accepts full.
    _stuck: Stuck,
}

/// A listener whose queue is full, so that dialling it hangs.
struct Stuck {
    listener: socket2::Socket,
    _queued: Vec<std::net::TcpStream>,
}

impl Stuck {
    fn new() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("loopback has free ports");
        listener.listen(0).expect("it is bound");
        let address = listener.local_addr().expect("it is bound").as_socket().expect("an IPv4 address");
        let mut queued = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            queued.push(stream);
        }
        Self { listener, _queued: queued }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().expect("it is bound").as_socket().expect("an IPv4 address").port()
    }
}

impl House {
    async fn build() -> Self {
        let backends = [Backend::tls_echo().await, Backend::http().await, Backend::websocket().await];
        let (stuck, port) = (Stuck::new(), free_port());
        let [echo, http, websocket] = backends.each_ref().map(Backend::port);
        let certificate = certs::inline();
        let route = |name: &str, matching: &str, backend: u16, mode: &str| {
            let tls = if mode == "passthrough" {
                "{ mode: passthrough }".to_owned()
            } else {
                format!("{{ mode: terminate, certificate: {certificate} }}")
            };
            format!(
                "  - name: {name}
    match: {{ ports: {port}, {matching} }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {backend} }}], tls: {tls} }}
    security: {{ maxConnections: 1000, maxConnectionsPerIP: 1000 }}
"
            )
        };
        let routes = [
            route("pass", "domains: pass.test", echo, "passthrough"),
            route("stuck", "domains: other.test", stuck.port(), "passthrough"),
            route("end", "domains: end.test", http, "terminate"),
            route("chat", "domains: end.test, path: /chat", websocket, "terminate"),
            route("stuck-web", "domains: end.test, path: /stuck", stuck.port(), "terminate"),
        ];
        let proxy = Proxy::start(&format!(
            "bind: [\"127.0.0.1\"]\nconnectionRateLimitPerMinute: 0\nconnectionTimeout: 60s\nroutes:\n{}",
            routes.concat()
        ));
        Self { proxy, address: SocketAddr::from(([127, 0, 0, 1], port)), backends, _stuck: stuck }
    }

    async fn https(&self) -> TlsStream<TcpStream> {
        tls(tcp(self.address).await.expect("accepted"), "end.test", &["http/1.1"]).await.expect("TLS ends here")
    }

    async fn dialled(&self, route: &str) {
        eventually("the route is bound", Duration::from_secs(20), || {
            match admin::active(self.proxy.admin, "route", Some(route)) {
                0 => Err(format!("nobody is on {route}")),
                _ => Ok(()),
            }
        })
        .await;
    }

    /// Brings a connection to a stage; its socket.
    async fn reach(&self, stage: Stage) -> TcpStream {
        match stage {
            Stage::BeforeAnyByte => {
                let stream = tcp(self.address).await.expect("accepted");
                eventually("it is admitted", Duration::from_secs(20), || {
                    let active = admin::active(self.proxy.admin, "pending", None);
                    if active > 0 { Ok(()) } else { Err("nobody is pending".to_owned()) }
                })
                .await;
                stream
            }
            Stage::InTheHello => {
                let mut stream = tcp(self.address).await.expect("accepted");
                let hello = hello("pass.test");
                stream.write_all(&hello[..hello.len() / 2]).await.expect("it is accepted");
                stream
            }
            Stage::InTheHandshake => {
                let mut stream = tcp(self.address).await.expect("accepted");
                stream.write_all(&hello("end.test")).await.expect("it is accepted");
                let count = stream.read(&mut [0; 64]).await.expect("the server's part begins");
                assert!(count > 0);
                stream
            }
            Stage::InTheHead => {
                let mut stream = self.https().await;
                stream.write_all(b"GET / HTTP/1.1\r\nHost: end").await.expect("the way is open");
                stream.into_inner().0
            }
            Stage::InTheBody => {
                let mut stream = self.https().await;
                let head = b"POST /sink HTTP/1.1\r\nHost: end.test\r\nContent-Length: 1000\r\n\r\nhalf of it";
                stream.write_all(head).await.expect("the way is open");
                self.dialled("end").await;
                stream.into_inner().0
            }
            Stage::InTheAnswer => {
                hold_http(self.https().await, "end.test").await.expect("an answer without end").into_inner().0
            }
            Stage::AfterUpgrade => {
                let stream = self.https().await;
                let (socket, _) =
                    tokio_tungstenite::client_async("ws://end.test/chat", stream).await.expect("an upgrade");
                socket.into_inner().into_inner().0
            }
            Stage::InTheTunnel => self.passthrough().await.into_inner().0,
            Stage::HalfClosed => {
                let mut stream = self.passthrough().await;
                stream.get_mut().0.shutdown().await.expect("the way is open");
                stream.into_inner().0
            }
            Stage::WhileDialling => {
                let mut stream = tcp(self.address).await.expect("accepted");
                stream.write_all(&hello("other.test")).await.expect("it is accepted");
                self.dialled("stuck").await;
                stream
            }
            Stage::WhileDiallingForHttp => {
                let mut stream = self.https().await;
                stream.write_all(b"GET /stuck HTTP/1.1\r\nHost: end.test\r\n\r\n").await.expect("the way is open");
                self.dialled("stuck-web").await;
                stream.into_inner().0
            }
            Stage::WithMoreBehind => {
                let mut stream = self.https().await;
                let two = "GET /stuck HTTP/1.1\r\nHost: end.test\r\n\r\n".repeat(2);
                stream.write_all(two.as_bytes()).await.expect("the way is open");
                self.dialled("stuck-web").await;
                stream.into_inner().0
            }
        }
    }

    async fn passthrough(&self) -> TlsStream<TcpStream> {
        let stream = tls(tcp(self.address).await.expect("accepted"), "pass.test", &[]).await.expect("TLS");
        ping(stream).await.expect("an echo")
    }
}

fn kill(stream: TcpStream, death: Death) {
    let stream = socket2::Socket::from(stream.into_std().expect("it is registered"));
    if let Death::Rst = death {
        stream.set_linger(Some(Duration::ZERO)).expect("a socket");
    }
}

#[test]
fn pitfall_01_a_client_that_dies_in_any_stage_leaves_nothing_behind() {
    on_eight_threads(async {
        let house = House::build().await;
        let baseline = Baseline::of(&house.proxy).await;
        for stage in STAGES {
            for death in [Death::Fin, Death::Rst] {
                let mut doomed = Vec::new();
                for _ in 0..8 {
                    doomed.push(client::in_time("the stage", Box::pin(house.reach(stage))).await);
                }
                doomed.into_iter().for_each(|stream| kill(stream, death));
                eventually(&format!("{stage:?}, {death:?}: every slot is free"), Duration::from_secs(20), || {
                    match admin::active(house.proxy.admin, "global", None) {
                        0 => Ok(()),
                        active => Err(format!("{active} are held")),
                    }
                })
                .await;
            }
        }
        let House { proxy, backends, _stuck, .. } = house;
        drop(backends);
        baseline.assert_restored(&proxy).await;
    });
}

#[test]
fn a_backend_that_dies_takes_nothing_with_it_but_its_own_connections() {
    on_eight_threads(async {
        let house = House::build().await;
        let baseline = Baseline::of(&house.proxy).await;
        let mut tunnels = Vec::new();
        let mut answers = Vec::new();
        for _ in 0..8 {
            tunnels.push(house.passthrough().await);
            answers.push(hold_http(house.https().await, "end.test").await.expect("an answer without end"));
        }
        let House { proxy, backends, _stuck, .. } = house;
        drop(backends);
        let mut rest = Vec::new();
        for mut stream in tunnels {
            let end = client::in_time("the end", stream.read_to_end(&mut rest)).await;
            assert!(end.is_ok() || end.is_err_and(|error| client::is_close(&error)));
        }
        for mut stream in answers {
            rest.clear();
            let end = client::in_time("the end", stream.read_to_end(&mut rest)).await;
            let text = String::from_utf8_lossy(&rest);
            assert!(!text.contains("0\r\n\r\n"), "a broken answer must not look whole: {text:?}");
            assert!(end.is_ok() || end.is_err_and(|error| client::is_close(&error)));
        }
        baseline.assert_restored(&proxy).await;
    });
}
