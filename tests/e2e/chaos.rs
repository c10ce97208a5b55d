//! Clients and backends that misbehave at random, in every way at once, for a while; then nothing may be left of them.

use crate::support::backend::Backend;
use crate::support::client::{tcp, tls};
use crate::support::leftovers::Baseline;
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{admin, alone, certs, eventually, memory, on_eight_threads};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Every decision of a client follows from this and its number, unless `CHAOS_SEED` says another one. What the sockets make
/// of it differs from run to run.
const SEED: u64 = 0x5e_ed0f_c4a0;

/// How long it goes on, here and where every change is tested, unless `CHAOS_SECS` says so.
const SECS: u64 = 8;
const SECS_IN_CI: u64 = 60;

/// How many clients are at it at a time.
const CLIENTS: u64 = 48;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// More than all of it can need: 48 connections with 128 streams' worth of buffers at the very most.
const MOST_MEMORY_KIB: u64 = 256 * 1024;

#[test]
fn nothing_is_left_of_chaos() {
    on_eight_threads(async {
        let _alone = alone().await;
        let seed = number("CHAOS_SEED").unwrap_or(SEED);
        let secs = if std::env::var_os("CI").is_some() { SECS_IN_CI } else { SECS };
        let chaos = Duration::from_secs(number("CHAOS_SECS").unwrap_or(secs));
        println!("{chaos:?} of chaos, seed {seed}");
        let seeds = Arc::new(AtomicU64::new(seed));
        let wild = Backend::start(move |stream| {
            let mut dice = Dice::new(seeds.fetch_add(1, Ordering::Relaxed));
            async move { wild(stream, &mut dice).await }
        })
        .await;
        let ports = [(); 4].map(|()| free_port());
        let proxy = start(&wild, ports);
        let baseline = Baseline::of(&proxy).await;
        let ports = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let end = Instant::now() + chaos;
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| tokio::spawn(misbehave(seed ^ number << 32, ports, end))).collect();
        let mut connections = 0;
        for client in clients {
            connections += client.await.expect("a client does not panic");
        }
        assert!(connections > 2 * CLIENTS, "only {connections} connections in {chaos:?}");
        // The backends are still there: whatever they do, a connection whose client is gone has to end.
        eventually("every count is zero", Duration::from_secs(30), || {
            match ["global", "pending"].map(|scope| admin::active(proxy.admin, scope, None)) {
                [0, 0] => Ok(()),
                held => Err(format!("{held:?} of {connections} are held: {}", admin::limits(proxy.admin))),
            }
        })
        .await;
        drop(wild);
        baseline.assert_restored(&proxy).await;
        let log = proxy.log();
        let since = log.lines().skip_while(|line| !line.contains(" ready"));
        for line in since.filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")) {
            // An end repeats what was told with its reasons before.
            let told = ["reason", OF_A_LIBRARY, ": stopped after "].iter().any(|part| line.contains(part));
            assert!(told, "a line without a reason: {line}");
        }
        let peak = memory(proxy.pid(), "VmHWM:");
        assert!(peak < MOST_MEMORY_KIB, "{peak} KiB of memory after {connections} connections");
    });
}

/// What the HTTP/2 library warns of in its own words, folded as such, when a client resets more streams than it may.
const OF_A_LIBRARY: &str = "remotely-reset pending-accept streams reached limit";

fn start(wild: &Backend, [secure, web, raw, proxied]: [u16; 4]) -> Proxy {
    let certificate = certs::inline();
    let target = format!("{{ host: 127.0.0.1, port: {} }}", wild.port());
    Proxy::start(&format!(
        "bind: [\"127.0.0.1\"]
connectionRateLimitPerMinute: 0
maxConnectionsPerIP: 40
maxPendingConnections: 20
initialDataTimeout: 500ms
requestHeaderTimeout: 500ms
requestBodyTimeout: 500ms
responseTimeout: 500ms
connectionTimeout: 500ms
inactivityTimeout: 1s
responseBodyTimeout: 500ms
minRequestBodyRate: 1000
acceptProxyProtocol: [{proxied}]
proxyIPs: [\"127.0.0.0/8\"]
routes:
  - name: end
    match: {{ ports: {secure}, domains: end.test }}
    action: {{ type: forward, targets: [{target}], tls: {{ mode: terminate, certificate: {certificate} }} }}
    security: {{ maxConnections: 15, maxConnectionsPerIP: 12 }}
  - name: pass
    match: {{ ports: {secure}, domains: pass.test }}
    action: {{ type: forward, targets: [{target}], tls: {{ mode: passthrough }} }}
    security: {{ maxConnections: 15 }}
  - name: web
    match: {{ ports: [{web}, {proxied}], domains: \"*\" }}
    action: {{ type: forward, targets: [{target}, {{ host: 127.0.0.1, port: 1 }}] }}
    security: {{ maxConnections: 15, maxConnectionsPerIP: 12 }}
  - name: shut
    match: {{ ports: {web}, path: /shut }}
    action: {{ type: block }}
  - name: raw
    match: {{ ports: {raw} }}
    action: {{ type: forward, targets: [{target}] }}
    security: {{ maxConnections: 15 }}
"
    ))
}

/// One connection after the other until the end; how many.
async fn misbehave(seed: u64, ports: [SocketAddr; 4], end: Instant) -> u64 {
    let mut dice = Dice::new(seed);
    let mut connections = 0;
    while Instant::now() < end {
        connections += 1;
        let longest = Duration::from_millis(dice.below(1500));
        // Giving up at any moment is one of the ways to go.
        _ = tokio::time::timeout(longest, one(&mut dice, ports)).await;
    }
    connections
}

async fn one(dice: &mut Dice, [secure, web, raw, proxied]: [SocketAddr; 4]) -> Option<()> {
    match dice.below(10) {
        0 => talk(tcp(raw).await.ok()?, dice).await,
        1 | 2 => talk(tcp(web).await.ok()?, dice).await,
        3 => talk(tcp(secure).await.ok()?, dice).await,
        7 => {
            let mut stream = tcp(proxied).await.ok()?;
            let header = format!("PROXY TCP4 10.0.{}.{} 127.0.0.1 1 2\r\n", dice.below(4), dice.below(256));
            let sent = if dice.coin() { header.len() } else { dice.index(header.len()) };
            stream.write_all(&header.as_bytes()[..sent]).await.ok()?;
            talk(stream, dice).await
        }
        8 => frames(tcp(web).await.ok()?, dice).await,
        9 => trickle(tcp(if dice.coin() { web } else { secure }).await.ok()?, dice).await,
        4 => {
            let stream = tcp(secure).await.ok()?;
            talk(tls(stream, "pass.test", &[]).await.ok()?, dice).await
        }
        _ => {
            let stream = tcp(secure).await.ok()?;
            abruptly(&stream, dice);
            let alpn: &[&str] = if dice.coin() { &["h2"] } else { &["http/1.1"] };
            let stream = tls(stream, "end.test", alpn).await.ok()?;
            if alpn == ["h2"] && dice.below(4) > 0 { streams(stream, dice).await } else { talk(stream, dice).await }
        }
    }
}

/// Says things that belong together, or not; listens, or not.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, dice: &mut Dice) -> Option<()> {
    for _ in 0..=dice.below(4) {
        let said = SAYINGS[dice.index(SAYINGS.len())];
        let said = &said[..if dice.coin() { said.len() } else { dice.index(said.len()) }];
        stream.write_all(said).await.ok()?;
        match dice.below(5) {
            0 => stream.write_all(&vec![b'x'; dice.index(2 << 20)]).await.ok()?,
            1 => stream.shutdown().await.ok()?,
            // Keeps the proxy waiting, longer than it may be or not.
            2 => tokio::time::sleep(Duration::from_millis(dice.below(900))).await,
            _ => {
                // Reads a part, so that much is left when it goes.
                let mut some = vec![0; 1 + dice.index(256 * 1024)];
                let _ = stream.read(&mut some).await.ok()?;
            }
        }
    }
    Some(())
}

const SAYINGS: [&[u8]; 19] = [
    b"GET / HTTP/1.1\r\nHost: end.test\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: end.test\r\nConnection: keep-alive\r\n\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: end.test\r\n\r\nGET / HTTP/1.1\r\nHost: end.test\r\nConnection: close\r\n\r\nGET /",
    b"POST / HTTP/1.1\r\nHost: end.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: end.test\r\n\r\nGET / HTTP/1.1\r\nHost: end.test\r\n\r\nGET /",
    b"GET /shut HTTP/1.1\r\nHost: end.test\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: end.test\r\nContent-Length: 1000000\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: end.test\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: end.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: end.test\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    b"5;a=b\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: end.test\r\nX: a\0b\r\n\r\n",
    b"GET /chat HTTP/1.1\r\nHost: end.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nearly",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"\x00\x00\x08\x06\x00\x00\x00\x00\x00pingping\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
    b"\x00\xff\r\n\r\n \x7f",
];

/// A saying byte by byte, with pauses that may be too long.
async fn trickle(mut stream: TcpStream, dice: &mut Dice) -> Option<()> {
    for byte in SAYINGS[dice.index(SAYINGS.len())] {
        stream.write_all(&[*byte]).await.ok()?;
        tokio::time::sleep(Duration::from_millis(dice.below(40))).await;
    }
    let _ = stream.read(&mut [0; 1024]).await.ok()?;
    Some(())
}

/// Frames of HTTP/2 that make sense one by one, in any order and number.
async fn frames(mut stream: TcpStream, dice: &mut Dice) -> Option<()> {
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.ok()?;
    let get = [&[0x82, 0x86, 0x84, 0x41, 8][..], b"end.test"].concat();
    let mut stream_id = 1_u32;
    for _ in 0..dice.below(30) {
        let (kind, flags, id, payload): (u8, u8, u32, &[u8]) = match dice.below(10) {
            0..=3 => {
                stream_id += 2;
                (1, [5, 4, 1][dice.index(3)], stream_id, &get)
            }
            4 => (3, 0, stream_id, &[0, 0, 0, 8]),
            5 => (8, 0, [0, stream_id][dice.index(2)], [&[0, 0, 1, 0][..], &[0; 4]][dice.index(2)]),
            6 => (6, 0, 0, b"8 bytes."),
            7 => (4, 0, 0, &[0, 4, 0, 0, 0, 1]),
            8 => (0, [0, 1][dice.index(2)], stream_id, b"some data"),
            _ => (9, [0, 4][dice.index(2)], stream_id, &[]),
        };
        let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat();
        // Most are there once, some a thousand times.
        let times = if dice.below(8) == 0 { 1000 } else { 1 };
        stream.write_all(&frame.repeat(times)).await.ok()?;
    }
    let _ = stream.read(&mut [0; 4096]).await.ok()?;
    Some(())
}

/// Requests over HTTP/2 that are dropped, reset or starved of window at any point.
async fn streams(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, dice: &mut Dice) -> Option<()> {
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(if dice.coin() { 16 } else { 1 << 20 })
        .handshake::<_, bytes::Bytes>(stream)
        .await
        .ok()?;
    let connection = tokio::spawn(connection);
    let _gone = AbortOnDrop(connection.abort_handle());
    let mut kept = Vec::new();
    for _ in 0..dice.below(40) {
        let mut ready = client.clone().ready().await.ok()?;
        let uri = if dice.below(8) == 0 { "https://nobody.test/" } else { "https://end.test/" };
        let mut request = http::Request::new(());
        *request.uri_mut() = uri.parse().expect("a URI");
        let body = dice.coin();
        *request.method_mut() = if body { http::Method::POST } else { http::Method::GET };
        let (answer, mut sending) = ready.send_request(request, !body).ok()?;
        match dice.below(4) {
            0 => sending.send_reset(h2::Reason::CANCEL),
            1 if body => _ = sending.send_data(vec![0; dice.index(100_000)].into(), dice.coin()),
            // Lets the answer come, or a part of it.
            2 => tokio::time::sleep(Duration::from_millis(dice.below(30))).await,
            _ => {}
        }
        if dice.coin() {
            kept.push((answer, sending));
        }
    }
    for (answer, sending) in kept {
        if let Ok(Ok(mut answer)) = tokio::time::timeout(Duration::from_millis(dice.below(200)), answer).await {
            let _ = answer.body_mut().data().await;
        }
        drop(sending);
    }
    Some(())
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A backend of no principles.
async fn wild(mut stream: TcpStream, dice: &mut Dice) {
    abruptly(&stream, dice);
    let mut some = vec![0; 64 * 1024];
    for _ in 0..8 {
        match dice.below(16) {
            0 => return,
            // Takes nothing, says nothing, stays.
            1 => return std::future::pending().await,
            2 => _ = stream.write_all(b"nobody asked\r\n\r\n").await,
            3 => {
                // Says more than anybody wants to hear.
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
                while stream.write_all(&some).await.is_ok() {}
                return;
            }
            4 => {
                while matches!(stream.read(&mut some).await, Ok(1..)) {}
                return std::future::pending().await;
            }
            _ => {}
        }
        let Ok(1..) = stream.read(&mut some).await else { return };
        let answer = ANSWERS[dice.index(ANSWERS.len())];
        let answer = &answer[..if dice.below(4) > 0 { answer.len() } else { dice.index(answer.len()) }];
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

const ANSWERS: [&[u8]; 9] = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nnonsense\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"220 smtp.test ready\r\n",
];

/// Has every other connection end by a reset instead of an end.
fn abruptly(stream: &TcpStream, dice: &mut Dice) {
    if dice.coin() {
        let _ = stream.set_zero_linger();
    }
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end.max(1)
    }

    fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).expect("below an index")
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}
