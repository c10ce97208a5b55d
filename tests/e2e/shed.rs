//! Clients that keep knocking are refused by the kernel: their connection attempts get no answer, and nothing else changes.

use crate::support::backend::Backend;
use crate::support::client::{in_time, ping, tcp_from};
use crate::support::ports::free_port;
use crate::support::proxy::{Proxy, binary};
use crate::support::{admin, eventually, on_eight_threads};
use rustix::process::Signal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(20);
/// The client in question.
const KNOCKER: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
/// A client like any other.
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 2, 1);
/// Two connections of a client are held for as long as it likes; nobody is lifted for time.
const SETTINGS: &str = "connectionRateLimitPerMinute: 0
maxConnectionsPerIP: 2
shed: { afterRefusalsPerSecond: 20, holdFor: 1h }
";

fn config(settings: &str, port: u16, backend: &Backend) -> String {
    format!(
        "bind: [\"127.0.0.1\", \"::1\"]
{settings}
routes:
  - name: echo
    match: {{ ports: {port}, protocol: tcp }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}] }}
",
        backend.port()
    )
}

/// Connects until it works through the proxy, refused or not answered as often as may be.
async fn connect(source: IpAddr, address: SocketAddr) -> std::io::Result<TcpStream> {
    ping(tcp_from(source, address).await?).await
}

/// Whether an attempt to connect gets no answer at all for as long as others take a thousand times.
async fn is_unanswered(source: IpAddr, address: SocketAddr) -> bool {
    tokio::time::timeout(Duration::from_millis(700), tcp_from(source, address)).await.is_err()
}

/// Knocks a few times; those that are refused are over at once.
async fn knock(source: IpAddr, address: SocketAddr) {
    for _ in 0..30 {
        let refused = async {
            if let Ok(mut stream) = tcp_from(source, address).await {
                // If it is let in after all, this ends it.
                let _ = stream.shutdown().await;
                let _ = stream.read(&mut [0]).await;
            }
        };
        if tokio::time::timeout(Duration::from_millis(200), refused).await.is_err() {
            return;
        }
    }
}

fn shed_clients(proxy: &Proxy) -> Option<u64> {
    let (_, status) = admin::get(proxy.admin, "/api/v1/status");
    serde_json::from_str::<serde_json::Value>(&status).expect("JSON")["shedClients"].as_u64()
}

/// Knocks until the client is shed, by the listeners of all workers.
async fn get_shed(proxy: &Proxy, source: IpAddr, address: SocketAddr) {
    for _ in 0..200 {
        knock(source, address).await;
        if shed_clients(proxy) == Some(1) && nobody_answers(source, address).await {
            return;
        }
    }
    panic!("{source} is never shed");
}

/// Whether so many attempts to connect get no answer that one of them must have met each worker's listener. A worker
/// attaches the filter when it has its turn, which is later than the client is on the list.
async fn nobody_answers(source: IpAddr, address: SocketAddr) -> bool {
    let attempts: Vec<_> = (0..64).map(|_| tokio::spawn(is_unanswered(source, address))).collect();
    let mut unanswered = true;
    for attempt in attempts {
        unanswered &= attempt.await.expect("no panic");
    }
    unanswered
}

async fn until_shed(proxy: &Proxy, count: Option<u64>) {
    eventually("so many are shed", SOON, || match shed_clients(proxy) {
        now if now == count => Ok(()),
        now => Err(format!("{now:?}")),
    })
    .await;
}

/// The whole life of it for one address family; `bystander` is another client, where the family has one.
async fn shed_and_lift(knocker: IpAddr, bystander: Option<IpAddr>) {
    let backend = Backend::echo().await;
    let port = free_port();
    let address = match knocker {
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    };
    let text = config(SETTINGS, port, &backend);
    let proxy = Proxy::start(&text);
    let mut first = connect(knocker, address).await.expect("there is room");
    let second = connect(knocker, address).await.expect("there is room");

    get_shed(&proxy, knocker, address).await;
    assert!(is_unanswered(knocker, address).await, "an attempt was answered");
    first = ping(first).await.expect("what is open stays open");
    if let Some(bystander) = bystander {
        drop(connect(bystander, address).await.expect("others are none of it"));
    }
    let (_, metrics) = admin::get(proxy.admin, "/metrics");
    assert!(metrics.contains("\nsmartproxy_shed_clients 1\n"), "{metrics}");
    assert!(metrics.contains("smartproxy_clients_shed_total{reason=\"client_limit\",route=\"\"} 1\n"), "{metrics}");
    assert!(proxy.log().contains("shed 1 client") || proxy.log().contains("shed client"), "{}", proxy.log());

    proxy.write(&text);
    proxy.signal(Signal::HUP);
    eventually("it is reloaded", SOON, || if proxy.log().contains("reloaded") { Ok(()) } else { Err(proxy.log()) })
        .await;
    assert!(is_unanswered(knocker, address).await, "a reload lets it in");

    // Its first SYN is dropped, one of those that its system repeats is not.
    let waiting = tokio::spawn(connect(knocker, address));
    assert!(is_unanswered(knocker, address).await);
    assert!(!waiting.is_finished());
    drop(second);
    let third = in_time("the repeated attempt", waiting).await.expect("no panic").expect("a slot is free");
    ping(first).await.expect("still open");
    drop(third);
    until_shed(&proxy, Some(0)).await;
}

#[test]
fn an_ipv4_client_is_shed_and_lifted() {
    on_eight_threads(shed_and_lift(KNOCKER.into(), Some(OTHER.into())));
}

#[test]
fn an_ipv6_client_is_shed_and_lifted() {
    on_eight_threads(shed_and_lift(Ipv6Addr::LOCALHOST.into(), None));
}

#[test]
fn whoever_shares_a_network_with_an_exempt_address_is_refused_and_not_shed() {
    on_eight_threads(async {
        let backend = Backend::echo().await;
        let port = free_port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        for spare in ["exempt: [\"127.0.1.9\"]", "proxyIPs: [\"127.0.1.9\"]", "trustedProxies: [\"127.0.1.9\"]"] {
            let proxy = Proxy::start(&config(&format!("{SETTINGS}ipv4PrefixLength: 24\n{spare}"), port, &backend));
            let mut held = Vec::new();
            for source in [KNOCKER, OTHER, KNOCKER, OTHER] {
                held.push(connect(source.into(), address).await.expect("there is room"));
            }
            let before = admin::refused(proxy.admin, "client", None, "client_limit");
            while admin::refused(proxy.admin, "client", None, "client_limit") < before + 200 {
                knock(KNOCKER.into(), address).await;
            }
            get_shed(&proxy, OTHER.into(), address).await;
            assert!(is_unanswered(OTHER.into(), address).await);
            let mut refused = in_time("an answer", tcp_from(KNOCKER, address)).await.expect("accepted");
            assert!(refused.read(&mut [0]).await.is_ok_and(|count| count == 0), "and closed");
            drop(connect([127, 0, 1, 9].into(), address).await);
            drop(proxy);
        }
    });
}

#[test]
fn turning_it_off_lifts_everybody() {
    on_eight_threads(async {
        let backend = Backend::echo().await;
        let port = free_port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let proxy = Proxy::start(&config(SETTINGS, port, &backend));
        let _first = connect(KNOCKER.into(), address).await.expect("there is room");
        let _second = connect(KNOCKER.into(), address).await.expect("there is room");
        get_shed(&proxy, KNOCKER.into(), address).await;
        proxy.write(&config("connectionRateLimitPerMinute: 0\nmaxConnectionsPerIP: 2\n", port, &backend));
        proxy.signal(Signal::HUP);
        let mut refused = in_time("an answer", tcp_from(KNOCKER, address)).await.expect("accepted");
        assert_eq!(in_time("a close", refused.read(&mut [0])).await.expect("no reset"), 0);
        until_shed(&proxy, None).await;
    });
}

#[test]
fn one_that_came_too_fast_is_lifted_after_a_time() {
    on_eight_threads(async {
        let backend = Backend::echo().await;
        let port = free_port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let settings = "connectionRateLimitPerMinute: 600
connectionRateBurst: 5
shed: { afterRefusalsPerSecond: 20, holdFor: 6s }
";
        let proxy = Proxy::start(&config(settings, port, &backend));
        get_shed(&proxy, KNOCKER.into(), address).await;
        // Ten tokens a second come back, and do not matter.
        assert!(is_unanswered(KNOCKER.into(), address).await);
        drop(in_time("the repeated attempt", connect(KNOCKER.into(), address)).await.expect("lifted"));
    });
}

/// The proxy on a socket of a service manager, which outlives it.
fn start_on(socket: &TcpListener, text: &str) -> Proxy {
    let mut command = Command::new("sh");
    let script = "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\"";
    let socket = OwnedFd::from(socket.try_clone().expect("a descriptor"));
    command.args(["-c", script]).arg(binary()).stdin(Stdio::from(socket));
    Proxy::start_by(command, "workers: 2\n", text)
}

#[test]
fn a_socket_that_is_handed_on_is_handed_on_without_a_filter() {
    on_eight_threads(async {
        let backend = Backend::echo().await;
        let socket = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
        let address = socket.local_addr().expect("it is bound");
        let text = config(SETTINGS, address.port(), &backend).replace(", \"::1\"", "");
        // One that ends in order, one that is killed, and one that finds what is left.
        for killed in [false, true] {
            let mut proxy = start_on(&socket, &text);
            let held = [connect(KNOCKER.into(), address).await, connect(KNOCKER.into(), address).await];
            assert!(held.iter().all(Result::is_ok), "there is room");
            get_shed(&proxy, KNOCKER.into(), address).await;
            if killed {
                drop(proxy);
                assert!(is_unanswered(KNOCKER.into(), address).await, "who is killed leaves its filter behind");
            } else {
                proxy.signal(Signal::TERM);
                drop(held);
                assert_eq!(proxy.wait(), Some(0));
                assert!(!is_unanswered(KNOCKER.into(), address).await, "who ends takes it along");
                // Who was answered by the kernel is not to wait for the next one, and to take its room.
                socket.set_nonblocking(true).expect("a socket");
                while socket.accept().is_ok() {}
            }
        }
        let proxy = start_on(&socket, &text);
        drop(connect(KNOCKER.into(), address).await.expect("the next one begins without"));
        drop(proxy);
    });
}
