//! Clients that take their time, or more than their share: each kind is ended for a reason that is counted, costs no more
//! memory than is documented, and nobody else notices.

use crate::support::backend::Backend;
use crate::support::client::{in_time, tcp, tls};
use crate::support::leftovers::Baseline;
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{LONGEST_WAIT, admin, alone, certs, eventually, is_quiet, memory, on_eight_threads};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;

/// What a client does, and what the proxy says of it.
struct Kind {
    name: &'static str,
    attack: Attack,
    /// The connections that do it at a time.
    connections: u64,
    reasons: &'static [&'static str],
    /// What one of them may cost in memory; see "Memory" in `docs/OPERATING.md`.
    kib: u64,
}

#[derive(Clone, Copy)]
enum Attack {
    /// These bytes to this port, then the others one by one for ever.
    Trickle(Port, &'static [u8], &'static [u8]),
    /// A request for much that nobody reads.
    TakeNothing,
    /// As many of those as there may be at a time, in HTTP/2.
    TakeNoStream,
    /// So many fields of so many bytes.
    Fields(usize, usize),
    /// This again and again in HTTP/2, behind a request of each connection's own; so often, or until it is ended.
    Frames(u32, fn(u32) -> Vec<u8>),
}

#[derive(Clone, Copy)]
enum Port {
    Web,
    Secure,
    Proxied,
}

const OPENING: u64 = 64;
const HEAD: u64 = 256;
const STREAMS: u64 = 10 * 1024;
const UNSENT: u64 = 18 * 1024;

const KINDS: &[Kind] = &[
    Kind {
        name: "a PROXY header",
        attack: Attack::Trickle(Port::Proxied, b"PROXY TCP4 ", b"1"),
        connections: 32,
        reasons: &["initial_data_timeout"],
        kib: OPENING,
    },
    Kind {
        name: "a TLS hello",
        attack: Attack::Trickle(Port::Secure, &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], &[0]),
        connections: 32,
        reasons: &["initial_data_timeout"],
        kib: OPENING,
    },
    Kind {
        name: "a head",
        attack: Attack::Trickle(Port::Web, b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"x"),
        connections: 32,
        reasons: &["request_header_timeout"],
        kib: HEAD,
    },
    Kind {
        name: "a body by length",
        attack: Attack::Trickle(Port::Web, b"POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        connections: 32,
        reasons: &["request_body_timeout"],
        kib: HEAD,
    },
    Kind {
        name: "a body in chunks",
        attack: Attack::Trickle(
            Port::Web,
            b"POST /sink HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n",
            b"x",
        ),
        connections: 32,
        reasons: &["request_body_timeout"],
        kib: HEAD,
    },
    Kind {
        name: "no reading",
        attack: Attack::TakeNothing,
        connections: 32,
        reasons: &["response_body_timeout"],
        kib: 1024,
    },
    Kind {
        name: "no reading of many streams",
        attack: Attack::TakeNoStream,
        connections: 4,
        reasons: &["response_body_timeout"],
        kib: UNSENT,
    },
    Kind {
        name: "many fields",
        attack: Attack::Fields(500, 10),
        connections: 32,
        reasons: &["header_too_large"],
        kib: HEAD,
    },
    Kind {
        name: "a huge field",
        attack: Attack::Fields(1, 1 << 20),
        connections: 32,
        reasons: &["header_too_large"],
        kib: HEAD,
    },
    Kind {
        name: "fields that unpack to much more",
        attack: Attack::Frames(50, |stream| headers(stream, &bomb(), 5)),
        connections: 4,
        reasons: &["header_too_large"],
        kib: STREAMS,
    },
    Kind {
        name: "a header block without end",
        attack: Attack::Frames(u32::MAX, |stream| {
            [headers(stream, GET, 1), frame(9, 0, stream, &[]).repeat(10_000)].concat()
        }),
        connections: 4,
        reasons: &["request_malformed"],
        kib: STREAMS,
    },
    Kind {
        name: "a header block that does not go on",
        attack: Attack::Frames(u32::MAX, |stream| if stream == 3 { headers(stream, GET, 1) } else { Vec::new() }),
        connections: 4,
        reasons: &["request_header_timeout"],
        kib: STREAMS,
    },
    Kind {
        name: "settings",
        attack: Attack::Frames(u32::MAX, |_| frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]).repeat(100)),
        connections: 4,
        reasons: &["http2_flood"],
        kib: STREAMS,
    },
    Kind {
        name: "pings",
        attack: Attack::Frames(u32::MAX, |_| frame(6, 0, 0, b"8 bytes.").repeat(100)),
        connections: 4,
        reasons: &["http2_flood"],
        kib: STREAMS,
    },
    Kind {
        name: "answers to pings of nobody",
        attack: Attack::Frames(u32::MAX, |_| frame(6, 1, 0, b"8 bytes.").repeat(100)),
        connections: 4,
        reasons: &["http2_flood"],
        kib: STREAMS,
    },
    Kind {
        name: "room of a byte",
        attack: Attack::Frames(u32::MAX, |_| frame(8, 0, 0, &[0, 0, 0, 1]).repeat(1_000)),
        connections: 4,
        reasons: &["http2_flood"],
        kib: STREAMS,
    },
    Kind {
        name: "empty data",
        attack: Attack::Frames(u32::MAX, |_| frame(0, 0, 1, &[]).repeat(100)),
        connections: 4,
        reasons: &["request_malformed"],
        kib: STREAMS,
    },
    Kind {
        name: "requests that are reset at once",
        attack: Attack::Frames(u32::MAX, |stream| {
            [headers(stream, GET, 5), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
        }),
        connections: 4,
        // Whichever comes first: our allowance, or how many h2 lets wait.
        reasons: &["http2_flood", "request_malformed"],
        kib: STREAMS,
    },
    Kind {
        name: "requests that we have to reset",
        attack: Attack::Frames(u32::MAX, |stream| [headers(stream, GET, 5), frame(8, 0, stream, &[0; 4])].concat()),
        connections: 4,
        reasons: &["request_malformed"],
        kib: STREAMS,
    },
];

/// `GET https://a/hold` from the static table, with literals where it has none.
const GET: &[u8] = &[0x82, 0x87, 0x04, 5, b'/', b'h', b'o', b'l', b'd', 0x41, 1, b'a'];

/// The same for `/source/200000`: more than is held for one of them, and no more than that by the kernel.
const MUCH: &[u8] = b"\x82\x87\x04\x0e/source/200000\x41\x01a";

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn headers(stream: u32, block: &[u8], flags: u8) -> Vec<u8> {
    frame(1, flags, stream, block)
}

/// A field of 2,000 bytes put into the table once and taken from it forty times more: 82 KB out of 2.
fn bomb() -> Vec<u8> {
    let mut block = GET.to_vec();
    block.extend([0x40, 1, b'x', 0x7f, 0xd1, 0x0e]);
    block.extend([b'y'; 2000]);
    block.extend([0xbe; 40]);
    block
}

struct House {
    proxy: Proxy,
    web: SocketAddr,
    secure: SocketAddr,
    proxied: SocketAddr,
}

impl House {
    fn new(backend: &Backend) -> Self {
        let [web, secure, proxied] = [(); 3].map(|()| free_port());
        let target = format!("{{ host: 127.0.0.1, port: {} }}", backend.port());
        let proxy = Proxy::start(&format!(
            "bind: [\"127.0.0.1\"]
connectionRateLimitPerMinute: 0
maxConnectionsPerIP: 0
acceptProxyProtocol: [{proxied}]
proxyIPs: [\"127.0.0.0/8\"]
initialDataTimeout: 2s
requestHeaderTimeout: 1s
requestBodyTimeout: 1s
minRequestBodyRate: 1000
responseBodyTimeout: 1s
routes:
  - name: web
    match: {{ ports: [{web}, {proxied}], protocol: http }}
    action: {{ type: forward, targets: [{target}] }}
  - name: secure
    match: {{ ports: {secure} }}
    action: {{ type: forward, targets: [{target}], tls: {{ mode: terminate, certificate: {} }} }}
",
            certs::inline()
        ));
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self { proxy, web: at(web), secure: at(secure), proxied: at(proxied) }
    }
}

/// One connection that does its worst until it is ended.
async fn attack(attack: Attack, [web, secure, proxied]: [SocketAddr; 3]) {
    match attack {
        Attack::Trickle(port, begin, then) => {
            let address = match port {
                Port::Web => web,
                Port::Secure => secure,
                Port::Proxied => proxied,
            };
            let mut stream = tcp(address).await.expect("accepted");
            let _ = stream.write_all(begin).await;
            let (mut reading, mut writing) = stream.split();
            let mut answer = Vec::new();
            tokio::select! {
                _ = reading.read_to_end(&mut answer) => {}
                () = async {
                    while writing.write_all(then).await.is_ok() {
                        // To be slow is the attack.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                } => {}
            }
        }
        Attack::TakeNothing => {
            let mut stream = tcp(web).await.expect("accepted");
            let _ = stream.write_all(b"GET /source/1000000000 HTTP/1.1\r\nHost: a\r\n\r\n").await;
            // Its end is seen without reading: what is written to a socket that is gone fails.
            while stream.write_all(b" ").await.is_ok() {
                // How often it looks.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Attack::TakeNoStream => {
            let mut stream = tls(tcp(secure).await.expect("accepted"), "end.test", &["h2"]).await.expect("TLS");
            let largest = 0x7fff_ffff_u32.to_be_bytes();
            let room = frame(8, 0, 0, &0x7fff_0000_u32.to_be_bytes());
            let begin = [PREFACE.to_vec(), frame(4, 0, 0, &[&[0, 4], &largest[..]].concat()), room].concat();
            let _ = stream.write_all(&begin).await;
            for number in 0..128 {
                let _ = stream.write_all(&headers(2 * number + 1, MUCH, 5)).await;
            }
            while stream.write_all(&frame(2, 0, 1, &[0; 5])).await.is_ok() && stream.flush().await.is_ok() {
                // How often it looks.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Attack::Fields(count, length) => {
            let mut stream = tcp(web).await.expect("accepted");
            let field = format!("X-Field: {}\r\n", "x".repeat(length));
            let _ =
                stream.write_all(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", field.repeat(count)).as_bytes()).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        Attack::Frames(rounds, frames) => {
            let stream = tls(tcp(secure).await.expect("accepted"), "end.test", &["h2"]).await.expect("TLS");
            flood(stream, rounds, frames).await;
        }
    }
}

async fn flood<S>(stream: S, rounds: u32, frames: fn(u32) -> Vec<u8>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut reading, mut writing) = tokio::io::split(stream);
    // Whatever comes is taken, so that it is not our pace that limits us.
    let drained: JoinHandle<()> = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut reading, &mut tokio::io::sink()).await;
    });
    let begin = [PREFACE.to_vec(), frame(4, 0, 0, &[]), headers(1, GET, 4)].concat();
    let mut alive = writing.write_all(&begin).await.is_ok();
    let mut stream = 3;
    while alive && !drained.is_finished() && stream / 2 <= rounds {
        alive = writing.write_all(&frames(stream)).await.is_ok() && writing.flush().await.is_ok();
        stream += 2;
        if frames(stream).is_empty() {
            // One that only waits.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    if rounds < u32::MAX {
        let _ = writing.shutdown().await;
    }
    let _ = drained.await;
}

/// What became of the requests of a bystander since it was looked at last.
#[derive(Default)]
struct Seen {
    answered: AtomicU64,
    /// The longest time that one took, in microseconds.
    longest: AtomicU64,
}

/// Somebody else: fifty requests a second, each of which has to be answered.
fn bystander(web: SocketAddr, done: Arc<AtomicBool>, seen: Arc<Seen>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut stream = tcp(web).await.expect("accepted");
        let mut answer = [0; 4096];
        while !done.load(Ordering::SeqCst) {
            let begin = Instant::now();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("the bystander is not cut off");
            let count = in_time("an answer", stream.read(&mut answer)).await.expect("the bystander is answered");
            assert!(answer[..count].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..count]));
            let took = begin.elapsed();
            seen.longest.fetch_max(u64::try_from(took.as_micros()).expect("no age"), Ordering::SeqCst);
            seen.answered.fetch_add(1, Ordering::SeqCst);
            // Its pace.
            tokio::time::sleep(Duration::from_millis(20).saturating_sub(took)).await;
        }
    })
}

#[test]
fn pitfall_23_whoever_is_slow_is_ended_for_a_reason_that_is_counted() {
    on_eight_threads(async {
        let _alone = alone().await;
        let backend = Backend::http().await;
        let House { proxy, web, secure, proxied } = House::new(&backend);
        let baseline = Baseline::of(&proxy).await;
        let done = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Seen::default());
        let bystander = bystander(web, Arc::clone(&done), Arc::clone(&seen));
        for kind in KINDS {
            let before = (counted(&proxy, kind.reasons), memory(proxy.pid(), "VmRSS:"));
            // From here on the peak is that of this kind.
            let _ = std::fs::write(format!("/proc/{}/clear_refs", proxy.pid()), "5");
            let mut rounds = 0;
            // As often as it takes for somebody to notice.
            while seen.answered.load(Ordering::SeqCst) < ANSWERED {
                let attackers: Vec<_> =
                    (0..kind.connections).map(|_| tokio::spawn(attack(kind.attack, [web, secure, proxied]))).collect();
                for attacker in attackers {
                    in_time(kind.name, attacker).await.expect("an attacker does not panic");
                }
                rounds += 1;
            }
            let all = rounds * kind.connections;
            eventually(&format!("{}: {:?} is counted", kind.name, kind.reasons), Duration::from_secs(20), || {
                match counted(&proxy, kind.reasons) - before.0 {
                    count if count >= all => Ok(()),
                    count => Err(format!("{count} of {all}:\n{}", admin::get(proxy.admin, "/metrics").1)),
                }
            })
            .await;
            let grown = memory(proxy.pid(), "VmHWM:").saturating_sub(before.1);
            let most = kind.connections * kind.kib + SLACK_KIB;
            assert!(grown <= most, "{}: {grown} KiB instead of {most}", kind.name);
            let waited = Duration::from_micros(seen.longest.swap(0, Ordering::SeqCst));
            let answered = seen.answered.swap(0, Ordering::SeqCst);
            println!("{}: {grown} KiB; {answered} requests of a bystander took {waited:?} at most", kind.name);
            if is_quiet() {
                assert!(waited <= LONGEST_WAIT, "{}: a bystander waited for {waited:?}", kind.name);
            }
        }
        done.store(true, Ordering::SeqCst);
        bystander.await.expect("every request of the bystander is answered");
        drop(backend);
        baseline.assert_restored(&proxy).await;
    });
}

/// How many requests of a bystander there are beside each kind, at least.
const ANSWERED: u64 = 10;

/// What the process needs besides: its own pages and what the allocator keeps.
const SLACK_KIB: u64 = 16 * 1024;

fn counted(proxy: &Proxy, reasons: &[&str]) -> u64 {
    let (_, metrics) = admin::get(proxy.admin, "/metrics");
    let labels: Vec<String> = reasons.iter().map(|reason| format!("reason=\"{reason}\"")).collect();
    let samples = metrics.lines().filter(|line| labels.iter().any(|label| line.contains(label)));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
