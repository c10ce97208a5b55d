//! What a folded event costs: `cargo run --release -p log-dedup --example event_cost [typed|addresses|tracing|display|disabled] [EVENTS]`.
//!
//! `typed` is the typed call from one address, `addresses` from as many as there are events, `tracing` an event through a
//! subscriber whose lines are filtered by level and folding, its source given as `Source`, `display` the same with `%source`,
//! `disabled` the latter below the level. Prints CPU
//! nanoseconds per event, the best and the median of eleven rounds: one thread, and every event but the first is folded.
//! Under callgrind a single round of few events shows the instructions.

use log_dedup::{Dedup, Kind, Source};
use std::hint::black_box;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tracing_subscriber::filter::{FilterExt, LevelFilter};
use tracing_subscriber::layer::{Layer, SubscriberExt};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = arguments.first().map_or("all", String::as_str);
    let events: u32 = arguments.get(1).and_then(|events| events.parse().ok()).unwrap_or(1_000_000);
    let rounds = if arguments.len() > 1 { 1 } else { 11 };
    for (name, run) in RUNS {
        if wanted == "all" || wanted == name {
            let mut nanos: Vec<f64> = (0..rounds).map(|_| measure(events, run)).collect();
            nanos.sort_by(f64::total_cmp);
            println!("{name:10} {:6.1} ns best, {:6.1} ns median", nanos[0], nanos[nanos.len() / 2]);
        }
    }
}

fn measure(events: u32, run: fn(u32)) -> f64 {
    let before = cpu();
    run(events);
    (cpu() - before).as_secs_f64() * 1e9 / f64::from(events)
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn dedup() -> Dedup {
    Dedup::builder().kind(Kind::new("refused").reads("refused", "connection", "connections")).build()
}

fn typed(events: u32) {
    let dedup = dedup();
    let source = Some(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)));
    for step in 0..events {
        black_box(dedup.record(
            black_box(0),
            black_box(REASONS[step as usize % 2]),
            black_box(Some(7)),
            black_box(source),
        ));
    }
    assert_eq!(dedup.folded() + 1, u64::from(events));
}

fn addresses(events: u32) {
    let dedup = dedup();
    for step in 0..events {
        let source = Some(IpAddr::V4(Ipv4Addr::from_bits(step.wrapping_mul(0x9e37_79b9))));
        black_box(dedup.record(
            black_box(0),
            black_box(REASONS[step as usize % 2]),
            black_box(Some(7)),
            black_box(source),
        ));
    }
    assert_eq!(dedup.folded() + 1, u64::from(events));
}

fn through(events: u32, refuse: fn(u32)) {
    let dedup = dedup();
    let lines =
        tracing_subscriber::fmt::layer().with_writer(io::sink).with_filter(LevelFilter::INFO.and(dedup.filter()));
    let subscriber = tracing_subscriber::registry().with(lines);
    tracing::subscriber::with_default(subscriber, || refuse(events));
    assert_eq!(dedup.folded() + 1, u64::from(events));
}

fn tracing_event(events: u32) {
    through(events, |events| {
        let source = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
        for step in 0..events {
            let (reason, source) = (black_box(REASONS[step as usize % 2]), black_box(source));
            let source = Source(source);
            tracing::warn!(fold = "refused", reason, route = "shop", source = source.field(), "refused connection");
        }
    });
}

fn display(events: u32) {
    through(events, refuse);
}

fn disabled(events: u32) {
    let subscriber = tracing_subscriber::registry()
        .with(tracing_subscriber::fmt::layer().with_writer(io::sink).with_filter(LevelFilter::ERROR));
    tracing::subscriber::with_default(subscriber, || refuse(events));
}

fn refuse(events: u32) {
    let source = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
    for step in 0..events {
        let (reason, source) = (black_box(REASONS[step as usize % 2]), black_box(source));
        tracing::warn!(fold = "refused", reason, route = "shop", %source, "refused connection");
    }
}

const REASONS: [&str; 2] = ["client_limit", "client_rate"];
/// What is measured, by its name, for a number of events.
type Run = (&'static str, fn(u32));

const RUNS: [Run; 5] = [
    ("typed", typed),
    ("addresses", addresses),
    ("tracing", tracing_event),
    ("display", display),
    ("disabled", disabled),
];
