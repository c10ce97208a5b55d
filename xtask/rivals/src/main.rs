//! Resident bytes per client of one rival: `rivals NAME CLIENTS`. One per process, because an allocator remembers.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a measurement that fails has no figures")]

use rivals::{by_name, client};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let clients: u32 = arguments.next().and_then(|number| number.parse().ok()).unwrap_or(1_000_000);
    let start = resident();
    let rival = by_name(&name, clients);
    assert!((0..clients).all(|number| rival.hold(client(number))), "there is room");
    let per_client = (resident() - start) as f64 / f64::from(clients);
    println!("{}: {per_client:.1} B a client; lacks {}", rival.name(), rival.lacks());
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has a size");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("kilobytes") * 1024
}
