//! What the log says of kinds of events that no limit is behind, and by which settings.

use crate::support::backend::Backend;
use crate::support::client::{in_time, tcp, tcp_from};
use crate::support::ports::{free_port, local};
use crate::support::proxy::Proxy;
use crate::support::{admin, certs, eventually, on_eight_threads};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use rustls::{ClientConnection, version::TLS12};
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(30);
/// Nothing is told of before the end.
const NEVER: &str = "flushInterval: 1h, riseFactor: 0";

/// A port that ends TLS, with these settings of folding.
fn config(port: u16, backend: &Backend, dedup: &str) -> String {
    format!(
        "bind: [\"127.0.0.1\"]
connectionRateLimitPerMinute: 0
logging: {{ format: json, dedup: {{ {dedup} }} }}
routes:
  - name: shop
    match: {{ ports: {port}, domains: end.test }}
    action:
      type: forward
      targets: [{{ host: 127.0.0.1, port: {} }}]
      tls: {{ mode: terminate, certificate: {} }}
",
        backend.port(),
        certs::inline(),
    )
}

/// Lines of their own, and events in summaries, as the status has them for a kind.
fn events(proxy: &Proxy, kind: &str) -> (u64, u64) {
    let status: Value = serde_json::from_str(&admin::get(proxy.admin, "/api/v1/status").1).expect("JSON");
    let of = &status["log"]["events"][kind];
    (of["written"].as_u64().expect("a count"), of["folded"].as_u64().expect("a count"))
}

/// Lines that fit.
fn lines(log: &str, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
    log.lines().map(|line| serde_json::from_str(line).expect("JSON")).filter(fits).collect()
}

/// A hello, and then a warning that TLS knows no reason for: the library says so at each.
async fn warn(port: u16) {
    let mut connection = ClientConnection::new(certs::client_of(&[&TLS12]), certs::name("end.test")).expect("a client");
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).expect("a vector takes everything");
    const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 1, 100];
    bytes.extend(ALERT);
    let mut stream = tcp(local(port)).await.expect("it is open");
    stream.write_all(&bytes).await.expect("it is sent");
    // The server's part of the handshake; then it has seen both.
    stream.read_exact(&mut [0; 5]).await.expect("an answer");
}

async fn warn_and_wait(proxy: &Proxy, port: u16, times: u64) {
    let before = events(proxy, "library");
    for _ in 0..times {
        warn(port).await;
    }
    let recorded = || {
        let now = events(proxy, "library");
        if now.0 + now.1 == before.0 + before.1 + times { Ok(()) } else { Err(format!("{before:?} {now:?}")) }
    };
    eventually("all warnings are heard of", PATIENCE, recorded).await;
}

#[test]
fn warnings_of_libraries_fold_and_a_reload_changes_how() {
    on_eight_threads(async {
        let (backend, port) = (Backend::http().await, free_port());
        let mut proxy = Proxy::start_with("workers: 1\n", &config(port, &backend, NEVER));
        warn_and_wait(&proxy, port, 4).await;
        assert_eq!(events(&proxy, "library"), (1, 3));
        let of_rustls = |line: &Value| line["target"].as_str().is_some_and(|from| from.starts_with("rustls"));
        let summaries = |line: &Value| line["kind"] == "library" && line["count"].is_u64();
        let ends = |line: &Value| line["kind"] == "library" && line["total"].is_u64();
        assert_eq!(lines(&proxy.log(), of_rustls).len(), 1, "the first is a line as it is: {}", proxy.log());
        assert_eq!(lines(&proxy.log(), summaries).len(), 0);

        // Another interval for this kind alone.
        let reload = |dedup: &str| proxy.reload(&config(port, &backend, dedup));
        reload(&format!("{NEVER}, kinds: {{ library: {{ flushInterval: 1s, burst: 3 }} }}"));
        let told = || if lines(&proxy.log(), ends).is_empty() { Err(proxy.log()) } else { Ok(()) };
        eventually("it is told of, and then that it is over", PATIENCE, told).await;
        let summary = &lines(&proxy.log(), summaries)[0];
        assert_eq!(summary["count"], 3, "{summary}");
        assert!(summary["reasons"].as_str().is_some_and(|reasons| reasons.starts_with("rustls")), "{summary}");
        assert_eq!(lines(&proxy.log(), ends)[0]["total"], 4);

        // Three as they are from now on; and without settings of its own it goes by the general ones again.
        warn_and_wait(&proxy, port, 3).await;
        assert_eq!(events(&proxy, "library"), (4, 3));
        reload(NEVER);
        warn_and_wait(&proxy, port, 2).await;
        assert_eq!(events(&proxy, "library"), (4, 5));
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait(), Some(0));
        let log = proxy.whole_log();
        let counted: u64 = lines(&log, summaries).iter().filter_map(|line| line["count"].as_u64()).sum();
        assert_eq!((lines(&log, of_rustls).len(), counted), (4, 5), "{log}");
    });
}

#[test]
fn a_process_that_is_killed_has_told_of_all_but_its_last_interval() {
    on_eight_threads(async {
        let (backend, port) = (Backend::http().await, free_port());
        let text = config(port, &backend, "flushInterval: 1s")
            .replace("routes:", "security: { ipBlockList: [127.0.0.9] }\nroutes:");
        let mut proxy = Proxy::start(&text);
        let knock = |times: u64| async move {
            for _ in 0..times {
                // Closed or reset, before or after it knows that it is connected.
                if let Ok(mut stream) = tcp_from([127, 0, 0, 9], local(port)).await {
                    let _ = stream.read(&mut [0]).await;
                }
            }
        };
        let told = |log: &str| {
            let of_blocked = lines(log, |line| line["kind"] == "blocked" && !line["total"].is_u64());
            of_blocked.iter().map(|line| line["count"].as_u64().unwrap_or(1)).sum::<u64>()
        };
        knock(50).await;
        let all = || if told(&proxy.log()) == 50 { Ok(()) } else { Err(proxy.log()) };
        eventually("lines have told of all of them", PATIENCE, all).await;
        knock(5).await;
        proxy.signal(Signal::KILL);
        proxy.wait();
        let log = proxy.whole_log();
        assert!((50..=55).contains(&told(&log)), "{log}");
    });
}

#[test]
fn a_process_without_descriptors_says_so_in_a_few_lines() {
    on_eight_threads(async {
        let (backend, port) = (Backend::http().await, free_port());
        let mut proxy = Proxy::start_with("workers: 1\n", &config(port, &backend, NEVER));
        let pid = Pid::from_raw(i32::try_from(proxy.pid()).expect("a number")).expect("not zero");
        // No number is free beyond those that it keeps for this.
        let folder = format!("/proc/{}/fd", proxy.pid());
        let is_open = |number: u64| std::fs::symlink_metadata(format!("{folder}/{number}")).is_ok();
        let is_kept = |number: &u64| {
            std::fs::read_link(format!("{folder}/{number}")).is_ok_and(|file| file.as_os_str() == "/dev/null")
        };
        let kept = (3..100).filter(is_kept).max().expect("some are kept");
        let free = (kept..).find(|number| !is_open(*number)).expect("there is an end");
        let most = Rlimit { current: Some(free), ..getrlimit(Resource::Nofile) };
        let before = prlimit(Some(pid), Resource::Nofile, most).expect("it is ours");
        // Each takes a place below the limit, and waits; who finds none is turned away.
        let places = || (3..free).filter(|number| !is_open(*number)).count();
        let mut held = Vec::new();
        while places() > 0 {
            let before = places();
            let mut stream = tcp(local(port)).await.expect("the system accepts");
            stream.write_all(b"\x16").await.expect("it is open");
            held.push(stream);
            let taken = || if places() < before { Ok(()) } else { Err(format!("{before} places are free")) };
            eventually("it has a place", PATIENCE, taken).await;
        }
        for _ in 0..5 {
            let mut stream = tcp(local(port)).await.expect("the system accepts");
            // Closed or reset.
            let _ = in_time("the end", stream.read(&mut [0])).await;
        }
        drop(held);
        prlimit(Some(pid), Resource::Nofile, before).expect("it is ours");
        let (written, folded) = events(&proxy, "accept_failed");
        assert_eq!((written, folded), (1, 4));
        let metrics = admin::get(proxy.admin, "/metrics").1;
        let metric = metrics
            .lines()
            .find(|line| line.starts_with("smartproxy_accept_failures_total") && line.contains("descriptors"));
        assert!(metric.is_some_and(|line| line.ends_with(" 5")), "{metric:?} {metrics}");
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait(), Some(0));
        let failed = lines(&proxy.whole_log(), |line| line["kind"] == "accept_failed");
        assert_eq!(failed.len(), 2, "{failed:?}");
        assert_eq!((&failed[0]["reason"], &failed[0]["message"]), (&"descriptors".into(), &"failed accept".into()));
        assert_eq!((&failed[1]["count"], &failed[1]["reasons"]), (&4.into(), &"descriptors=4".into()));
    });
}
