//! CPU time per admission and release: `cost [ROUNDS [CLIENTS]]`. Threads' own CPU time, so that a busy machine disturbs little.
//!
//! Each line is the median, the least and the most of its rounds, in nanoseconds.
#![allow(clippy::unwrap_used, reason = "a measurement that fails has no figures")]

use conn_tracker::{Arrival, ConnectionTracker, Inspect, Permit};
use limits_core::{Limits, Table, TableConfig};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TURNS: u32 = 1_000_000;

fn main() {
    let argument = |place| std::env::args().nth(place).and_then(|number: String| number.parse::<u32>().ok());
    let (rounds, clients) = (argument(1).unwrap_or(9), argument(2).unwrap_or(1_000_000));
    let now = Instant::now();
    let limits =
        Limits { max_connections: 30_000_000, per_client: 2, rate_per_minute: 60_000_000, ..Limits::default() };
    let table = Table::new(TableConfig::default(), limits, now).unwrap();
    let tracker = table.for_worker();
    let held: Vec<_> = (0..clients).map(|number| permit(&tracker, now, number)).collect();
    let full = permit(&tracker, now, 0);
    let mut map: HashMap<u32, (u32, u32), ahash::RandomState> = HashMap::default();
    map.extend((0..clients).map(|number| (mixed(number), (number, 0))));
    let mut counts = Mutex::new(map);

    // Interleaved: what a neighbour does to one line it does to all of them.
    let mut lines: [Vec<f64>; 15] = Default::default();
    for round in 0..rounds {
        let known = |turn: u32| 1 + mixed(turn ^ round << 20) % (clients - 1);
        let map = counts.get_mut();
        lines[0].push(cost(TURNS, |turn| {
            black_box(map.get(&mixed(known(turn))));
        }));
        lines[1].push(cost(TURNS, |turn| drop(permit(&tracker, now, known(turn)))));
        lines[2].push(cost(TURNS, |turn| drop(permit(&tracker, now, clients + known(turn)))));
        // They are forgotten again: the other lines are about a table of so many clients, not of twice as many.
        while !table.expire(now + Duration::from_secs(u64::from(round) + 1), 1_000_000).ended {}
        assert_eq!(table.snapshot().tracked_clients, u64::from(clients));
        lines[3].push(cost(TURNS, |_| {
            black_box(Permit::open(&tracker, now, arrival(0)).expect_err("the client is full"));
        }));
        lines[4].push(threads(&table, now, clients, 1, 0));
        lines[5].push(threads(&table, now, clients, 2, 0));
        lines[6].push(threads(&table, now, clients, 1, 1_000));
        lines[7].push(threads(&table, now, clients, 2, 1_000));
        // What was found is part of the next key, so no look-up begins before the last one has ended.
        let mut found = 0;
        lines[8].push(cost(TURNS, |turn| found = map[&mixed(known(turn ^ (found & 1 << 31)))].0));
        black_box(found);
        // The least that anything exact does: a count is looked at and changed under a lock, and changed back under it.
        let counted = |number: u32| {
            let taken = counts.lock().get_mut(&mixed(number)).is_some_and(|(_, held)| {
                let fits = *held < 2;
                *held += u32::from(fits);
                fits
            });
            if taken && let Some((_, held)) = counts.lock().get_mut(&mixed(number)) {
                *held -= 1;
            }
        };
        lines[12].push(cost(TURNS, |turn| counted(known(turn))));
        lines[13].push(cost(TURNS, |turn| {
            counted(known(turn));
            work_of_640_instructions(turn);
        }));
        lines[14].push(cost(TURNS, work_of_640_instructions));
        lines[9].push(cost(TURNS, |_| drop(permit(&tracker, now, 1))));
        for (line, ahead) in [(10, 1), (11, 4)] {
            lines[line].push(cost(TURNS, |turn| {
                tracker.expect(address(known(turn + ahead)));
                drop(permit(&tracker, now, known(turn)));
            }));
        }
    }
    let names = [
        "look-up in a map with ahash",
        "admit + release, known client, random order",
        "admit + release, new client",
        "refusal, client full",
        "back to back, one thread",
        "back to back, two threads, each",
        "with 1 µs of work, work included, one thread",
        "with 1 µs of work, two threads, each",
        "look-ups that wait for each other",
        "admit + release, one known client",
        "the same, hinted at one before",
        "the same, hinted at four before",
        "a count in that map, a lock around each change",
        "the same, 640 instructions in between",
        "the 640 instructions",
    ];
    let medians = lines.map(|mut samples| {
        samples.sort_by(f64::total_cmp);
        [samples.len() / 2, 0, samples.len() - 1].map(|place| samples[place])
    });
    println!("{clients} clients");
    for (name, [median, least, most]) in names.into_iter().zip(medians) {
        println!("{name:<48} {median:>7.1} ns  ({least:.1} to {most:.1})");
    }
    let [
        map,
        known,
        _,
        _,
        alone,
        both,
        alone_at_work,
        both_at_work,
        waiting,
        _,
        one_before,
        four_before,
        counted,
        apart,
        between,
    ] = medians.map(|[median, ..]| median);
    println!("\nadmit + release over the look-up: {:.1} ns,", known - map);
    println!("hinted at one before: {:.1} ns, four before: {:.1} ns;", one_before - map, four_before - map);
    println!("over look-ups that wait for each other: {:.1} ns", known - waiting);
    println!(
        "a count under locks over the look-up: {:.1} ns, with work in between, but for its own time, {:.1} ns;",
        counted - map,
        apart - between - map
    );
    println!("two threads do {:.2} times as much as one back to back,", 2.0 * alone / both);
    println!("and {:.2} times as much with 1 µs of work between", 2.0 * alone_at_work / both_at_work);
    drop((held, full));
}

fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(mixed(number)))
}

fn arrival(number: u32) -> Arrival {
    Arrival::client(address(number))
}

fn permit(tracker: &Arc<dyn ConnectionTracker>, now: Instant, number: u32) -> Permit {
    Permit::open(tracker, now, arrival(number)).expect("there is room")
}

/// An odd factor: every number gives another one, far from its neighbours.
fn mixed(number: u32) -> u32 {
    number.wrapping_mul(0x9e37_79b1)
}

/// 64 additions of ten instructions each, which do not wait for what is before them.
fn work_of_640_instructions(turn: u32) {
    let mut sums = [turn; 8];
    for round in 0..64 {
        sums[round % 8] = black_box(sums[round % 8].wrapping_add(1));
    }
}

/// CPU nanoseconds of this thread per turn.
fn cost(turns: u32, mut work: impl FnMut(u32)) -> f64 {
    let before = cpu();
    for turn in 0..turns {
        work(turn);
    }
    (cpu() - before) as f64 / f64::from(turns)
}

/// The same for one or two threads with clients of their own, and `nanoseconds` of other work between.
fn threads(table: &Arc<Table>, now: Instant, clients: u32, count: u32, nanoseconds: u32) -> f64 {
    let work = |thread: u32| {
        let tracker = table.for_worker();
        cost(TURNS / 4, |turn| {
            drop(permit(&tracker, now, 1 + (mixed(turn) % (clients / 2 - 1)) * 2 + thread));
            // About one nanosecond each: a chain of multiplications that cannot be shortened.
            black_box((0..nanoseconds).fold(u64::from(turn), |sum, _| black_box(sum.wrapping_mul(0x9e37_79b9))));
        })
    };
    std::thread::scope(|threads| {
        let others: Vec<_> = (1..count)
            .map(|thread| {
                threads.spawn({
                    let work = &work;
                    move || work(thread)
                })
            })
            .collect();
        let sum = work(0) + others.into_iter().map(|other| other.join().expect("it only counts")).sum::<f64>();
        sum / f64::from(count)
    })
}

fn cpu() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
