//! Every time-out of the configuration: the right answer, and a reason that is counted.

use crate::support::backend::Backend;
use crate::support::client::{in_time, tcp, tls};
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{admin, certs, eventually, on_eight_threads};
use socket2::{Domain, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A backend whose queue is full, so that connecting to it neither succeeds nor fails.
struct Full {
    port: u16,
    _sockets: Vec<Socket>,
}

impl Full {
    fn new() -> Self {
        let new = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let listener = new();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("loopback has free ports");
        listener.listen(0).expect("it is bound");
        let address = listener.local_addr().expect("it is bound");
        let mut sockets = vec![listener];
        loop {
            let socket = new();
            let connected = socket.connect_timeout(&address, Duration::from_millis(100));
            sockets.push(socket);
            if connected.is_err() {
                return Self { port: address.as_socket().expect("of IPv4").port(), _sockets: sockets };
            }
        }
    }
}

/// Where a client goes.
#[derive(Clone, Copy, Debug)]
enum To {
    /// The plain HTTP port.
    Http,
    /// The port that ends TLS, in HTTP/2, without a request.
    Http2,
    /// The port that ends TLS, without a byte of it.
    Tls,
    /// The port that passes everything on.
    Tcp,
    /// The port that passes everything on to nobody.
    Nobody,
}

/// One time-out.
struct Case {
    setting: &'static str,
    to: To,
    say: &'static str,
    /// How the answer begins; the connection ends in any case.
    answer: &'static str,
    /// The metric and the reason that count it.
    metric: &'static str,
    reason: &'static str,
}

const fn case(
    setting: &'static str,
    to: To,
    say: &'static str,
    answer: &'static str,
    metric: &'static str,
    reason: &'static str,
) -> Case {
    Case { setting, to, say, answer, metric, reason }
}

const TERMINATED: &str = "smartproxy_connections_terminated_total";
const SWEPT: &str = "smartproxy_connections_swept_total";
const BACKEND: &str = "smartproxy_backend_failures_total";
const BEGUN: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n";
const WHOLE: &str = "GET /source/3 HTTP/1.1\r\nHost: a.test\r\n\r\n";
const SILENT: &str = "GET /silent HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
const DIALLED: &str = "GET /full HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
const HALF: &str = "POST /sink HTTP/1.1\r\nHost: a.test\r\nContent-Length: 9\r\n\r\nhalf";
const UPGRADE: &str = "GET /socket HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const CASES: [Case; 17] = [
    case("initialDataTimeout: 1500ms", To::Http, "", "", TERMINATED, "initial_data_timeout"),
    case("initialDataTimeout: 1500ms", To::Http, BEGUN, "HTTP/1.1 408", TERMINATED, "initial_data_timeout"),
    case("initialDataTimeout: 1500ms", To::Tls, "", "", TERMINATED, "initial_data_timeout"),
    case("initialDataTimeout: 1500ms", To::Tls, "\u{16}\u{3}\u{1}", "", TERMINATED, "initial_data_timeout"),
    case("initialDataTimeout: 1500ms", To::Http2, "", "", TERMINATED, "initial_data_timeout"),
    case("requestHeaderTimeout: 1500ms", To::Http, BEGUN, "HTTP/1.1 408", TERMINATED, "request_header_timeout"),
    case("requestBodyTimeout: 1500ms", To::Http, HALF, "HTTP/1.1 408", TERMINATED, "request_body_timeout"),
    case("connectionTimeout: 1500ms", To::Http, DIALLED, "HTTP/1.1 504", BACKEND, "dial_timeout"),
    case("connectionTimeout: 1500ms", To::Nobody, "", "", BACKEND, "dial_timeout"),
    case("responseTimeout: 1500ms", To::Http, SILENT, "HTTP/1.1 504", BACKEND, "response_timeout"),
    case("inactivityTimeout: 1500ms", To::Http, WHOLE, "HTTP/1.1 200", SWEPT, "idle_timeout"),
    case("inactivityTimeout: 1500ms", To::Http, UPGRADE, "HTTP/1.1 101", SWEPT, "idle_timeout"),
    case("inactivityTimeout: 1500ms", To::Tcp, "echo", "echo", SWEPT, "idle_timeout"),
    case("maxConnectionLifetime: 1500ms", To::Tcp, "echo", "echo", TERMINATED, "lifetime"),
    case("maxConnectionLifetime: 1500ms", To::Http, WHOLE, "HTTP/1.1 200", TERMINATED, "lifetime"),
    case("maxConnectionLifetime: 1500ms", To::Http, UPGRADE, "HTTP/1.1 101", TERMINATED, "lifetime"),
    case("maxConnectionLifetime: 1500ms", To::Http2, "", "", TERMINATED, "lifetime"),
];

/// Says it, and reads until the end.
async fn talk(what: &str, mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, say: &str) -> String {
    stream.write_all(say.as_bytes()).await.expect("it is open");
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = in_time(what, stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn each_has_its_answer_and_is_counted() {
    on_eight_threads(async {
        let (http, echo, socket) = (Backend::http().await, Backend::echo().await, Backend::websocket().await);
        let silent = Backend::start(|stream: TcpStream| async move {
            let _open = stream;
            std::future::pending::<()>().await;
        })
        .await;
        let full = Full::new();
        let mut running = tokio::task::JoinSet::new();
        for Case { setting, to, say, answer, metric, reason } in CASES {
            let [plain, secure, raw, nobody] = [free_port(), free_port(), free_port(), free_port()];
            let route = |name: &str, matching: String, backend: u16, rest: &str| {
                format!(
                    "  - name: {name}
    match: {{ {matching} }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {backend} }}]{rest} }}
"
                )
            };
            let terminate = format!(", tls: {{ mode: terminate, certificate: {} }}", certs::inline());
            let routes = [
                route("http", format!("ports: {plain}, path: \"/*\""), http.port(), ""),
                route("silent", format!("ports: {plain}, path: /silent"), silent.port(), ""),
                route("full", format!("ports: {plain}, path: /full"), full.port, ""),
                route("socket", format!("ports: {plain}, path: /socket"), socket.port(), ""),
                route("secure", format!("ports: {secure}, domains: end.test"), http.port(), &terminate),
                route("raw", format!("ports: {raw}"), echo.port(), ""),
                route("nobody", format!("ports: {nobody}"), full.port, ""),
            ];
            let proxy = Proxy::start_with(
                "workers: 1\n",
                &format!("bind: [\"127.0.0.1\"]\n{setting}\nroutes:\n{}", routes.concat()),
            );
            let port = match to {
                To::Http => plain,
                To::Http2 | To::Tls => secure,
                To::Tcp => raw,
                To::Nobody => nobody,
            };
            running.spawn(async move {
                let proxy = proxy;
                let what = format!("{setting} {to:?} {say:?}");
                let stream = tcp(SocketAddr::from(([127, 0, 0, 1], port))).await.expect("accepted");
                let got = match to {
                    To::Http2 => {
                        let stream = tls(stream, "end.test", &["h2"]).await.expect("TLS");
                        talk(&what, stream, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0").await
                    }
                    _ => talk(&what, stream, say).await,
                };
                assert!(got.starts_with(answer), "{what}: {got:?}");
                assert!(!answer.is_empty() || got.is_empty() || matches!(to, To::Http2), "{what}: {got:?}");
                let counted = |metrics: &str| {
                    let reason = format!("reason=\"{reason}\"");
                    let mut lines = metrics.lines().filter(|line| line.starts_with(metric) && line.contains(&reason));
                    lines.any(|line| line.ends_with(" 1"))
                };
                eventually(&what, Duration::from_secs(10), || {
                    let (_, metrics) = admin::get(proxy.admin, "/metrics");
                    if counted(&metrics) { Ok(()) } else { Err(metrics) }
                })
                .await;
            });
        }
        while let Some(done) = running.join_next().await {
            done.expect("as it should be");
        }
    });
}
