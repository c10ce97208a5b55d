//! More threads and longer histories than every interleaving could be tried of, in random order: `cargo xtask loom`.
//!
//! A failure prints the schedule that repeats it.
#![cfg(shuttle)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod models;

use conn_tracker::{Arrival, Origin};
use limits_core::{Limits, RouteLimits};
use models::{World, shop, with_route};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use std::time::Duration;

const THREADS: u8 = 4;
const SCHEDULES: usize = 3_000;

/// Three connections at most, two of a client, two that are not routed yet, two on the route, one request.
fn tight(most: u32) -> Limits {
    let route = RouteLimits { max_connections: most - 1, per_client: 1, max_requests: 1, ..shop() };
    Limits { max_connections: most, per_client: 2, pending: 2, ..with_route(route) }
}

/// Opens, names, binds, begins and ends, at random; the world checks every refusal.
fn wander(world: &World, steps: usize) {
    let (mut permits, mut requests) = (Vec::new(), Vec::new());
    for _ in 0..steps {
        let last = thread_rng().gen_range(0..2);
        match thread_rng().gen_range(0..8) {
            0 | 1 => permits.extend(world.open(last)),
            2 => {
                let arrival = Arrival { origin: Origin::Proxy, pending: true };
                if let Ok(mut permit) = world.arrive(arrival, last)
                    && world.identify(&mut permit, last).is_ok()
                {
                    permits.push(permit);
                }
            }
            3 | 4 => {
                if let Some(permit) = permits.last_mut() {
                    let _bound = world.bind(permit);
                }
            }
            5 => {
                if let Some(permit) = permits.last_mut() {
                    permit.unbind(world.route());
                }
            }
            6 => requests.extend(world.begin(last)),
            _ => {
                permits.pop();
                requests.pop();
            }
        }
    }
}

#[test]
fn four_threads_that_do_anything_are_counted_right() {
    let check = || {
        let world = World::new(tight(3));
        let threads = (0..THREADS).map(|_| {
            let world = world.clone();
            thread::spawn(move || wander(&world, 6))
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        world.assert_empty();
    };
    shuttle::check_random(check, SCHEDULES);
    shuttle::check_pct(check, SCHEDULES, 4);
}

#[test]
fn reloads_and_walks_beside_it_change_nothing() {
    let check = || {
        let world = World::new(tight(3)).whose_highest_are(tight(4));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let world = world.clone();
                thread::spawn(move || wander(&world, 6))
            })
            .collect();
        let (reloading, walking) = (world.clone(), world.clone());
        let reload = thread::spawn(move || {
            for most in [4, 3] {
                reloading.table.reload(reloading.now, tight(most)).unwrap();
            }
        });
        let walk = thread::spawn(move || {
            walking.table.expire(walking.now + Duration::from_secs(60), 1_000);
        });
        threads.into_iter().chain([reload, walk]).for_each(|thread| thread.join().unwrap());
        world.assert_empty();
    };
    shuttle::check_random(check, SCHEDULES);
}
