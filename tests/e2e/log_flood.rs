//! A flood from 50,000 addresses is a few lines, and the lines add up to all of it.
//!
//! Some seconds long; 20 in CI, and as long as `SMARTPROXY_FLOOD_SECONDS` says.

use crate::support::backend::Backend;
use crate::support::ports::free_port;
use crate::support::proxy::Proxy;
use crate::support::{admin, client, on_eight_threads};
use rustix::process::Signal;
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Addresses that attack: most of them are refused by limits, the last of them by the block list.
const ADDRESSES: u32 = 50_000;
/// Has no factor in common with [`ADDRESSES`], so that each address has its turn.
const SCATTER: u32 = 30_011;
const BLOCKED: u32 = 5_000;
const ATTACKERS: u32 = 4;
/// Reloads in the middle of it, each of which is a line of its own.
const RELOADS: u32 = 20;
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn source(number: u32) -> Ipv4Addr {
    match number.checked_sub(ADDRESSES - BLOCKED) {
        None => Ipv4Addr::from_bits(Ipv4Addr::new(127, 16, 0, 0).to_bits() + number),
        Some(number) => Ipv4Addr::from_bits(Ipv4Addr::new(127, 200, 0, 0).to_bits() + number),
    }
}

/// Where limits refuse everybody but the client that is exempt. No line comes before its time: how often the pace of
/// the attackers rises is up to the machine.
fn config(port: u16, backend: u16, folder: &str, format: &str, note: u32) -> String {
    format!(
        "bind: [\"127.0.0.1\"]
maxConnections: 20
maxConnectionsPerIP: 1
connectionRateLimitPerMinute: 0
exempt: [\"127.0.0.1/32\"]
security: {{ ipBlockList: [\"127.200.0.0/16\"] }}
onReject: reset
logging: {{ format: {format}, dedup: {{ flushInterval: 1s, riseFactor: 0, kinds: {{ blocked: {{ burst: 3 }} }} }} }}
accessLog: {{ path: \"{folder}/access.log\" }}
x-note: {note}
routes:
  - name: line
    match: {{ ports: {port} }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {backend} }}] }}
"
    )
}

/// One connection from this address: it must be turned away, whenever that is noticed.
fn knock(source: Ipv4Addr, address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    socket.bind(&SockAddr::from(SocketAddr::from((source, 0))))?;
    let answer = socket.connect(&SockAddr::from(address)).and_then(|()| (&socket).read(&mut [0; 1]));
    match answer {
        Ok(0) => Ok(()),
        Ok(_) => Err(io::Error::other("an attacker was served")),
        Err(error) if client::is_close(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What the attackers have counted.
#[derive(Default)]
struct Attack {
    limited: AtomicU64,
    blocked: AtomicU64,
    ended: AtomicBool,
}

impl Attack {
    /// Goes through every `ATTACKERS`th address until it has been everywhere and the time is over.
    fn run(&self, first: u32, address: SocketAddr, until: Instant) {
        let mut everywhere = false;
        while !everywhere || Instant::now() < until {
            for turn in (first..ADDRESSES).step_by(ATTACKERS as usize) {
                // Scattered, so that neither kind comes in waves, each of which would begin anew.
                let number = turn * SCATTER % ADDRESSES;
                knock(source(number), address).expect("it is turned away");
                let count = if number < ADDRESSES - BLOCKED { &self.limited } else { &self.blocked };
                count.fetch_add(1, Ordering::SeqCst);
                if everywhere && Instant::now() >= until {
                    break;
                }
            }
            everywhere = true;
        }
    }
}

/// The lines of one kind: events as they are, and counts of the summaries.
#[derive(Debug, Default)]
struct Lines {
    written: u64,
    summaries: Vec<u64>,
    reasons: BTreeMap<String, u64>,
    closings: usize,
}

impl Lines {
    fn total(&self) -> u64 {
        self.written + self.summaries.iter().sum::<u64>()
    }
}

fn of_text(log: &str, verb: &str) -> Lines {
    let mut lines = Lines::default();
    for line in log.lines() {
        if line.contains(&format!("{verb} connection reason=")) {
            lines.written += 1;
            let reason = line.split("reason=").nth(1).and_then(|rest| rest.split(' ').next()).expect("a reason");
            *lines.reasons.entry(reason.to_owned()).or_default() += 1;
        } else if line.contains(&format!("{verb} connections: stopped after ")) {
            lines.closings += 1;
        } else if let Some(rest) = line.split(&format!("{verb} ")).nth(1)
            && let Some((count, rest)) =
                rest.split_once(" connections in ").or_else(|| rest.split_once(" connection in "))
        {
            lines.summaries.push(number(count));
            let reasons = rest.split(" reasons ").nth(1).expect("a summary has reasons");
            let ends = [" routes ", " top ", " from "].map(|title| reasons.find(title).unwrap_or(reasons.len()));
            let reasons = &reasons[..ends.into_iter().min().expect("three")];
            // Digits come in groups, so a reason begins where a letter does.
            for part in reasons.split(' ').fold(Vec::<String>::new(), joined) {
                let (reason, count) = part.split_once('=').expect("a reason has a count");
                *lines.reasons.entry(reason.to_owned()).or_default() += number(count);
            }
        }
    }
    lines
}

/// Puts the groups of a number together again.
fn joined(mut parts: Vec<String>, word: &str) -> Vec<String> {
    match parts.last_mut() {
        Some(last) if !word.contains('=') => last.push_str(word),
        _ => parts.push(word.to_owned()),
    }
    parts
}

fn number(digits: &str) -> u64 {
    digits.replace(' ', "").parse().unwrap_or_else(|_| panic!("{digits:?} is no number"))
}

fn of_json(log: &str, kind: &str) -> Lines {
    let mut lines = Lines::default();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?} is no JSON"));
        if line["kind"] != kind {
            continue;
        }
        if let Some(count) = line["count"].as_u64() {
            lines.summaries.push(count);
            for part in line["reasons"].as_str().expect("a summary has reasons").split(' ') {
                let (reason, count) = part.split_once('=').expect("a reason has a count");
                *lines.reasons.entry(reason.to_owned()).or_default() += number(count);
            }
        } else if line["total"].is_u64() {
            lines.closings += 1;
        } else {
            lines.written += 1;
            *lines.reasons.entry(line["reason"].as_str().expect("a reason").to_owned()).or_default() += 1;
        }
    }
    lines
}

fn flood(format: &str, seconds: u64, lines_of: fn(&str, &str) -> Lines) {
    on_eight_threads(async {
        let (backend, port) = (Backend::echo().await, free_port());
        let folder = tempfile::tempdir().expect("a folder can be made");
        let place = folder.path().to_str().expect("a plain path").to_owned();
        let config = |note| config(port, backend.port(), &place, format, note);
        let mut proxy = Proxy::start_with("workers: 2\n", &config(0));
        let address = SocketAddr::new(LOCALHOST, port);
        // The slots are taken before it begins, each by an address that attacks as well.
        let mut held = Vec::new();
        for number in 0..20 {
            held.push(
                client::ping(client::tcp_from(source(number), address).await.expect("it connects"))
                    .await
                    .expect("a slot"),
            );
        }

        let (ours, begun) = (Attack::default(), Instant::now());
        let attack = &ours;
        let until = begun + Duration::from_secs(seconds);
        let (mut served, mut reloads) = (0, 0);
        std::thread::scope(|scope| {
            let attackers: Vec<_> =
                (0..ATTACKERS).map(|first| scope.spawn(move || attack.run(first, address, until))).collect();
            let legitimate = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                let mut served = 0;
                while !attack.ended.load(Ordering::SeqCst) {
                    let ping = async { client::ping(client::tcp_from(LOCALHOST, address).await?).await };
                    runtime.block_on(ping).expect("an exempt client is served");
                    served += 1;
                }
                served
            });
            while reloads < RELOADS && !attackers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                reloads += 1;
                proxy.write(&config(reloads));
                proxy.signal(Signal::HUP);
                let deadline = Instant::now() + Duration::from_secs(30);
                while reloaded(&proxy.log()) < u64::from(reloads) {
                    assert!(Instant::now() < deadline, "reload {reloads} was not told of");
                    std::thread::yield_now();
                }
            }
            attackers.into_iter().for_each(|attacker| attacker.join().expect("an attacker does not fail"));
            attack.ended.store(true, Ordering::SeqCst);
            served = legitimate.join().expect("a client does not fail");
        });
        let took = begun.elapsed();
        let (limited, blocked) = (ours.limited.into_inner(), ours.blocked.into_inner());

        // The tracker, and what log-dedup has counted itself.
        let by_global = admin::refused(proxy.admin, "global", None, "global_limit");
        let by_client = admin::refused(proxy.admin, "client", None, "client_limit");
        assert_eq!(by_global + by_client, limited, "the tracker counts what the attackers do");
        let status: Value = serde_json::from_str(&admin::get(proxy.admin, "/api/v1/status").1).expect("JSON");
        let recorded = |kind: &str| {
            let kind = &status["log"]["events"][kind];
            kind["written"].as_u64().expect("a count") + kind["folded"].as_u64().expect("a count")
        };
        assert_eq!((recorded("refused"), recorded("blocked")), (limited, blocked));

        drop(held);
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait(), Some(0));
        let log = proxy.whole_log();
        let (refused, turned_away) = (lines_of(&log, "refused"), lines_of(&log, "blocked"));
        println!(
            "{format}: {limited} refused and {blocked} blocked in {took:.1?} beside {served} served; lines: {} and {}, {} in all",
            refused.summaries.len(),
            turned_away.summaries.len(),
            log.lines().count()
        );
        // Every event is in one line, by its reason.
        assert_eq!(refused.total(), limited, "{log}");
        assert_eq!(turned_away.total(), blocked, "{log}");
        assert_eq!(
            refused.reasons,
            BTreeMap::from([("global_limit".into(), by_global), ("client_limit".into(), by_client)])
        );
        assert_eq!(turned_away.reasons, BTreeMap::from([("block_list".into(), blocked)]));
        // One event as it is each time it begins (of blocked ones three), a line per interval, and one
        // at the end.
        let written = |lines: &Lines, burst: usize| lines.written as usize <= burst * (lines.closings + 1);
        assert!(written(&refused, 1) && written(&turned_away, 3), "{log}");
        // One interval is under way at the end, and one more for the flush when the process ends.
        let intervals = proxy_lifetime_intervals(begun);
        for lines in [&refused, &turned_away] {
            assert!(
                lines.summaries.len() + lines.closings <= intervals,
                "{} lines in {intervals} intervals: {log}",
                lines.summaries.len()
            );
            assert!(!lines.summaries.is_empty(), "{log}");
        }
        // What has nothing to do with it is all there.
        assert_eq!(reloaded(&log), u64::from(reloads));
        assert_eq!(log.matches("drained").count(), 1, "{log}");
        let access = std::fs::read_to_string(folder.path().join("access.log")).expect("there is an access log");
        let mine = access.lines().filter(|line| line.contains(" 127.0.0.1 ")).count();
        assert_eq!(mine, served, "one line for each connection");
    });
}

fn reloaded(log: &str) -> u64 {
    log.matches("reloaded: ").count() as u64
}

/// Intervals of a second that have begun since, and one for the lines of the end.
fn proxy_lifetime_intervals(begun: Instant) -> usize {
    begun.elapsed().as_secs() as usize + 2
}

/// How long it goes on where nothing else is said; `in_ci` where all is tested.
fn seconds(usual: u64, in_ci: u64) -> u64 {
    let said = std::env::var("SMARTPROXY_FLOOD_SECONDS").ok().map(|seconds| seconds.parse().expect("a number"));
    let in_force = if std::env::var_os("CI").is_some() { in_ci } else { usual };
    said.unwrap_or(in_force)
}

#[test]
fn a_flood_is_a_few_lines_of_text_that_add_up() {
    flood("text", seconds(3, 20), of_text);
}

#[test]
fn a_flood_is_a_few_lines_of_json_that_add_up() {
    flood("json", seconds(2, 2), of_json);
}
