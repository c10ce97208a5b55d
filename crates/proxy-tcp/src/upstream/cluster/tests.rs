use super::*;
use proxy_route::{HealthCheck, Target, TargetPort};
use std::collections::BTreeSet;
use std::time::Duration;

const ALGORITHMS: [Algorithm; 3] = [Algorithm::IpHash, Algorithm::LeastConnections, Algorithm::RoundRobin];

fn cluster(algorithm: Algorithm, count: u16) -> Cluster {
    let target = |port| Target::new("127.0.0.1", TargetPort::Fixed(port));
    let forward = Forward {
        algorithm,
        health_check: Some(HealthCheck::default()),
        ejection: Some(Ejection { after_failures: 1, ..Ejection::default() }),
        ..Forward::new((0..count).map(target).collect())
    };
    Cluster::new("shop", &forward)
}

fn ports_at(cluster: &Cluster, client: &str, now: Instant) -> Vec<u16> {
    let mut order = cluster.order(client.parse().unwrap(), now);
    std::iter::from_fn(|| order.next(cluster)).map(|backend| backend.port.resolve(0)).collect()
}

fn ports(cluster: &Cluster, client: &str) -> Vec<u16> {
    ports_at(cluster, client, Instant::now())
}

fn is_down(cluster: &Cluster, index: usize) {
    let check = HealthCheck { unhealthy_threshold: 1, ..HealthCheck::default() };
    cluster.backends[index].checked.note(&check, Instant::now(), Err("refused".to_owned()));
}

#[test]
fn every_order_has_every_backend_once() {
    for algorithm in ALGORITHMS {
        for count in 0..4 {
            let cluster = cluster(algorithm, count);
            for client in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
                let mut order = ports(&cluster, client);
                order.sort_unstable();
                assert_eq!(order, (0..count).collect::<Vec<_>>(), "{algorithm:?}");
            }
        }
    }
}

#[test]
fn the_first_one_is_by_the_algorithm() {
    let turns = cluster(Algorithm::RoundRobin, 3);
    let firsts: Vec<_> = (0..6).map(|_| ports(&turns, "192.0.2.1")[0]).collect();
    assert_eq!(firsts, [0, 1, 2, 0, 1, 2]);

    let hashed = cluster(Algorithm::IpHash, 3);
    let spread = (0..=255).map(|host| ports(&hashed, &format!("192.0.2.{host}"))[0]);
    assert_eq!(spread.collect::<BTreeSet<_>>().len(), 3);
    assert_eq!(ports(&hashed, "192.0.2.1"), ports(&hashed, "192.0.2.1"));

    let least = cluster(Algorithm::LeastConnections, 3);
    let held = [least.backends[0].count(), least.backends[2].count()];
    for _ in 0..4 {
        assert_eq!(ports(&least, "192.0.2.1")[0], 1, "the only idle one");
    }
    drop(held);
    assert!(least.backends.iter().all(|backend| backend.in_flight() == 0));
    let firsts = (0..3).map(|_| ports(&least, "192.0.2.1")[0]);
    assert_eq!(firsts.collect::<BTreeSet<_>>().len(), 3, "equals take turns");
}

#[test]
fn who_does_well_again_between_the_rounds_is_tried_once() {
    for algorithm in ALGORITHMS {
        let cluster = cluster(algorithm, 3);
        let before = Instant::now();
        cluster.failed(&cluster.backends[1], before, "dial_refused");
        let mut order = cluster.order("192.0.2.1".parse().unwrap(), before + Duration::from_millis(1));
        let mut next = || order.next(&cluster).map(|backend| backend.port.resolve(0));
        let mut tried: Vec<_> = std::iter::from_fn(&mut next).take(2).collect();
        assert!(!tried.contains(&1), "{algorithm:?}: the others come first");
        // Another client had it on trial.
        cluster.backends[1].succeeded();
        tried.extend(std::iter::from_fn(&mut next));
        assert_eq!((tried.len(), tried[2]), (3, 1), "{algorithm:?}: {tried:?}");
    }
}

#[test]
fn who_is_down_gets_nothing_and_who_is_set_aside_comes_last() {
    for algorithm in ALGORITHMS {
        let cluster = cluster(algorithm, 4);
        is_down(&cluster, 1);
        let before = Instant::now();
        cluster.failed(&cluster.backends[2], before, "dial_refused");
        let now = before + Duration::from_millis(1);
        let mut firsts = Vec::new();
        for host in 0..40 {
            let order = ports_at(&cluster, &format!("192.0.2.{host}"), now);
            assert_eq!((order.len(), order[2]), (3, 2), "{algorithm:?}: {order:?}");
            assert!(!order.contains(&1));
            firsts.push(order[0]);
        }
        let share = firsts.iter().filter(|first| **first == 0).count();
        assert!(share > 0 && share < 40, "{algorithm:?}: {share} of 40");
        if algorithm != Algorithm::IpHash {
            assert_eq!(share, 20, "{algorithm:?}: both have their share");
        }
        assert_eq!(ports_at(&cluster, "192.0.2.1", before).len(), 3, "once, whenever it was set aside");

        for index in [0, 3] {
            cluster.failed(&cluster.backends[index], before, "dial_refused");
        }
        assert_eq!(ports_at(&cluster, "192.0.2.1", now).len(), 3, "all aside is as if none were");
        for index in [0, 2, 3] {
            is_down(&cluster, index);
        }
        assert!(ports_at(&cluster, "192.0.2.1", now).is_empty(), "all down is none");
    }
}

#[test]
fn who_was_aside_for_long_enough_is_tried_by_one_at_a_time() {
    let client = IpAddr::from([192, 0, 2, 1]);
    for algorithm in ALGORITHMS {
        let cluster = cluster(algorithm, 3);
        let own = cluster.hashed(client);
        let before = Instant::now();
        cluster.failed(&cluster.backends[own], before, "dial_refused");
        let over = before + Ejection::default().hold;
        let place = |now| {
            let mut order = cluster.order(client, now);
            let place = std::iter::from_fn(|| order.next(&cluster))
                .position(|backend| Arc::ptr_eq(backend, &cluster.backends[own]));
            // The rest of the order keeps it on trial.
            (place, order)
        };
        assert_eq!(place(over - Duration::from_millis(1)).0, Some(2), "{algorithm:?}: it is aside");
        let (first, trying) = place(over);
        assert_eq!((first, place(over).0), (Some(0), Some(2)), "{algorithm:?}: one tries it, nobody else does");
        drop(trying);
        assert_eq!(place(over).0, Some(0), "{algorithm:?}: that one has learnt nothing");
        let all = ports_at(&cluster, "192.0.2.1", over);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 3, "{algorithm:?}: everybody once: {all:?}");
        cluster.failed(&cluster.backends[own], over, "dial_refused");
        let just = over + Duration::from_millis(1);
        assert_eq!(place(just).0, Some(2), "{algorithm:?}: it has failed again");
        cluster.backends[own].succeeded();
        assert!(!cluster.backends[own].is_ejected(just), "{algorithm:?}");
        assert!(!cluster.backends[own].trust.begin_trial(just), "{algorithm:?}: there is nothing to try");
    }
    // Nobody but those who have it for themselves.
    let hashed = cluster(Algorithm::IpHash, 3);
    let other = (hashed.hashed(client) + 1) % 3;
    let before = Instant::now();
    hashed.failed(&hashed.backends[other], before, "dial_refused");
    let first = hashed.order(client, before + Ejection::default().hold).next(&hashed).unwrap().port;
    assert_eq!(first, hashed.backends[hashed.hashed(client)].port);
}

#[test]
fn a_successor_without_checks_trusts_everybody() {
    let first = cluster(Algorithm::RoundRobin, 2);
    is_down(&first, 0);
    let targets = first
        .backends
        .iter()
        .map(|backend| Target { max_connections: 7, ..Target::new(IpAddr::from([127, 0, 0, 1]), backend.port) });
    let forward = Forward::new(targets.collect());
    let next = Cluster::with_known("shop", &forward, first.backends());
    assert!(Arc::ptr_eq(&first.backends[0], &next.backends[0]));
    assert_eq!(ports(&next, "192.0.2.1").len(), 2);
    assert_eq!(next.backends[0].limit(), Some(7), "limits change at once");
}

#[test]
fn a_limit_is_never_exceeded() {
    let cluster = cluster(Algorithm::RoundRobin, 1);
    let backend = &cluster.backends[0];
    backend.set_limit(2);
    let held: Vec<_> = std::iter::from_fn(|| backend.count()).collect();
    assert_eq!((held.len(), backend.in_flight()), (2, 2));
    backend.set_limit(1);
    drop(held);
    assert_eq!(std::iter::from_fn(|| backend.count()).collect::<Vec<_>>().len(), 1);
    assert_eq!(backend.in_flight(), 0);
}
