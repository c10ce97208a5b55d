//! Addresses that do nothing but shake hands, and somebody else meanwhile.

use crate::support::backend::Backend;
use crate::support::client::{in_time, tcp_from, tls};
use crate::support::leftovers::Baseline;
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{LONGEST_WAIT, admin, alone, certs, eventually, is_quiet, on_eight_threads};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HASTY: [u8; 4] = [127, 0, 0, 2];
const SILENT: [u8; 4] = [127, 0, 0, 4];
const BYSTANDER: [u8; 4] = [127, 0, 0, 3];

/// Fifty requests a second for five seconds, each over a TLS connection of its own.
const REQUESTS: u32 = 250;
const PACE: Duration = Duration::from_millis(20);

/// Shakes hands and leaves, again and again.
async fn hasty(address: SocketAddr, over: Arc<AtomicBool>, shaken: Arc<AtomicU64>) {
    while !over.load(Ordering::SeqCst) {
        let Ok(stream) = tcp_from(HASTY, address).await else { continue };
        if tls(stream, "end.test", &["http/1.1"]).await.is_ok() {
            shaken.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Says hello, and then nothing until it is closed, again and again.
async fn silent(address: SocketAddr, over: Arc<AtomicBool>) {
    let mut hello = Vec::new();
    let mut client = rustls::ClientConnection::new(certs::client(&["http/1.1"]), certs::name("end.test")).expect("TLS");
    client.write_tls(&mut hello).expect("memory takes everything");
    while !over.load(Ordering::SeqCst) {
        let Ok(mut stream) = tcp_from(SILENT, address).await else { continue };
        if stream.write_all(&hello).await.is_ok() {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    }
}

async fn request(address: SocketAddr) {
    let stream = tcp_from(BYSTANDER, address).await.expect("the bystander is accepted");
    let mut stream = tls(stream, "end.test", &["http/1.1"]).await.expect("the bystander shakes hands");
    let ask = b"GET / HTTP/1.1\r\nHost: end.test\r\nConnection: close\r\n\r\n";
    stream.write_all(ask).await.expect("the bystander is listened to");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("the bystander is answered");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_flood_of_handshakes_leaves_the_others_theirs() {
    on_eight_threads(async {
        let _alone = alone().await;
        let (backend, port) = (Backend::http().await, free_port());
        let proxy = Proxy::start(&format!(
            "bind: [\"127.0.0.1\"]
connectionRateLimitPerMinute: 0
maxConnectionsPerIP: 200
maxTlsHandshakes: 16
initialDataTimeout: 1s
routes:
  - name: end
    match: {{ ports: {port}, domains: end.test }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}], tls: {{ mode: terminate, certificate: {} }} }}
",
            backend.port(),
            certs::inline()
        ));
        let baseline = Baseline::of(&proxy).await;
        let address = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
        let (over, shaken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut flood: Vec<_> =
            (0..32).map(|_| tokio::spawn(hasty(address, Arc::clone(&over), Arc::clone(&shaken)))).collect();
        flood.extend((0..32).map(|_| tokio::spawn(silent(address, Arc::clone(&over)))));
        let timed_out = || {
            let (_, metrics) = admin::get(proxy.admin, "/metrics");
            let ended =
                metrics.lines().filter(|line| line.contains("handshake_limit") || line.contains("handshake_timeout"));
            ended.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
        };
        eventually("the flood is there", Duration::from_secs(30), || {
            if timed_out() > 0 && shaken.load(Ordering::SeqCst) > 0 { Ok(()) } else { Err(timed_out().to_string()) }
        })
        .await;
        let mut longest = Duration::ZERO;
        for _ in 0..REQUESTS {
            let begin = Instant::now();
            in_time("a request of the bystander", request(address)).await;
            let took = begin.elapsed();
            longest = longest.max(took);
            tokio::time::sleep(PACE.saturating_sub(took)).await;
        }
        let shaken = shaken.load(Ordering::SeqCst);
        assert!(shaken > u64::from(REQUESTS), "{shaken} handshakes are no flood");
        println!("the longest a bystander waited: {longest:?}, beside {shaken} handshakes");
        if is_quiet() {
            assert!(longest <= LONGEST_WAIT, "{longest:?}");
        }
        over.store(true, Ordering::SeqCst);
        for one in flood {
            in_time("the end of the flood", one).await.expect("a client does not panic");
        }
        drop(backend);
        baseline.assert_restored(&proxy).await;
    });
}
