//! Limits that change while connections are open: counts stay, the new limits are in force at once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use conn_tracker::{Arrival, ConnectionTracker, Inspect, Permit, Reason, RouteId, Scope};
use limits_core::{ClientOverride, Limits, RouteLimits, Table, TableConfig};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct World {
    table: Arc<Table>,
    tracker: Arc<dyn ConnectionTracker>,
    now: Instant,
}

impl World {
    fn new(limits: Limits) -> Self {
        let now = Instant::now();
        let table = Table::new(TableConfig::default(), limits, now).unwrap();
        Self { tracker: table.for_worker(), table, now }
    }

    fn open(&self, last: u8) -> Result<Permit, Reason> {
        let arrival = Arrival::client(IpAddr::from([192, 0, 2, last]));
        Permit::open(&self.tracker, self.now, arrival).map_err(|rejection| rejection.reason)
    }

    fn bound(&self, last: u8, route: RouteId) -> Result<Permit, Reason> {
        let mut permit = self.open(last)?;
        permit.bind(self.now, route).map_err(|rejection| rejection.reason)?;
        Ok(permit)
    }

    fn reload(&self, limits: Limits) -> Vec<RouteId> {
        self.table.reload(self.now, limits).unwrap()
    }

    fn active(&self, scope: Scope, route: Option<RouteId>) -> u64 {
        let scopes = self.table.snapshot().scopes;
        scopes.iter().find(|state| state.scope == scope && state.route == route).map_or(0, |state| state.active)
    }

    fn refused(&self, dry: bool) -> Vec<(Reason, u64)> {
        let scopes = self.table.snapshot().scopes;
        scopes.into_iter().flat_map(|state| if dry { state.would_refuse } else { state.refused }).collect()
    }
}

fn per_client(per_client: u32) -> Limits {
    Limits { per_client, ..Limits::default() }
}

fn routes(routes: &[(&str, u32)]) -> Limits {
    let route = |&(key, max_connections): &(&str, u32)| RouteLimits { max_connections, ..RouteLimits::new(key) };
    Limits { routes: routes.iter().map(route).collect(), ..Limits::default() }
}

#[test]
fn a_raised_limit_admits_the_difference_and_a_lowered_one_waits_until_below() {
    let world = World::new(per_client(3));
    let mut held: Vec<_> = (0..3).map(|_| world.open(1).unwrap()).collect();
    world.reload(per_client(5));
    held.extend((0..2).map(|_| world.open(1).unwrap()));
    assert_eq!(world.open(1).map(drop), Err(Reason::ClientLimit));
    world.reload(per_client(2));
    for left in (0..5).rev() {
        assert_eq!(world.active(Scope::Client, None), left + 1, "nobody is thrown out");
        assert_eq!(world.open(1).map(drop), Err(Reason::ClientLimit), "with {} held", left + 1);
        held.pop();
        if left < 2 {
            break;
        }
    }
    assert!(world.open(1).is_ok());
}

#[test]
fn zero_is_unlimited_at_once() {
    let one = Limits { max_connections: 1, per_client: 1, pending: 1, rate_per_minute: 1, ..routes(&[("shop", 1)]) };
    let world = World::new(one.clone());
    let shop = world.table.route_ids()[0];
    let _first = world.bound(1, shop).unwrap();
    assert_eq!(world.open(1).map(drop), Err(Reason::ClientRate));
    world.reload(routes(&[("shop", 0)]));
    let many: Vec<_> = (0..50).map(|_| world.bound(1, shop).unwrap()).collect();
    assert_eq!(
        world.active(Scope::Route, Some(shop)),
        51,
        "also those that came while nothing was limited are counted"
    );
    world.reload(one);
    assert_eq!(world.open(2).map(drop), Err(Reason::GlobalLimit));
    drop(many);
}

#[test]
fn a_route_that_goes_and_comes_back_has_kept_its_connections() {
    let world = World::new(routes(&[("shop", 2), ("api", 5)]));
    let [shop, api] = world.table.route_ids()[..] else { panic!("two routes") };
    let _held = [world.bound(1, shop).unwrap(), world.bound(1, shop).unwrap()];
    world.reload(routes(&[("api", 5)]));
    assert_eq!(world.active(Scope::Route, Some(shop)), 2, "removed, but they are still open");
    let renamed = world.reload(routes(&[("store", 2), ("api", 5)]));
    assert_eq!(renamed[1], api, "a key keeps its number, whatever its place");
    assert!(![shop, api].contains(&renamed[0]), "another name is another route");
    assert!(world.bound(1, renamed[0]).is_ok(), "with counts of its own");
    assert_eq!(world.reload(routes(&[("shop", 2)])), [shop]);
    assert_eq!(world.bound(2, shop).map(drop), Err(Reason::RouteLimit), "back again, and full");
}

#[test]
fn overrides_come_and_go_with_what_was_counted() {
    let special = |per_client| ClientOverride {
        network: "192.0.2.0/24".parse().unwrap(),
        per_client: Some(per_client),
        rate_per_minute: None,
    };
    let world = World::new(Limits { overrides: vec![special(4)], ..per_client(1) });
    let mut held: Vec<_> = (0..4).map(|_| world.open(1).unwrap()).collect();
    assert_eq!(world.open(1).map(drop), Err(Reason::ClientLimit));
    world.reload(Limits { overrides: vec![special(6)], ..per_client(1) });
    held.extend((0..2).map(|_| world.open(1).unwrap()));
    world.reload(per_client(1));
    held.truncate(1);
    assert_eq!(world.open(1).map(drop), Err(Reason::ClientLimit), "one of the general limit is still held");
    held.clear();
    assert!(world.open(1).is_ok());
}

#[test]
fn a_rate_keeps_what_was_used_up() {
    let rate = |rate_per_minute| Limits { rate_per_minute, ..Limits::default() };
    let mut world = World::new(rate(10));
    (0..10).for_each(|_| drop(world.open(1).unwrap()));
    world.reload(rate(20));
    let more = (0..20).filter(|_| world.open(1).is_ok()).count();
    assert_eq!(more, 10, "ten of twenty are used up");
    world.now += Duration::from_secs(60);
    assert_eq!((0..30).filter(|_| world.open(1).is_ok()).count(), 20);
}

/// The same attempts against limits that are enforced and limits that are tried out: the figures agree.
#[test]
fn a_dry_run_counts_what_enforcing_would_refuse() {
    let limits = |enforce| Limits { max_connections: 8, per_client: 3, enforce, ..routes(&[("shop", 4)]) };
    let figures = |enforce| {
        let world = World::new(limits(enforce));
        let shop = world.table.route_ids()[0];
        let mut held = Vec::new();
        for turn in 0..60 {
            if let Ok(mut permit) = world.open(turn % 5) {
                // Enforced, a connection whose binding is refused ends.
                let bound = permit.bind(world.now, shop).is_ok();
                if bound && permit.would_refuse().is_none() {
                    held.push(permit);
                }
            }
            if turn % 7 == 6 {
                drop(held.remove(0));
            }
        }
        let active = [Scope::Global, Scope::Client].map(|scope| world.active(scope, None));
        (active, world.active(Scope::Route, Some(shop)), world.refused(!enforce))
    };
    assert_eq!(figures(true), figures(false));
}

#[test]
fn a_dry_run_turned_off_enforces_from_then_on() {
    let world = World::new(Limits { enforce: false, ..per_client(1) });
    let held: Vec<_> = (0..3).map(|_| world.open(1).unwrap()).collect();
    assert_eq!(held.iter().filter(|permit| permit.is_over()).count(), 2);
    world.reload(per_client(1));
    assert_eq!(world.open(1).map(drop), Err(Reason::ClientLimit));
    drop(held);
    assert!(world.open(1).is_ok());
    assert_eq!(
        (world.refused(false), world.refused(true)),
        (vec![(Reason::ClientLimit, 1)], vec![(Reason::ClientLimit, 2)])
    );
}

#[test]
fn a_connection_rate_of_a_route_is_its_own_and_recovers() {
    let limits = |rate_per_minute| {
        let route = |key| RouteLimits { rate_per_minute, ..RouteLimits::new(key) };
        Limits { routes: vec![route("shop"), route("api")], ..Limits::default() }
    };
    let mut world = World::new(limits(2));
    let [shop, api] = world.table.route_ids()[..] else { panic!("two routes") };
    let bind = |world: &World, last, route| world.bound(last, route).map(drop);
    assert_eq!([(); 3].map(|()| bind(&world, 1, shop)), [Ok(()), Ok(()), Err(Reason::RouteClientRate)]);
    assert_eq!((bind(&world, 1, api), bind(&world, 2, shop)), (Ok(()), Ok(())), "of this client on this route");
    world.reload(limits(3));
    assert_eq!(
        [(); 2].map(|()| bind(&world, 1, shop)),
        [Ok(()), Err(Reason::RouteClientRate)],
        "two of three are used up"
    );
    world.now += Duration::from_secs(20);
    assert_eq!([(); 2].map(|()| bind(&world, 1, shop)), [Ok(()), Err(Reason::RouteClientRate)]);
    world.now += Duration::from_secs(60);
    while !world.table.expire(world.now, 100_000).ended {}
    let empty = World::new(limits(3)).table.snapshot().table_bytes;
    assert_eq!(world.table.snapshot().table_bytes, empty, "nothing outlives its rate");
}
