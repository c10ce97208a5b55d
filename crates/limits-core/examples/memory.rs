//! Resident memory per tracked client, and what is left once all are forgotten: `memory v4|v6 CLIENTS`.
//!
//! One size per process, because an allocator remembers. Each client has opened one connection, which is still held,
//! and used up a token. How long locks are held is measured by the example `locks`.
#![allow(clippy::unwrap_used, reason = "a measurement that fails has no figures")]

use conn_tracker::{Arrival, Hold, Inspect, Slots, TopBy};
use limits_core::{Limits, Table, TableConfig};
use rustix::time::{ClockId, clock_gettime};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The parts of a table with a lock of their own.
const SHARDS: u32 = 1024;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let is_v6 = arguments.next().as_deref() == Some("v6");
    let clients: u32 = arguments.next().and_then(|number| number.parse().ok()).unwrap_or(1_000_000);

    let now = Instant::now();
    let config = TableConfig { tracked_clients: clients.saturating_mul(2), ..TableConfig::default() };
    let table = Table::new(config, Limits { rate_per_minute: 60, ..Limits::default() }, now).unwrap();
    let tracker = table.for_worker();
    let start = resident();
    for number in 0..clients {
        let mut hold = Hold::vacant();
        tracker.open(now, Arrival::client(address(is_v6, number)), &mut hold).unwrap();
        hold.settle();
    }
    let full = resident();
    let before = cpu();
    let top = table.top(TopBy::Active, 20).len();
    // A lock is held for about 1,024 places of one family, of which clients fill 9 in 16 or more.
    let lock = (cpu() - before) / i64::from(SHARDS * (1 + clients.div_ceil(SHARDS * 1_024)));
    // What was forgotten above is built again: a hold is plain data.
    for number in 0..clients {
        tracker.close(&mut again(&table, address(is_v6, number)));
    }
    let later = now + Duration::from_secs(120);
    let before = Instant::now();
    while !table.expire(later, 100_000).ended {}
    let walk = before.elapsed();
    // Allocators hand memory back after a while, and only when they are asked for some.
    std::thread::sleep(Duration::from_millis(1_500));
    drop(vec![0_u8; 1 << 20]);
    let end = resident();
    let per_client = (full - start) as f64 / f64::from(clients);
    println!(
        "{} {clients:>8}: {per_client:.1} B a client, peak {:.1} B, left {} KB, walk {} ms, top {top}: {} µs a lock",
        if is_v6 { "v6" } else { "v4" },
        (peak() - start) as f64 / f64::from(clients),
        end.saturating_sub(start) / 1024,
        walk.as_millis(),
        lock as f64 / 1_000.0,
    );
}

fn address(is_v6: bool, number: u32) -> IpAddr {
    // An odd factor: every number gives another address, and neighbours are far apart.
    let bits = number.wrapping_mul(0x9e37_79b1);
    if is_v6 { Ipv6Addr::from_bits(u128::from(bits) << 64).into() } else { Ipv4Addr::from_bits(bits).into() }
}

fn again(table: &Table, address: IpAddr) -> Hold {
    let slots = Slots::GLOBAL.with(Slots::PENDING).with(Slots::CLIENT);
    let mut hold = Hold::vacant();
    hold.fill(Some(table.explain(address).client), slots);
    hold
}

/// CPU time of this thread in nanoseconds.
fn cpu() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Resident bytes now.
fn resident() -> u64 {
    status("VmRSS:")
}

/// Resident bytes at most, so far.
fn peak() -> u64 {
    status("VmHWM:")
}

fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
