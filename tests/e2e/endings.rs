//! Connections that end in every other way than by a client that dies: by protocol, by backend, by time, by reload. Each
//! gives back what it held, once.

use crate::support::backend::Backend;
use crate::support::client::{in_time, tcp, tls};
use crate::support::leftovers::Baseline;
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{admin, certs, eventually, on_eight_threads};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// How a connection comes to its end.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// TLS that agrees on no protocol.
    NoCommonProtocol,
    /// TLS whose client does not like the certificate.
    UntrustingClient,
    /// A whole hello, and then no TLS.
    GarbageAfterTheHello,
    /// A WebSocket that its backend ends, or breaks off.
    TunnelEndedByBackend,
    TunnelBrokenByBackend,
    /// A tcp backend that says all it has to say before the client does; or breaks off.
    BackendDoneFirst,
    BackendBreaksOff,
    /// A response that its backend breaks off in the middle.
    BodyBrokenByBackend,
    /// A client of HTTP/2 that says goodbye; one whose streams are all reset, by itself or by us.
    Goaway,
    StreamsResetByClient,
    StreamsResetByUs,
    /// Nothing more comes from the client: before anything, in a head, in a body, after a request, in a tunnel.
    Silence,
    SilenceInTheHead,
    SilenceInTheBody,
    SilenceAfterARequest,
    SilenceInATunnel,
    /// Nothing comes from the backend.
    SilentBackend,
    /// Something comes all the time, until the connection is too old.
    TooOld,
    TooOldInATunnel,
}

const ENDINGS: [Ending; 19] = [
    Ending::NoCommonProtocol,
    Ending::UntrustingClient,
    Ending::GarbageAfterTheHello,
    Ending::TunnelEndedByBackend,
    Ending::TunnelBrokenByBackend,
    Ending::BackendDoneFirst,
    Ending::BackendBreaksOff,
    Ending::BodyBrokenByBackend,
    Ending::Goaway,
    Ending::StreamsResetByClient,
    Ending::StreamsResetByUs,
    Ending::Silence,
    Ending::SilenceInTheHead,
    Ending::SilenceInTheBody,
    Ending::SilenceAfterARequest,
    Ending::SilenceInATunnel,
    Ending::SilentBackend,
    Ending::TooOld,
    Ending::TooOldInATunnel,
];

struct House {
    proxy: Proxy,
    secure: SocketAddr,
    web: SocketAddr,
    raw: SocketAddr,
    _backends: [Backend; 2],
}

impl House {
    async fn build() -> Self {
        // Does what the first word of a connection, or the path of a request, says.
        let wilful = Backend::start(wilful).await;
        let http = Backend::http().await;
        let [secure, web, raw] = [(); 3].map(|()| free_port());
        let target = |backend: &Backend| format!("{{ host: 127.0.0.1, port: {} }}", backend.port());
        let proxy = Proxy::start(&format!(
            "bind: [\"127.0.0.1\"]
connectionRateLimitPerMinute: 0
initialDataTimeout: 1s
requestHeaderTimeout: 1s
requestBodyTimeout: 1s
responseTimeout: 1s
inactivityTimeout: 2s
maxConnectionLifetime: 6s
routes:
  - name: secure
    match: {{ ports: {secure} }}
    action: {{ type: forward, targets: [{http}], tls: {{ mode: terminate, certificate: {certificate} }} }}
  - name: web
    match: {{ ports: {web}, domains: \"*\" }}
    action: {{ type: forward, targets: [{http}] }}
  - name: wilful
    match: {{ ports: {web}, path: \"/wilful/*\" }}
    action: {{ type: forward, targets: [{wilful}] }}
  - name: raw
    match: {{ ports: {raw} }}
    action: {{ type: forward, targets: [{wilful}] }}
",
            http = target(&http),
            wilful = target(&wilful),
            certificate = certs::inline(),
        ));
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self { proxy, secure: at(secure), web: at(web), raw: at(raw), _backends: [wilful, http] }
    }

    async fn end(&self, ending: Ending) {
        match ending {
            Ending::NoCommonProtocol => {
                let refused = tls(tcp(self.secure).await.expect("accepted"), "end.test", &["h3"]).await;
                assert!(refused.is_err(), "h3 is not spoken over TCP");
            }
            Ending::UntrustingClient => {
                let stream = tcp(self.secure).await.expect("accepted");
                assert!(tls(stream, "stranger.test", &["h2"]).await.is_err(), "the certificate is for others");
            }
            Ending::GarbageAfterTheHello => {
                let mut stream = tcp(self.secure).await.expect("accepted");
                let mut client =
                    rustls::ClientConnection::new(certs::client(&[]), certs::name("end.test")).expect("a client");
                let mut hello = Vec::new();
                client.write_tls(&mut hello).expect("a vector takes everything");
                hello.extend([0x55; 300]);
                let _ = stream.write_all(&hello).await;
                let _ = until_end(stream).await;
            }
            Ending::TunnelEndedByBackend => self.tunnel("end").await,
            Ending::TunnelBrokenByBackend => self.tunnel("break").await,
            Ending::SilenceInATunnel => self.tunnel("silence").await,
            Ending::TooOldInATunnel => self.tunnel("drip").await,
            Ending::BackendDoneFirst => {
                let mut stream = self.say(self.raw, b"half end\n").await;
                let mut said = Vec::new();
                in_time("the end of one side", stream.read_to_end(&mut said)).await.expect("a clean end");
                stream.write_all(b"still here").await.expect("the other side is open");
                stream.shutdown().await.expect("it is ours to end");
            }
            Ending::BackendBreaksOff => drop(until_end(self.say(self.raw, b"break\n").await).await),
            Ending::BodyBrokenByBackend => {
                let stream = self.say(self.web, b"GET /wilful/body HTTP/1.1\r\nHost: a\r\n\r\n").await;
                let answer = until_end(stream).await;
                assert!(answer.contains("content-length: 100") && answer.len() < 400, "{answer}");
            }
            Ending::Goaway => {
                let mut stream = self.http2(&[headers(1, 5)]).await;
                let _ = stream.write_all(&frame(7, 0, 0, &[0; 8])).await;
                let _ = stream.shutdown().await;
                let _ = until_end(stream).await;
            }
            Ending::StreamsResetByClient => {
                let storm =
                    (0..100).flat_map(|index| [headers(2 * index + 1, 5), frame(3, 0, 2 * index + 1, &[0, 0, 0, 8])]);
                drop(self.http2(&storm.collect::<Vec<_>>()).await);
            }
            Ending::StreamsResetByUs => {
                let storm = (0..100).flat_map(|index| [headers(2 * index + 1, 5), frame(8, 0, 2 * index + 1, &[0; 4])]);
                drop(self.http2(&storm.collect::<Vec<_>>()).await);
            }
            Ending::Silence => drop(until_end(self.say(self.web, b"").await).await),
            Ending::SilenceInTheHead => {
                let answer = until_end(self.say(self.web, b"GET / HTTP/1.1\r\nHost").await).await;
                assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
            }
            Ending::SilenceInTheBody => {
                let post = b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nnot all";
                let answer = until_end(self.say(self.web, post).await).await;
                assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
            }
            Ending::SilenceAfterARequest => {
                let answer = until_end(self.say(self.web, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await).await;
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            }
            Ending::SilentBackend => {
                let get = b"GET /wilful/silence HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                let answer = until_end(self.say(self.web, get).await).await;
                assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
            }
            Ending::TooOld => {
                let answer = until_end(self.say(self.web, b"GET /wilful/drip HTTP/1.1\r\nHost: a\r\n\r\n").await).await;
                assert!(answer.starts_with("HTTP/1.1 200") && !answer.ends_with("0\r\n\r\n"), "{answer}");
            }
        }
    }

    /// Says something in plain.
    async fn say(&self, address: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = tcp(address).await.expect("accepted");
        stream.write_all(bytes).await.expect("the way is open");
        stream
    }

    /// A WebSocket whose backend does this.
    async fn tunnel(&self, what: &str) {
        let get = format!(
            "GET /wilful/{what} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        let answer = until_end(self.say(self.web, get.as_bytes()).await).await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    }

    /// HTTP/2 with these frames sent.
    async fn http2(&self, frames: &[Vec<u8>]) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut stream = tls(tcp(self.secure).await.expect("accepted"), "end.test", &["h2"]).await.expect("TLS");
        let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), frames.concat()].concat();
        // It may be cut off before all is said.
        let _ = stream.write_all(&begin).await;
        let _ = stream.flush().await;
        let _ = in_time("an answer", stream.read(&mut [0; 64])).await;
        stream
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET https://end.test/hold`.
fn headers(stream: u32, flags: u8) -> Vec<u8> {
    let block = [&[0x82, 0x87, 0x04, 5][..], b"/hold", &[0x41, 8], b"end.test"].concat();
    frame(1, flags, stream, &block)
}

/// Everything until the end, whatever the end is like.
async fn until_end(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    let mut all = Vec::new();
    let _ = in_time("the end", stream.read_to_end(&mut all)).await;
    String::from_utf8_lossy(&all).into_owned()
}

/// A backend that does what it is told.
async fn wilful(mut stream: TcpStream) {
    let mut told = Vec::new();
    while !told.ends_with(b"\n") || told.starts_with(b"GET") && !told.ends_with(b"\r\n\r\n") {
        let Ok(1..) = stream.read_buf(&mut told).await else { return };
    }
    let told = String::from_utf8_lossy(&told).into_owned();
    let is = |what: &str| told.starts_with(what) || told.starts_with(&format!("GET /wilful/{what} "));
    if told.contains("pgrade: websocket") {
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello";
        let _ = stream.write_all(answer.as_bytes()).await;
    } else if is("drip") {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    }
    match () {
        () if is("break") => drop(stream.set_zero_linger()),
        () if is("half end") => {
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        () if is("body") => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it").await;
            let _ = stream.set_zero_linger();
        }
        () if is("drip") => {
            while stream.write_all(b"1\r\nx\r\n").await.is_ok() {
                // A backend that is slow, and not silent.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        () if is("silence") => {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        () => {}
    }
}

#[test]
fn whatever_ends_a_connection_gives_its_slots_back_once() {
    on_eight_threads(async {
        let house = House::build().await;
        let baseline = Baseline::of(&house.proxy).await;
        for ending in ENDINGS {
            let all = (0..6).map(|_| house.end(ending));
            in_time(&format!("{ending:?}"), futures_util::future::join_all(all)).await;
            eventually(&format!("{ending:?}: every slot is free"), Duration::from_secs(10), || {
                match admin::active(house.proxy.admin, "global", None) {
                    0 => Ok(()),
                    active => Err(format!("{active} are held: {}", admin::limits(house.proxy.admin))),
                }
            })
            .await;
        }
        let House { proxy, _backends, .. } = house;
        drop(_backends);
        baseline.assert_restored(&proxy).await;
    });
}

#[test]
fn a_route_that_a_reload_removes_keeps_its_slots_until_its_connections_end() {
    on_eight_threads(async {
        let (backend, tcp_port, web_port) = (Backend::echo().await, free_port(), free_port());
        let http = Backend::http().await;
        let config =
            |routes: &str| format!("bind: [\"127.0.0.1\"]\nconnectionRateLimitPerMinute: 0\nroutes:\n{routes}");
        let route = |name: &str, port: u16, protocol: &str, backend: &Backend| {
            format!(
                "  - name: {name}
    match: {{ ports: {port}, protocol: {protocol} }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}] }}
",
                backend.port()
            )
        };
        let (bytes, web) = (route("bytes", tcp_port, "tcp", &backend), route("web", web_port, "http", &http));
        let rest = route("rest", free_port(), "http", &http);
        let proxy = Proxy::start(&config(&format!("{bytes}{web}{rest}")));
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut tunnel =
            crate::support::client::ping(tcp(at(tcp_port)).await.expect("accepted")).await.expect("an echo");
        let stream = tcp(at(web_port)).await.expect("accepted");
        let held = crate::support::client::hold_http(stream, "a").await.expect("an answer without end");
        assert_eq!(admin::active(proxy.admin, "global", None), 2);
        proxy.reload(&config(&rest));
        tunnel = crate::support::client::ping(tunnel).await.expect("it goes on");
        assert_eq!(admin::active(proxy.admin, "global", None), 2, "who is there counts");
        drop((tunnel, held));
        eventually("every slot is free", Duration::from_secs(20), || {
            match admin::active(proxy.admin, "global", None) {
                0 => Ok(()),
                active => Err(format!("{active} are held")),
            }
        })
        .await;
        assert_eq!(admin::limits(proxy.admin)["table"]["anomalies"].as_u64(), Some(0), "none was given back twice");
    });
}

#[test]
fn without_half_close_a_client_that_never_closes_holds_no_slot_once_its_backend_has_ended() {
    on_eight_threads(async {
        let (backend, port) = (Backend::start(wilful).await, free_port());
        let config = |half_close: &str| {
            format!(
                "bind: [\"127.0.0.1\"]
connectionRateLimitPerMinute: 0
routes:
  - name: brief
    match: {{ ports: {port} }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}], {half_close} }}
    security: {{ maxConnections: 1 }}
",
                backend.port()
            )
        };
        let proxy = Proxy::start(&config("halfClose: false"));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let ask = async || {
            let mut stream = tcp(address).await.expect("accepted");
            let mut answer = Vec::new();
            let told = stream.write_all(b"half end\n").await;
            let end = in_time("the end of the backend", stream.read_to_end(&mut answer)).await;
            (stream, told.and(end).is_ok())
        };
        let free = async || {
            eventually("the slot is free", Duration::from_secs(10), || {
                match admin::active(proxy.admin, "route", Some("brief")) {
                    0 => Ok(()),
                    active => Err(format!("{active} are held")),
                }
            })
            .await;
        };
        let mut stay = Vec::new();
        for _ in 0..5 {
            stay.push(ask().await);
            free().await;
        }
        assert!(stay.iter().all(|(_, ended)| *ended), "each of them was served");
        proxy.reload(&config("halfClose: true"));
        let (last, _) = ask().await;
        assert_eq!(admin::active(proxy.admin, "route", Some("brief")), 1, "the client is yet to end");
        assert_eq!(admin::refused(proxy.admin, "route", Some("brief"), "route_limit"), 0);
        drop(last);
        free().await;
    });
}
