//! Every interleaving of two threads over the real table, without a bound on preemptions: `cargo xtask loom`.
//!
//! Each refusal is held against the ledgers that are written where changes commit. Where two calls race, what a thread did
//! is also written down beside the table, in the order in which it really happened: before an effect may be seen ("begun")
//! and once it must be seen ("done").
#![cfg(loom)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod models;

use conn_tracker::{Arrival, Inspect, Origin, Reason};
use limits_core::{Limits, RouteLimits};
use loom::sync::atomic::{AtomicBool, Ordering::SeqCst};
use loom::thread;
use models::{World, client, shop, with_route};
use std::sync::Arc;
use std::time::Duration;

fn model(check: impl Fn() + Send + Sync + 'static) {
    loom::model(check);
}

/// For a model with too many steps to try them all.
fn bounded_model(preemptions: usize, check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(check);
}

/// Two threads make `attempt` on a world with room for one: one of them gets it, the other hears `reason`. What the
/// winner took is free again afterwards.
fn one_wins<T: 'static>(
    world: &World,
    reason: Reason,
    attempt: impl Fn(&World, u8) -> Result<T, Reason> + Copy + Send + 'static,
) {
    let other = world.clone();
    let thread = thread::spawn(move || attempt(&other, 2));
    let answers = [attempt(world, 1), thread.join().unwrap()];
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "one slot, one winner");
    assert_eq!(answers.iter().find_map(|answer| answer.as_ref().err()), Some(&reason));
    drop(answers);
    drop(attempt(world, 3).expect("the slot is free again"));
    world.assert_empty();
}

#[test]
fn the_last_slot_has_one_winner_in_every_scope_of_the_process() {
    type Case = (Limits, Reason, u8);
    let cases: [Case; 4] = [
        (Limits { max_connections: 1, ..Limits::default() }, Reason::GlobalLimit, 1),
        (Limits { pending: 1, ..Limits::default() }, Reason::PendingLimit, 1),
        (Limits { per_client: 1, ..Limits::default() }, Reason::ClientLimit, 0),
        // Of both the client and the process: the order of the decision says which is named.
        (Limits { max_connections: 1, per_client: 1, ..Limits::default() }, Reason::ClientLimit, 0),
    ];
    for (limits, reason, apart) in cases {
        model(move || one_wins(&World::new(limits.clone()), reason, move |world, last| world.open(last * apart)));
    }
}

#[test]
fn the_last_exempt_slot_has_one_winner_and_the_other_is_counted() {
    model(|| {
        let exempt = vec!["192.0.2.0/24".parse().unwrap()];
        let world = World::new(Limits { exempt, exempt_slots: 1, ..Limits::default() });
        let other = world.clone();
        let thread = thread::spawn(move || other.open(2).unwrap());
        let permits = [world.open(1).unwrap(), thread.join().unwrap()];
        assert_eq!(permits.iter().filter(|permit| permit.client().is_none()).count(), 1);
        drop(permits);
        world.assert_empty();
    });
}

#[test]
fn the_last_place_of_the_table_has_one_winner() {
    model(|| one_wins(&World::with_room(Limits::default(), 1), Reason::TableFull, World::open));
}

#[test]
fn the_last_slot_of_a_route_has_one_winner() {
    for (route, reason, apart) in [
        (RouteLimits { max_connections: 1, ..shop() }, Reason::RouteLimit, 1),
        (RouteLimits { per_client: 1, ..shop() }, Reason::RouteClientLimit, 0),
    ] {
        model(move || {
            one_wins(&World::new(with_route(route.clone())), reason, move |world, last| {
                let mut permit = world.open(last * apart)?;
                world.bind(&mut permit).map(|()| permit)
            });
        });
    }
}

#[test]
fn the_last_request_has_one_winner() {
    for (route, reason, apart) in [
        (RouteLimits { max_requests: 1, ..shop() }, Reason::RequestLimit, 1),
        (RouteLimits { max_requests_per_client: 1, ..shop() }, Reason::RequestClientLimit, 0),
    ] {
        model(move || {
            one_wins(&World::new(with_route(route.clone())), reason, move |world, last| world.begin(last * apart));
        });
    }
}

#[test]
fn the_last_slot_of_a_named_client_has_one_winner() {
    model(|| {
        one_wins(&World::new(Limits { per_client: 1, ..Limits::default() }), Reason::ClientLimit, |world, _| {
            let mut permit = world.arrive(Arrival { origin: Origin::Proxy, pending: true }, 0)?;
            world.identify(&mut permit, 1)?;
            Ok(permit)
        });
    });
}

/// `take` succeeds only after `give` has begun, and does once it is done.
fn taken_as_given<T: 'static>(
    world: &World,
    give: impl FnOnce() + Send + 'static,
    take: impl FnOnce(&World) -> Result<T, Reason>,
) -> Option<T> {
    let marks = Arc::new((AtomicBool::new(false), AtomicBool::new(false)));
    let giver = Arc::clone(&marks);
    let thread = thread::spawn(move || {
        giver.0.store(true, SeqCst);
        give();
        giver.1.store(true, SeqCst);
    });
    let done = marks.1.load(SeqCst);
    let taken = take(world);
    let begun = marks.0.load(SeqCst);
    match &taken {
        Ok(_) => assert!(begun, "taken before it was given"),
        Err(reason) => assert!(!done, "{reason} although the slot was free"),
    }
    thread.join().unwrap();
    taken.ok()
}

#[test]
fn an_open_gets_what_a_close_gives() {
    for (limits, apart) in [
        (Limits { max_connections: 1, ..Limits::default() }, 1),
        (Limits { per_client: 1, ..Limits::default() }, 0),
        (Limits { max_connections: 1, per_client: 1, pending: 1, ..Limits::default() }, 0),
    ] {
        model(move || {
            let world = World::new(limits.clone());
            let held = world.open(0).unwrap();
            drop(taken_as_given(&world, move || drop(held), |world| world.open(apart)));
            world.assert_empty();
        });
    }
}

#[test]
fn a_bind_gets_what_a_close_or_an_unbind_gives() {
    for (route, unbind) in [
        (RouteLimits { max_connections: 1, ..shop() }, false),
        (RouteLimits { per_client: 1, ..shop() }, false),
        (RouteLimits { max_connections: 1, per_client: 1, ..shop() }, true),
    ] {
        model(move || {
            let world = World::new(with_route(route.clone()));
            let (mut held, mut waits) = (world.open(1).unwrap(), world.open(1).unwrap());
            world.bind(&mut held).unwrap();
            let route = world.route();
            let give = move || if unbind { held.unbind(route) } else { drop(held) };
            taken_as_given(&world, give, |world| world.bind(&mut waits));
            drop(waits);
            world.assert_empty();
        });
    }
}

#[test]
fn a_request_gets_what_another_gives() {
    model(|| {
        let world = World::new(with_route(RouteLimits { max_requests: 1, max_requests_per_client: 1, ..shop() }));
        let held = world.begin(1).unwrap();
        drop(taken_as_given(&world, move || drop(held), |world| world.begin(1)));
        world.assert_empty();
    });
}

#[test]
fn a_raised_limit_is_above_nothing_and_in_force_once_the_reload_is_done() {
    for apart in [0, 1] {
        model(move || {
            let limits = move |most| Limits {
                max_connections: most * u32::from(apart),
                per_client: most,
                routes: vec![RouteLimits { max_connections: most, ..shop() }],
                ..Limits::default()
            };
            let world = World::new(limits(1)).whose_highest_are(limits(2));
            let mut held = world.open(0).unwrap();
            world.bind(&mut held).unwrap();
            let reloaded = world.clone();
            let raise = move || drop(reloaded.table.reload(reloaded.now, limits(2)).unwrap());
            let taken = taken_as_given(&world, raise, |world| world.open(apart));
            if taken.is_some() {
                world.open(apart).map(drop).expect_err("two is all");
            }
            drop((taken, held));
            world.assert_empty();
        });
    }
}

#[test]
fn a_bind_goes_by_a_raised_limit_once_the_reload_is_done() {
    model(|| {
        let limits = |most| with_route(RouteLimits { max_connections: most, ..shop() });
        let world = World::new(limits(1)).whose_highest_are(limits(2));
        let (mut held, mut waits) = (world.open(1).unwrap(), world.open(2).unwrap());
        world.bind(&mut held).unwrap();
        let reloaded = world.clone();
        let raise = move || drop(reloaded.table.reload(reloaded.now, limits(2)).unwrap());
        taken_as_given(&world, raise, |world| world.bind(&mut waits));
        drop((held, waits));
        world.assert_empty();
    });
}

#[test]
fn a_lowered_limit_is_in_force_once_the_reload_is_done() {
    model(|| {
        let limits = |most| Limits { max_connections: most, ..Limits::default() };
        let world = World::new(limits(2));
        let held = world.open(1).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let (reloaded, finished) = (world.clone(), Arc::clone(&done));
        let thread = thread::spawn(move || {
            reloaded.table.reload(reloaded.now, limits(1)).unwrap();
            finished.store(true, SeqCst);
        });
        let lowered = done.load(SeqCst);
        let taken = world.open(2);
        assert!(!(lowered && taken.is_ok()), "admitted above a limit in force");
        thread.join().unwrap();
        world.open(3).map(drop).expect_err("one is all");
        drop((taken, held));
        world.assert_empty();
    });
}

#[test]
fn a_client_that_expires_while_it_returns_has_one_entry() {
    model(|| {
        let mut world = World::new(Limits { rate_per_minute: 1, per_client: 1, ..Limits::default() });
        drop(world.open(1).unwrap());
        assert_eq!(world.table.snapshot().tracked_clients, 1, "its token is used up");
        world.now += Duration::from_secs(60);
        let walker = world.clone();
        let thread = thread::spawn(move || walker.table.expire(walker.now, 1_000));
        let back = world.open(1).expect("its rate has recovered");
        thread.join().unwrap();
        let snapshot = world.table.snapshot();
        assert_eq!(snapshot.tracked_clients, 1);
        assert_eq!(world.table.explain(client(1)).active, 1);
        assert_eq!(world.open(1).map(drop), Err(Reason::ClientRate), "its token is used up again");
        drop(back);
        world.assert_empty();
    });
}

#[test]
fn a_refusal_by_the_process_takes_no_token_and_leaves_no_entry() {
    model(|| {
        let world = World::new(Limits { max_connections: 1, per_client: 1, rate_per_minute: 1, ..Limits::default() });
        let other = world.clone();
        let thread = thread::spawn(move || other.open(2));
        let (first, second) = (world.open(1), thread.join().unwrap());
        assert_eq!(world.table.snapshot().tracked_clients, 1, "the winner's");
        let loser = if first.is_ok() { 2 } else { 1 };
        drop((first, second));
        drop(world.open(loser).expect("its token was not used"));
        assert_eq!(world.open(loser).map(drop), Err(Reason::ClientRate), "but it had only one");
        world.assert_empty();
    });
}

/// One client is full, one slot of the process and of the route is free: the full client cannot take it away, not even
/// for a moment.
#[test]
fn a_refused_attempt_is_invisible() {
    model(|| {
        let route = RouteLimits { max_connections: 2, per_client: 1, ..shop() };
        let world = World::new(Limits { max_connections: 3, per_client: 2, ..with_route(route) });
        let mut held = world.open(1).unwrap();
        world.bind(&mut held).unwrap();
        let mut more = world.open(1).unwrap();
        let full = world.clone();
        let thread = thread::spawn(move || {
            assert_eq!(full.open(1).map(drop), Err(Reason::ClientLimit));
            // The other client may have been faster.
            let refused = full.bind(&mut more).unwrap_err();
            assert!(matches!(refused, Reason::RouteClientLimit | Reason::RouteLimit), "{refused}");
            more
        });
        let mut other = world.open(2).expect("one slot is free");
        world.bind(&mut other).expect("so is one of the route");
        drop((thread.join().unwrap(), other, held));
        world.assert_empty();
    });
}

#[test]
fn a_lowered_limit_of_a_route_is_in_force_once_the_reload_is_done() {
    model(|| {
        let limits = |most| with_route(RouteLimits { max_connections: most, ..shop() });
        let world = World::new(limits(2));
        let (mut held, mut waits) = (world.open(1).unwrap(), world.open(2).unwrap());
        world.bind(&mut held).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let (reloaded, finished) = (world.clone(), Arc::clone(&done));
        let thread = thread::spawn(move || {
            reloaded.table.reload(reloaded.now, limits(1)).unwrap();
            finished.store(true, SeqCst);
        });
        let lowered = done.load(SeqCst);
        let bound = world.bind(&mut waits);
        assert!(!(lowered && bound.is_ok()), "bound above a limit in force");
        thread.join().unwrap();
        drop((held, waits));
        world.assert_empty();
    });
}

/// Parts of the table grow with each new client of a model.
#[test]
fn a_table_that_grows_loses_nobody() {
    bounded_model(4, || {
        let world = World::new(Limits { per_client: 1, ..Limits::default() });
        let held = world.open(0).unwrap();
        let other = world.clone();
        let thread = thread::spawn(move || (other.open(1).unwrap(), other.open(2).unwrap()));
        assert_eq!(world.open(0).map(drop), Err(Reason::ClientLimit), "it is there all the time");
        drop(held);
        let again = world.open(0).expect("its slot is free");
        let others = thread.join().unwrap();
        assert_eq!(world.table.snapshot().tracked_clients, 3);
        drop((again, others));
        world.assert_empty();
    });
}

#[test]
fn a_client_that_is_named_while_another_connection_of_it_ends_is_counted_right() {
    model(|| {
        let world = World::new(Limits { per_client: 1, ..Limits::default() });
        let held = world.open(1).unwrap();
        let mut named = world.arrive(Arrival { origin: Origin::Proxy, pending: true }, 0).unwrap();
        taken_as_given(&world, move || drop(held), |world| world.identify(&mut named, 1));
        drop(named);
        world.assert_empty();
    });
}
