//! Ten thousand routes and as many connections as 20,000 descriptors allow, in one process.

use crate::support::client::{in_time, tcp};
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{admin, alone, eventually, on_eight_threads};
use rustix::process::Signal;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ROUTES: usize = 10_000;
const CONNECTIONS: usize = 9_800;
const AT_ONCE: usize = 100;
const SOON: Duration = Duration::from_secs(60);

/// Each route answers with its number.
fn config(port: u16, limit: usize) -> String {
    let mut text = format!(
        "bind: [\"127.0.0.1\"]
maxConnections: {limit}
maxConnectionsPerIP: 0
connectionRateLimitPerMinute: 0
routes:
"
    );
    for route in 0..ROUTES {
        let matching = format!("{{ ports: {port}, protocol: http, domains: r{route}.test }}");
        let action = format!("{{ type: static, static: {{ status: 200, body: \"<{route}>\" }} }}");
        writeln!(text, "  - {{ name: r{route}, match: {matching}, action: {action} }}").expect("a String takes it");
    }
    text
}

/// Asks the route of this number over a connection that stays open; `None` if the connection was refused.
async fn ask(mut stream: TcpStream, route: usize) -> Option<TcpStream> {
    let route = route % ROUTES;
    let asking = async {
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: r{route}.test\r\n\r\n").as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        while !answer.ends_with(b">") {
            if stream.read_buf(&mut answer).await.ok()? == 0 {
                return None;
            }
        }
        Some(answer)
    };
    let answer = String::from_utf8(in_time("an answer", asking).await?).expect("text");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&format!("\r\n\r\n<{route}>")), "{answer}");
    Some(stream)
}

/// Opens so many connections and asks a route of its own over each.
async fn open(address: SocketAddr, connections: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    while held.len() < connections {
        let more = (connections - held.len()).min(AT_ONCE);
        let asking: Vec<_> = (held.len()..held.len() + more)
            .map(|route| tokio::spawn(async move { ask(tcp(address).await.expect("accepted"), route).await }))
            .collect();
        for asked in asking {
            held.push(asked.await.expect("no panic").expect("there is room"));
        }
    }
    held
}

#[test]
fn ten_thousand_routes_and_connections() {
    on_eight_threads(async {
        let _alone = alone().await;
        let port = free_port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let proxy = Proxy::start(&config(port, CONNECTIONS));
        let mut held = open(address, CONNECTIONS).await;
        let all = u64::try_from(CONNECTIONS).expect("a small number");
        assert_eq!(admin::active(proxy.admin, "global", None), all);
        assert_eq!(admin::active(proxy.admin, "route", Some("r9799")), 1);
        assert!(ask(tcp(address).await.expect("the kernel shakes hands"), 0).await.is_none(), "one beyond the limit");

        let (_, metrics) = admin::get(proxy.admin, "/metrics");
        assert!(metrics.contains("smartproxy_connections_active{scope=\"route\",route=\"r9799\"} 1\n"));

        proxy.write(&config(port, CONNECTIONS + 1));
        proxy.signal(Signal::HUP);
        eventually("it is reloaded", SOON, || {
            if proxy.log().contains("10000 routes are in force") { Ok(()) } else { Err(proxy.log()) }
        })
        .await;
        let first = held.swap_remove(0);
        held.push(ask(first, 7).await.expect("an old connection is served by the new routes"));
        held.push(ask(tcp(address).await.expect("accepted"), 0).await.expect("one more than before"));
        assert!(ask(tcp(address).await.expect("the kernel shakes hands"), 0).await.is_none(), "and no other");

        drop(held);
        eventually("all slots are back", SOON, || {
            let limits = admin::limits(proxy.admin);
            let mut scopes = limits["scopes"].as_array().expect("a list of scopes").iter();
            scopes.find(|scope| scope["active"] != 0).map_or(Ok(()), |held| Err(held.to_string()))
        })
        .await;
        assert_eq!(admin::limits(proxy.admin)["table"]["anomalies"].as_u64(), Some(0), "none was given back twice");
    });
}
