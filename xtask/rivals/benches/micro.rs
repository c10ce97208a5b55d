//! One admission and its release, in a table of a million clients, in random order.
#![allow(missing_docs, reason = "what criterion makes of a group has no docs")]

use ahash::RandomState;
use criterion::{Criterion, criterion_group, criterion_main};
use rivals::{all, client};
use std::collections::HashMap;
use std::hint::black_box;
use std::net::IpAddr;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLIENTS: u32 = 1_000_000;

/// Numbers of clients in an order that no cache can guess.
fn known(turn: u32) -> u32 {
    turn.wrapping_mul(0x85eb_ca6b).rotate_left(15).wrapping_mul(0xc2b2_ae35) % CLIENTS
}

fn micro(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a known client of 1 M");
    let mut turn = 0_u32;
    let mut next = || {
        turn = turn.wrapping_add(1);
        client(known(turn))
    };
    let map: HashMap<IpAddr, u32, RandomState> = (0..CLIENTS).map(|number| (client(number), number)).collect();
    group.bench_function("look-up in a map, ahash", |bencher| bencher.iter(|| black_box(map.get(&next()))));
    drop(map);
    for rival in all(CLIENTS) {
        (0..CLIENTS).for_each(|number| assert!(rival.hold(client(number)), "there is room"));
        group.bench_function(rival.name(), |bencher| bencher.iter(|| assert!(rival.turn(next()), "there is room")));
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots();
    targets = micro
}
criterion_main!(benches);
