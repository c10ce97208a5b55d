//! A new configuration comes into force, and nobody notices who does not have to.

use crate::support::backend::Backend;
use crate::support::client::{hold_http, http1, in_time, tcp, tls};
use crate::support::ports::{free_port, local};
use crate::support::proxy::{Proxy, binary};
use crate::support::{admin, certs, eventually, on_eight_threads};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use rustix::process::Signal;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

fn free(port: u16, backend: &Backend, name: &str) -> String {
    format!(
        "  - name: {name}
    match: {{ ports: {port}, path: \"/*\" }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}] }}
",
        backend.port()
    )
}

fn config(limit: u32, routes: &str) -> String {
    format!("bind: [\"127.0.0.1\"]\nmaxConnectionsPerIP: {limit}\nconnectionRateLimitPerMinute: 0\nroutes:\n{routes}")
}

fn reloads(proxy: &Proxy) -> u64 {
    let (_, text) = admin::get(proxy.admin, "/api/v1/status");
    serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["reloads"].as_u64().expect("a count")
}

async fn fetch(sender: &mut SendRequest<crate::support::client::Body>, length: usize) {
    let empty = Empty::new().map_err(|never| match never {}).boxed();
    let request = Request::get(format!("/source/{length}")).header("host", "end.test").body(empty).expect("a request");
    sender.ready().await.expect("the connection is open");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert_eq!(response.into_body().collect().await.expect("a whole body").to_bytes().len(), length);
}

#[test]
fn twenty_reloads_under_load_fail_no_request() {
    on_eight_threads(async {
        let _alone = crate::support::alone().await;
        let (backend, port) = (Backend::http().await, free_port());
        let base = free(port, &backend, "web");
        let proxy = Proxy::start_with("workers: 2\n", &config(0, &base));
        let over = Arc::new(AtomicBool::new(false));
        let (requests, connects) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut clients = Vec::new();
        for _ in 0..64 {
            let (over, requests) = (Arc::clone(&over), Arc::clone(&requests));
            clients.push(tokio::spawn(async move {
                let mut sender = http1(tcp(local(port)).await.expect("accepted")).await;
                while !over.load(Ordering::SeqCst) {
                    fetch(&mut sender, 1000).await;
                    requests.fetch_add(1, Ordering::SeqCst);
                }
            }));
        }
        let arriving = {
            let (over, connects) = (Arc::clone(&over), Arc::clone(&connects));
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let mut sender = http1(tcp(local(port)).await.expect("accepted")).await;
                    fetch(&mut sender, 1000).await;
                    connects.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        // By work, not by time: each reload meets so many requests, on connections that are there and on new ones.
        let done = async |rounds: usize| {
            eventually(&format!("the work of {rounds} rounds"), Duration::from_secs(120), || {
                // A client that failed has ended.
                let failed = clients.iter().any(JoinHandle::is_finished) || arriving.is_finished();
                let done = (requests.load(Ordering::SeqCst), connects.load(Ordering::SeqCst));
                let enough = done.0 >= rounds * REQUESTS && done.1 >= rounds * CONNECTS;
                if failed || enough { Ok(()) } else { Err(format!("{done:?}")) }
            })
            .await;
        };
        for round in 0..20 {
            done(round).await;
            // Another limit, another order of routes, another port every time.
            let other = free(free_port(), &backend, &format!("other{round}"));
            let routes = if round % 2 == 0 { other + &base } else { base.clone() + &other };
            let text = config(1000 + u32::try_from(round).expect("small"), &routes);
            tokio::task::block_in_place(|| proxy.reload(&text));
        }
        done(20).await;
        over.store(true, Ordering::SeqCst);
        for client in clients {
            client.await.expect("no request failed");
        }
        arriving.await.expect("no request on a new connection failed");
        assert_eq!(reloads(&proxy), 20);
    });
}

/// What is done between two reloads: requests on old connections, and new connections with one each.
const REQUESTS: usize = 490;
const CONNECTS: usize = 10;

/// How many of `tries` further connections are let in; they are held.
async fn let_in(address: SocketAddr, tries: usize, held: &mut Vec<TcpStream>) -> usize {
    let mut count = 0;
    for _ in 0..tries {
        let Ok(stream) = tcp(address).await else { continue };
        if let Ok(stream) = in_time("a verdict", hold_http(stream, "a.test")).await {
            held.push(stream);
            count += 1;
        }
    }
    count
}

#[test]
fn pitfall_39_counts_are_kept_and_limits_change() {
    on_eight_threads(async {
        let (backend, port) = (Backend::http().await, free_port());
        let routes = free(port, &backend, "web");
        let proxy = Proxy::start(&config(100, &routes));
        let (address, mut held) = (local(port), Vec::new());
        assert_eq!(let_in(address, 105, &mut held).await, 100);
        proxy.reload(&config(110, &routes));
        assert_eq!(let_in(address, 30, &mut held).await, 10);
        proxy.reload(&config(50, &routes));
        assert_eq!(let_in(address, 5, &mut held).await, 0);
        held.truncate(50);
        eventually("fifty are gone", Duration::from_secs(10), || {
            let active = admin::active(proxy.admin, "global", None);
            if active == 50 { Ok(()) } else { Err(active.to_string()) }
        })
        .await;
        assert_eq!(let_in(address, 5, &mut held).await, 0, "fifty are as many as there may be");
        held.truncate(48);
        eventually("two more are gone", Duration::from_secs(10), || {
            let active = admin::active(proxy.admin, "global", None);
            if active == 48 { Ok(()) } else { Err(active.to_string()) }
        })
        .await;
        assert_eq!(let_in(address, 5, &mut held).await, 2);
    });
}

#[test]
fn ports_come_and_go() {
    on_eight_threads(async {
        let (backend, first, second) = (Backend::http().await, free_port(), free_port());
        let (one, two) = (free(first, &backend, "one"), free(second, &backend, "two"));
        let proxy = Proxy::start(&config(0, &one));
        assert!(tcp(local(second)).await.is_err());
        proxy.reload(&config(0, &(one.clone() + &two)));
        let mut held = hold_http(tcp(local(second)).await.expect("open"), "a.test").await.expect("served");
        let (_, status) = admin::get(proxy.admin, "/api/v1/status");
        assert!(status.contains(&local(second).to_string()), "{status}");
        proxy.reload(&config(0, &one));
        eventually("the port is closed", Duration::from_secs(10), || {
            std::net::TcpStream::connect(local(second)).err().map(drop).ok_or_else(|| "open".to_owned())
        })
        .await;
        let mut space = [0];
        let more =
            tokio::time::timeout(Duration::from_millis(300), tokio::io::AsyncReadExt::read(&mut held, &mut space));
        assert!(more.await.is_err(), "its connection goes on");
        assert!(tcp(local(first)).await.is_ok());

        // A port that cannot be opened changes nothing.
        let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let taken = taken.local_addr().map(|address| (taken, address.port())).expect("bound");
        proxy.write(&config(7, &(one.clone() + &free(taken.1, &backend, "taken"))));
        let (status, told) = admin::post(proxy.admin, "/api/v1/reload");
        assert_eq!(status, 422, "{told}");
        assert!(told.contains(&taken.1.to_string()), "{told}");
        assert_eq!(admin::scope(proxy.admin, "client", None)["limit"].as_u64().unwrap_or(0), 0);
    });
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    on_eight_threads(async {
        let (backend, port) = (Backend::http().await, free_port());
        let routes = free(port, &backend, "web");
        let proxy = Proxy::start(&config(5, &routes));
        proxy.write(
            &config(5, &routes).replace("forward", "frward").replace("maxConnectionsPerIP: 5", "maxConnections: x"),
        );
        let (status, told) = admin::post(proxy.admin, "/api/v1/reload");
        assert_eq!(status, 422);
        assert!(told.contains("frward") && told.contains("maxConnections"), "all mistakes at once: {told}");
        let command = |name: &str| {
            let admin = proxy.admin.to_string();
            let output = Command::new(binary()).args([name, "--admin", &admin]).output().expect("it runs");
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            (output.status.code(), text)
        };
        let (code, told) = command("reload");
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("frward"), "{told}");
        assert!(proxy.log().contains("frward"), "the log says it too: {}", proxy.log());
        assert!(hold_http(tcp(local(port)).await.expect("open"), "a.test").await.is_ok());

        // What needs a restart is listed, and a route under a new name is noticed.
        let renamed = free(port, &backend, "shop");
        proxy.write(&format!("ipv4PrefixLength: 24\nmaxTrackedClients: 5000\n{}", config(5, &renamed)));
        let (code, told) = command("reload");
        assert_eq!(code, Some(0), "{told}");
        for part in ["ipv4PrefixLength", "maxTrackedClients", "\"shop\"", "\"web\""] {
            assert!(told.contains(part), "{part}: {told}");
        }
        let (code, told) = command("status");
        assert!(code == Some(0) && told.contains("reloads: 1") && told.contains("readiness: ready"), "{told}");
        assert_eq!(command("drain").0, Some(0));
    });
}

#[test]
fn a_signal_and_a_saved_file_reload() {
    on_eight_threads(async {
        let (backend, port) = (Backend::http().await, free_port());
        let routes = free(port, &backend, "web");
        let reloaded = |proxy: &Proxy, count| match reloads(proxy) {
            now if now == count => Ok(()),
            now => Err(format!("{now}: {}", proxy.log())),
        };
        let proxy = Proxy::start(&config(5, &routes));
        proxy.write(&config(6, &routes));
        proxy.signal(Signal::HUP);
        eventually("it reloads", Duration::from_secs(10), || reloaded(&proxy, 1)).await;

        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" --watch"]).arg(binary());
        let proxy = Proxy::start_by(
            command,
            "workers: 1\n",
            &config(5, &routes.replace(&port.to_string(), &free_port().to_string())),
        );
        proxy.write(&config(6, &free(free_port(), &backend, "web")));
        eventually("it notices", Duration::from_secs(10), || reloaded(&proxy, 1)).await;
    });
}

#[test]
fn a_certificate_that_changes_on_disk_is_served() {
    on_eight_threads(async {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let other = rcgen::generate_simple_self_signed(vec!["end.test".to_owned()]).expect("a certificate");
        std::fs::write(path("chain.pem"), other.cert.pem()).expect("written");
        std::fs::write(path("key.pem"), other.signing_key.serialize_pem()).expect("written");
        let (backend, port) = (Backend::http().await, free_port());
        let text = format!(
            "bind: [\"127.0.0.1\"]
routes:
  - name: end
    match: {{ ports: {port}, domains: [end.test] }}
    action:
      type: forward
      targets: [{{ host: 127.0.0.1, port: {} }}]
      tls: {{ mode: terminate, certificate: {{ certFile: {:?}, keyFile: {:?} }} }}
",
            backend.port(),
            path("chain.pem"),
            path("key.pem"),
        );
        let proxy = Proxy::start(&text);
        // Clients trust the tests' own certificate only.
        assert!(tls(tcp(local(port)).await.expect("open"), "end.test", &["http/1.1"]).await.is_err());
        std::fs::write(path("chain.pem"), &certs::identity().chain_pem).expect("written");
        std::fs::write(path("key.pem"), &certs::identity().key_pem).expect("written");
        let deadline = Instant::now() + Duration::from_secs(15);
        let stream = loop {
            match tls(tcp(local(port)).await.expect("open"), "end.test", &["http/1.1"]).await {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "{error}: {}", proxy.log()),
            }
            // How often it looks.
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let mut sender = http1(stream).await;
        fetch(&mut sender, 100).await;
        // A key that does not fit keeps the former pair, and connections that are open.
        std::fs::write(path("key.pem"), other.signing_key.serialize_pem()).expect("written");
        eventually("it is said", Duration::from_secs(15), || {
            if proxy.log().contains("former ones stay") { Ok(()) } else { Err(proxy.log()) }
        })
        .await;
        fetch(&mut sender, 100).await;
        tls(tcp(local(port)).await.expect("open"), "end.test", &["http/1.1"]).await.expect("the former pair");
        // And a pair that fits is for new handshakes alone: who is there stays.
        std::fs::write(path("chain.pem"), other.cert.pem()).expect("written");
        let deadline = Instant::now() + Duration::from_secs(15);
        while tls(tcp(local(port)).await.expect("open"), "end.test", &["http/1.1"]).await.is_ok() {
            assert!(Instant::now() < deadline, "{}", proxy.log());
            fetch(&mut sender, 100).await;
            // How often it looks.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        fetch(&mut sender, 100).await;
    });
}
