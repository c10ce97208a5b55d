//! The longest that a lock is held: `locks v4|v6 CLIENTS RUNS`, built with `--cfg known_secret`.
//!
//! What a table does is settled by its secret and by who comes, in which order; what disturbs it is not. So the same clients
//! come in several processes with one secret, and of each step the least time counts: a disturbance would have to strike
//! the same step in all of them. Whole calls, in CPU time of their thread, so a lock is held for less than that. To ask for
//! that time is a call of the system, which takes longer than most steps: so it is asked for once a step, between two.
#![allow(clippy::unwrap_used, reason = "a measurement that fails has no figures")]

use conn_tracker::{Arrival, Hold, Slots};
use limits_core::{Limits, Table, TableConfig};
use rustix::time::{ClockId, clock_gettime};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    if !cfg!(known_secret) {
        eprintln!("processes can only be compared if their tables have one secret: build with --cfg known_secret");
        std::process::exit(2);
    }
    let mut arguments = std::env::args().skip(1);
    let family = arguments.next().unwrap_or_else(|| "v4".to_owned());
    let clients: u32 = arguments.next().and_then(|number| number.parse().ok()).unwrap_or(10_000_000);
    match arguments.next().as_deref() {
        Some(ONCE) => once(family == "v6", clients),
        runs => compare(&family, clients, runs.and_then(|number| number.parse().ok()).unwrap_or(5)),
    }
}

/// The argument that stands for one run, whose times are for the process that compares.
const ONCE: &str = "once";

/// Places that a step of forgetting looks at, all of them under one lock.
const STEP: usize = 1_024;

/// Has clients come, go and be forgotten, and writes what each step took, in nanoseconds: admissions, releases, and
/// steps of forgetting.
fn once(is_v6: bool, clients: u32) {
    let now = Instant::now();
    let config = TableConfig { tracked_clients: clients.saturating_mul(2), ..TableConfig::default() };
    let table = Table::new(config, Limits { rate_per_minute: 60, ..Limits::default() }, now).unwrap();
    let tracker = table.for_worker();
    // Written to before it is needed, so that no step has to wait for memory to write its own time to.
    let mut times = vec![u32::MAX; clients as usize];
    let mut watch = Watch::started();
    for (number, time) in (0..).zip(&mut times) {
        let arrival = Arrival::client(address(is_v6, number));
        let mut hold = Hold::vacant();
        tracker.open(now, arrival, &mut hold).unwrap();
        hold.settle();
        *time = watch.passed();
    }
    write(&times);
    let mut watch = Watch::started();
    for (number, time) in (0..).zip(&mut times) {
        let slots = Slots::GLOBAL.with(Slots::PENDING).with(Slots::CLIENT);
        let mut hold = Hold::vacant();
        hold.fill(Some(config.prefixes.key(address(is_v6, number))), slots);
        tracker.close(&mut hold);
        *time = watch.passed();
    }
    write(&times);
    let later = now + Duration::from_secs(120);
    let mut ended = false;
    times.clear();
    let mut watch = Watch::started();
    while !ended {
        ended = table.expire(later, STEP).ended;
        times.push(watch.passed());
    }
    write(&times);
}

/// Length, then times.
fn write(times: &[u32]) {
    let mut bytes = u32::try_from(times.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(times.iter().flat_map(|time| time.to_le_bytes()));
    std::io::stdout().write_all(&bytes).unwrap();
}

fn read(bytes: &mut &[u8]) -> Vec<u32> {
    let mut next = || {
        let (first, rest) = bytes.split_first_chunk().unwrap();
        *bytes = rest;
        u32::from_le_bytes(*first)
    };
    let count = next();
    (0..count).map(|_| next()).collect()
}

fn compare(family: &str, clients: u32, runs: u32) {
    let program = std::env::current_exe().unwrap();
    let runs: Vec<[Vec<u32>; 3]> = (0..runs)
        .map(|_| {
            let output = Command::new(&program).args([family, &clients.to_string(), ONCE]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let mut bytes = &*output.stdout;
            std::array::from_fn(|_| read(&mut bytes))
        })
        .collect();
    for (kind, name) in ["admission", "release", "step of forgetting"].into_iter().enumerate() {
        let runs: Vec<&[u32]> = runs.iter().map(|run| &*run[kind]).collect();
        let steps = runs[0].len();
        assert!(runs.iter().all(|run| run.len() == steps), "the runs did not do the same");
        let micros = |nanoseconds: u32| f64::from(nanoseconds) / 1_000.0;
        let least = |step: usize| runs.iter().map(|run| run[step]).min().unwrap();
        let (longest, number) = (0..steps).map(|step| (least(step), step)).max().unwrap();
        let longest_of = |run: &&[u32]| format!("{:.0}", micros(*run.iter().max().unwrap()));
        println!(
            "{family} {clients}: longest {name} {:.0} µs (number {number} of {steps}); the longest of each run {} µs",
            micros(longest),
            runs.iter().map(longest_of).collect::<Vec<_>>().join(", "),
        );
    }
}

/// How much CPU time this thread had used when the last step ended, in nanoseconds.
struct Watch(i64);

impl Watch {
    fn started() -> Self {
        Self(cpu())
    }

    /// How long the step took that ends now.
    fn passed(&mut self) -> u32 {
        let before = std::mem::replace(&mut self.0, cpu());
        u32::try_from(self.0 - before).unwrap_or(u32::MAX)
    }
}

fn address(is_v6: bool, number: u32) -> IpAddr {
    // An odd factor: every number gives another address, and neighbours are far apart.
    let bits = number.wrapping_mul(0x9e37_79b1);
    if is_v6 { Ipv6Addr::from_bits(u128::from(bits) << 64).into() } else { Ipv4Addr::from_bits(bits).into() }
}

/// CPU time of this thread in nanoseconds.
fn cpu() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
