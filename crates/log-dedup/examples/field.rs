//! The same events through different ways to keep a log small: `cargo run --release -p log-dedup --example field [EVENTS]`.
//!
//! Prints a table for each scenario: lines written, CPU time per event, memory that the process gained, and how many
//! events are in no line and no count. Each run is a process of its own. Lines are formatted and then thrown away.

use log_dedup::{Dedup, Folding, Guard, Kind, Settings, Source};
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tracing::{Event, Metadata};
use tracing_subscriber::filter::{FilterExt, LevelFilter};
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_throttle::TracingRateLimitLayer;

const SCENARIOS: [(&str, &str); 4] = [
    ("one", "one noisy address"),
    ("many", "as many addresses as events"),
    ("mixed", "ten reasons mixed, 1,000 addresses"),
    ("burst", "three quiet seconds with an event each, then a burst from one address"),
];
const WAYS: [(&str, &str); 6] = [
    ("bare", "tracing alone"),
    ("limited", "10 lines a second per place in the code, and how many are left out"),
    ("throttle", "tracing-throttle 0.4.4 as it comes, summaries each second, shut down in order"),
    ("throttle-tuned", "the same without the address in the signature"),
    ("layer", "log-dedup, the filter"),
    ("typed", "log-dedup, the typed call"),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [way, scenario, events] = &*arguments {
        return run(way, scenario, events.parse().expect("a number"));
    }
    let events = arguments.first().map_or("1000000", String::as_str);
    let this = std::env::current_exe().expect("a program knows where it is");
    for (scenario, meaning) in SCENARIOS {
        println!("\n{events} events: {meaning}\n\n| | lines | CPU per event | memory | lost |\n|---|--:|--:|--:|--:|");
        for (way, what) in WAYS {
            let output = Command::new(&this).args([way, scenario, events]).output().expect("it runs itself");
            assert!(output.status.success(), "{way}: {}", String::from_utf8_lossy(&output.stderr));
            println!("| {what} | {} |", String::from_utf8_lossy(&output.stdout).trim());
        }
    }
}

/// What was written: lines, and events that lines count beside their own.
#[derive(Default)]
struct Told {
    lines: AtomicU64,
    counted: AtomicU64,
}

/// Counts lines and throws them away.
#[derive(Clone)]
struct Bin(Arc<Told>);

impl Write for Bin {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lines.fetch_add(1, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One way through one scenario; prints a row.
fn run(way: &str, scenario: &str, events: u32) {
    let told = Arc::new(Told::default());
    let bin = Bin(Arc::clone(&told));
    let lines = tracing_subscriber::fmt::layer().with_writer(move || bin.clone()).with_ansi(false);
    let (memory, begin) = (resident(), cpu());
    // Lines that are no event: summaries, which are in `counted` by what they say.
    let mut extra = 0;
    match way {
        "bare" => {
            tracing_subscriber::registry().with(lines.with_filter(LevelFilter::INFO)).init();
            play(scenario, events, refuse);
        }
        "limited" => {
            let filter = LevelFilter::INFO.and(Limited(Arc::clone(&told), Mutex::default()));
            tracing_subscriber::registry().with(lines.with_filter(filter)).init();
            play(scenario, events, refuse);
        }
        "throttle" | "throttle-tuned" => extra = throttle(way, scenario, events, lines, &told),
        "layer" | "typed" => {
            let folding = Folding { interval: Duration::from_secs(1), ..Folding::default() };
            let kind = Kind::new("refused").reads("refused", "connection", "connections");
            let dedup = Dedup::builder().settings(Settings { folding, ..Settings::default() }).kind(kind).build();
            tracing_subscriber::registry().with(lines.with_filter(LevelFilter::INFO.and(dedup.filter()))).init();
            let guard = Guard::ticking(&dedup).expect("a thread");
            if way == "layer" {
                play(scenario, events, refuse);
            } else {
                play(scenario, events, |reason, address| {
                    dedup.record(0, reason, Some(7), Some(IpAddr::V4(address)));
                });
            }
            drop(guard);
            let totals = dedup.totals(0);
            told.counted.fetch_add(totals.folded, Ordering::Relaxed);
            extra = told.lines.load(Ordering::Relaxed) - totals.written;
        }
        _ => panic!("there is no way {way}"),
    }
    let nanos = (cpu() - begin).as_secs_f64() * 1e9 / f64::from(events);
    let gained = resident().saturating_sub(memory);
    let written = told.lines.load(Ordering::Relaxed);
    let told = written - extra + told.counted.load(Ordering::Relaxed);
    println!("{written} | {nanos:.0} ns | {gained} KB | {}", i64::from(events) - told as i64);
}

/// The events of a scenario.
fn play(scenario: &str, events: u32, one: impl Fn(&'static str, Ipv4Addr)) {
    let noisy = Ipv4Addr::new(203, 0, 113, 7);
    match scenario {
        "one" => (0..events).for_each(|_| one(REASONS[0], noisy)),
        "many" => (0..events).for_each(|step| one(REASONS[0], Ipv4Addr::from_bits(0x0a00_0000 + step))),
        "mixed" => (0..events).for_each(|step| {
            one(REASONS[step as usize % 10], Ipv4Addr::from_bits(0x0a00_0000 + step % 1000));
        }),
        "burst" => {
            for _ in 0..3 {
                one(REASONS[0], noisy);
                std::thread::sleep(Duration::from_secs(1));
            }
            (3..events).for_each(|_| one(REASONS[0], noisy));
        }
        _ => panic!("there is no scenario {scenario}"),
    }
}

fn refuse(reason: &'static str, address: Ipv4Addr) {
    let source = Source(IpAddr::V4(address));
    tracing::warn!(fold = "refused", reason, route = "shop", source = source.field(), "refused connection");
}

/// Lines that are summaries.
fn throttle<L>(way: &str, scenario: &str, events: u32, lines: L, told: &Arc<Told>) -> u64
where
    L: Layer<tracing_subscriber::Registry> + Send + Sync,
{
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let entered = runtime.enter();
    let (summaries, counts) = (Arc::new(AtomicU64::new(0)), Arc::clone(told));
    let seen = Arc::clone(&summaries);
    let mut builder = TracingRateLimitLayer::builder()
        .with_active_emission(true)
        .with_summary_interval(Duration::from_secs(1))
        .with_summary_formatter(Arc::new(move |summary| {
            seen.fetch_add(1, Ordering::Relaxed);
            counts.counted.fetch_add(summary.count as u64, Ordering::Relaxed);
            tracing::warn!(target: "tracing_throttle::summary", count = summary.count, "{}", summary.format_message());
        }));
    if way == "throttle-tuned" {
        builder = builder.with_excluded_fields(vec!["source".to_owned()]);
    }
    let throttle = builder.build().expect("good settings");
    tracing_subscriber::registry().with(lines.with_filter(throttle.clone())).init();
    play(scenario, events, refuse);
    drop(entered);
    runtime.block_on(throttle.shutdown()).expect("it ends");
    summaries.load(Ordering::Relaxed)
}

/// Ten lines a second for each place in the code; the first line of the next second says how many were left out.
struct Limited(Arc<Told>, Mutex<HashMap<tracing::callsite::Identifier, (Instant, u64, u64)>>);

impl<S> Filter<S> for Limited {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let mut places = self.1.lock().expect("nobody panics");
        let now = Instant::now();
        let (since, written, left_out) = places.entry(event.metadata().callsite()).or_insert((now, 0, 0));
        if now - *since >= Duration::from_secs(1) {
            self.0.counted.fetch_add(*left_out, Ordering::Relaxed);
            (*since, *written, *left_out) = (now, 0, 0);
        }
        let passes = *written < 10;
        *(if passes { written } else { left_out }) += 1;
        passes
    }
}

/// CPU time of this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The most memory that was ever resident, in KB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("a size")
}

const REASONS: [&str; 10] = [
    "client_limit",
    "client_rate",
    "route_limit",
    "route_client_limit",
    "global_limit",
    "pending_limit",
    "table_full",
    "request_limit",
    "request_rate",
    "exempt_limit",
];
