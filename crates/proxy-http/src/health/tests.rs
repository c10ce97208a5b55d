use super::*;
use crate::{TlsBackends, TlsPorts, TlsShared};
use conn_tracker::RouteId;
use proxy_route::{Forward, PortRange, Protocol, Route, RouteTable, Settings, Target, TargetPort};
use proxy_tcp::Generation;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A backend whose behaviour can be changed.
struct Moody {
    port: u16,
    mood: Arc<AtomicU32>,
    asked: Arc<AtomicU32>,
    most_at_once: Arc<AtomicU32>,
}

const HANGS: u32 = 0;
const RESETS: u32 = 1;
const BABBLES: u32 = 2;

impl Moody {
    async fn new(mood: u32) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let [asked, now, most_at_once] = std::array::from_fn(|_| Arc::new(AtomicU32::new(0)));
        let mood = Arc::new(AtomicU32::new(mood));
        let shared = (Arc::clone(&mood), Arc::clone(&asked), now, Arc::clone(&most_at_once));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (mood, asked, now, most) = shared.clone();
                tokio::spawn(async move {
                    asked.fetch_add(1, Ordering::SeqCst);
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    serve(stream, mood.load(Ordering::SeqCst)).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { port, mood, asked, most_at_once }
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, mood: u32) {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
            return;
        }
    }
    let answer = match mood {
        RESETS => return stream.set_zero_linger().unwrap(),
        HANGS => {
            _ = stream.read_buf(&mut head).await;
            return;
        }
        BABBLES => "SSH-2.0-no\r\n\r\n".to_owned(),
        status => format!("HTTP/1.1 {status} Mood\r\ncontent-length: 2\r\n\r\nok"),
    };
    let good =
        head.starts_with(b"GET /up HTTP/1.1\r\n") && String::from_utf8_lossy(&head).contains("host: up.test\r\n");
    let answer = if good { answer } else { "HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n".to_owned() };
    _ = stream.write_all(answer.as_bytes()).await;
}

fn check() -> HealthCheck {
    HealthCheck {
        path: Some("/up".to_owned()),
        host: Some("up.test".to_owned()),
        interval: Duration::from_millis(20),
        timeout: Duration::from_millis(20),
        unhealthy_threshold: 2,
        healthy_threshold: 2,
    }
}

fn generation(before: Option<&HttpGeneration>, ports: &[u16], check: Option<HealthCheck>) -> HttpGeneration {
    let targets = ports.iter().map(|port| Target::new("127.0.0.1", TargetPort::Fixed(*port))).collect();
    let forward = Forward { health_check: check, ..Forward::new(targets) };
    let mut route = Route::new("shop", Action::Forward(Box::new(forward)));
    route.protocol = Protocol::Http;
    route.matching.ports = vec![PortRange::single(80)];
    let table = RouteTable::new([(RouteId::new(0).unwrap(), route)]).unwrap();
    let shared = TlsShared::new().unwrap();
    let backends = TlsBackends::new(&table, &shared).unwrap();
    let ports = TlsPorts::new(&Settings::default(), &table, &shared).unwrap();
    let generation = match before {
        None => Generation::new(Settings::default(), table),
        Some(before) => before.generation.successor(Settings::default(), table),
    };
    HttpGeneration::with_tls(Arc::new(generation), ports, backends)
}

fn backends(generation: &HttpGeneration) -> Vec<Arc<Backend>> {
    generation.generation.clusters[0].as_ref().unwrap().backends().to_vec()
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

#[tokio::test]
async fn each_way_to_be_ill_is_found_and_so_is_getting_well() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refuses = closed.local_addr().unwrap().port();
    drop(closed);
    let mut ill = Vec::new();
    for mood in [HANGS, RESETS, BABBLES, 404, 500, 503] {
        ill.push(Moody::new(mood).await);
    }
    let well = [Moody::new(200).await, Moody::new(204).await, Moody::new(302).await];
    let ports: Vec<_> = ill.iter().chain(&well).map(|one| one.port).chain([refuses]).collect();
    let generation = generation(None, &ports, Some(check()));
    let backends = backends(&generation);
    let (_reload, newest) = watch::channel(Arc::new(generation));
    tokio::spawn(check_health(newest));
    until("those that are ill are down", || backends[..6].iter().all(|backend| backend.checked.is_down())).await;
    until("who refuses is down", || backends[9].checked.is_down()).await;
    until("the others were asked", || well.iter().all(|one| one.asked() > 5)).await;
    assert!(backends[6..9].iter().all(|backend| !backend.checked.is_down()));
    for (backend, why) in
        backends.iter().zip(["no answer within", "reset", "invalid HTTP version", "404", "500", "503"])
    {
        let failure = backend.checked.failure().unwrap();
        assert!(failure.contains(why), "{failure:?} says not {why:?}");
    }
    for one in &ill {
        one.mood.store(200, Ordering::SeqCst);
    }
    until("they are up again", || backends[..6].iter().all(|backend| !backend.checked.is_down())).await;
    assert!(ill.iter().chain(&well).all(|one| one.most_at_once.load(Ordering::SeqCst) <= 2), "one check at a time");
}

#[tokio::test]
async fn a_reload_keeps_what_was_found_and_follows_new_targets() {
    let (old, new) = (Moody::new(500).await, Moody::new(500).await);
    let first = generation(None, &[old.port], Some(check()));
    let was = backends(&first).remove(0);
    let second = generation(Some(&first), &[new.port, old.port], Some(check()));
    let third = generation(Some(&second), &[new.port, old.port], None);
    let (reload, newest) = watch::channel(Arc::new(first));
    tokio::spawn(check_health(newest));
    until("it is down", || was.checked.is_down()).await;
    let now = backends(&second);
    assert!(Arc::ptr_eq(&now[1], &was));
    reload.send(Arc::new(second)).unwrap();
    until("the new one is down too", || now[0].checked.is_down()).await;
    assert!(was.checked.last().is_some());
    old.mood.store(200, Ordering::SeqCst);
    until("the old one is still asked", || !was.checked.is_down()).await;
    reload.send(Arc::new(third)).unwrap();
    until("nobody is asked any more", {
        let (asked, seen) = (Arc::clone(&new.asked), AtomicU32::new(0));
        let quiet = AtomicU32::new(0);
        move || {
            let now = asked.load(Ordering::SeqCst);
            let same = seen.swap(now, Ordering::SeqCst) == now;
            quiet.store(if same { quiet.load(Ordering::SeqCst) + 1 } else { 0 }, Ordering::SeqCst);
            quiet.load(Ordering::SeqCst) > 30
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_path_a_connection_is_enough() {
    let hangs = Moody::new(HANGS).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refuses = closed.local_addr().unwrap().port();
    drop(closed);
    let generation = generation(None, &[hangs.port, refuses], Some(HealthCheck { path: None, ..check() }));
    let backends = backends(&generation);
    let (_reload, newest) = watch::channel(Arc::new(generation));
    tokio::spawn(check_health(newest));
    until("who refuses is down", || backends[1].checked.is_down()).await;
    until("the other one was asked", || hangs.asked() > 3).await;
    assert!(!backends[0].checked.is_down());
}
