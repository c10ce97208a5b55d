//! Names of backends whose addresses change.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use conn_tracker::RouteId;
use proxy_route::{Action, Forward, Route, RouteTable, Settings, Target, TargetPort};
use proxy_tcp::{Backend, Generation, Timers, keep_resolved};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

const LONG: Option<Duration> = Some(Duration::from_secs(10));

fn ip(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

/// Listeners on one port of several loopback addresses.
async fn listeners(lasts: &[u8]) -> (Vec<TcpListener>, u16) {
    let mut port = 0;
    let mut all = Vec::new();
    for last in lasts {
        let listener = TcpListener::bind(SocketAddr::new(ip(*last), port)).await.expect("loopback has free ports");
        port = listener.local_addr().expect("it is bound").port();
        all.push(listener);
    }
    (all, port)
}

fn generation(names: &[&str], port: u16, refresh: Duration) -> (Arc<Generation>, Vec<Arc<Backend>>) {
    let targets = names.iter().map(|name| Target::new(*name, TargetPort::Fixed(port))).collect();
    let route = Route::new("shop", Action::Forward(Box::new(Forward::new(targets))));
    let table = RouteTable::new([(RouteId::new(0).unwrap(), route)]).unwrap();
    let settings = Settings { dns_refresh: Some(refresh), ..Settings::default() };
    let generation = Generation::new(settings, table);
    let backends = generation.clusters[0].as_ref().unwrap().backends().to_vec();
    (Arc::new(generation), backends)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not in ten seconds: {what}");
}

async fn dialled(backend: &Backend) -> IpAddr {
    backend.dial(&Timers::new(), 80, LONG).await.unwrap().peer_addr().unwrap().ip()
}

#[tokio::test]
async fn addresses_follow_the_name_and_stay_while_it_is_not_found() {
    let (_listeners, port) = listeners(&[2, 3]).await;
    let (generation, backends) = generation(&["app.test", "app.test"], port, Duration::from_millis(10));
    let backend = &backends[0];
    let answer = Arc::new(Mutex::new(Ok(vec![ip(2)])));
    let asked = Arc::new(AtomicUsize::new(0));
    let lookup = {
        let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
        move |name: String| {
            assert_eq!(name, "app.test");
            asked.fetch_add(1, Ordering::SeqCst);
            let answer = answer.lock().unwrap().as_ref().cloned().map_err(|kind: &io::ErrorKind| (*kind).into());
            async move { answer }
        }
    };
    let (_reload, newest) = watch::channel(generation);
    tokio::spawn(keep_resolved(newest, lookup));
    until("the name is known", || backend.addresses() == [ip(2)]).await;
    assert_eq!(dialled(backend).await, ip(2));

    *answer.lock().unwrap() = Ok(vec![ip(2), ip(3)]);
    until("it has two addresses", || backends.iter().all(|backend| backend.addresses().len() == 2)).await;
    assert_eq!(backend.departures(), 0);
    let used = BTreeSet::from([dialled(backend).await, dialled(backend).await]);
    assert_eq!(used.len(), 2, "both are used");

    for wrong in [Err(io::ErrorKind::TimedOut), Ok(vec![])] {
        *answer.lock().unwrap() = wrong;
        let before = asked.load(Ordering::SeqCst);
        until("it was asked again", || asked.load(Ordering::SeqCst) > before + 2).await;
        assert_eq!(backend.addresses().len(), 2, "the last good ones");
    }

    *answer.lock().unwrap() = Ok(vec![ip(3)]);
    until("one has gone", || backend.addresses() == [ip(3)]).await;
    assert_eq!((backend.departures(), dialled(backend).await), (1, ip(3)));
}

#[tokio::test]
async fn an_address_that_does_not_answer_gives_way_to_the_next() {
    let (_listeners, port) = listeners(&[3]).await;
    let (generation, backends) = generation(&["app.test"], port, Duration::from_secs(3600));
    let (_reload, newest) = watch::channel(generation);
    // Nobody listens on the first one.
    tokio::spawn(keep_resolved(newest, |_| async { Ok(vec![ip(2), ip(3)]) }));
    until("the name is known", || backends[0].addresses().len() == 2).await;
    for _ in 0..4 {
        assert_eq!(dialled(&backends[0]).await, ip(3));
    }
}

#[tokio::test]
async fn many_names_are_asked_for_a_few_at_a_time() {
    let names: Vec<_> = (0..100).map(|index| format!("n{index}.test")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let (generation, backends) = generation(&names, 80, Duration::from_secs(3600));
    let (_reload, newest) = watch::channel(generation);
    let [now, most] = std::array::from_fn(|_| Arc::new(AtomicUsize::new(0)));
    let lookup = {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        move |_| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let now = Arc::clone(&now);
            async move {
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(vec![ip(2)])
            }
        }
    };
    tokio::spawn(keep_resolved(newest, lookup));
    until("all are known", || backends.iter().all(|backend| backend.addresses() == [ip(2)])).await;
    let most = most.load(Ordering::SeqCst);
    assert!((2..=16).contains(&most), "{most} at one time");
}

#[tokio::test]
async fn a_name_that_nobody_keeps_resolved_is_looked_up_by_who_dials() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_generation, backends) =
        generation(&["localhost"], listener.local_addr().unwrap().port(), Duration::from_secs(3600));
    let timers = Timers::new();
    let (one, other) = tokio::join!(backends[0].dial(&timers, 80, LONG), backends[0].dial(&timers, 80, LONG));
    assert!(one.is_ok() && other.is_ok());
    assert!(backends[0].addresses().contains(&ip(1)));
}
