//! In which order a worker reads, writes and accepts, by its system calls.

use crate::support::backend::Backend;
use crate::support::client::{self, in_time, tcp};
use crate::support::http::Http;
use crate::support::on_eight_threads;
use crate::support::strace::Traced;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Connections whose requests are passed on.
const SERVED: usize = 8;
/// Connections that queue up to be refused.
const QUEUED: usize = 512;
/// So many requests at least have to be passed on beside them, a few percent of what is usual.
const ENOUGH: usize = 8;

/// Has one request after the other come over kept connections while the worker accepts out of a queue.
async fn ask_beside_a_queue() {
    let backend = Backend::http().await;
    let Some((traced, address)) = Traced::limited(SERVED, &backend) else { return };
    let mut served = Vec::new();
    for _ in 0..SERVED {
        served.push(Http::One(client::http1(tcp(address).await.expect("accepted")).await));
    }
    // They dial the backend.
    assert_eq!(join_all(served.iter_mut().map(|http| http.status("/sink", &[]))).await, [200; SERVED]);

    traced.stop();
    let mut queue = Vec::new();
    for _ in 0..QUEUED {
        queue.push(tcp(address).await.expect("the kernel shakes hands"));
    }
    traced.go_on();
    let mut queue = queue.into_iter();
    // The worker is woken for the first one as it is for a request. Only from there on accepts have their turns.
    is_refused(queue.next().expect("there are some")).await;
    let before = traced.lines().len();
    let asked = join_all(served.iter_mut().enumerate().map(|(first, http)| async move {
        for path in (first..).step_by(SERVED).map(|number| format!("/sink/{number}")) {
            assert_eq!(http.status(&path, &[]).await, 200);
        }
    }));
    let refused = async {
        for client in queue {
            is_refused(client).await;
        }
    };
    tokio::select! {
        _ = asked => {}
        () = refused => {}
    }
    let passed_on = PassedOn::in_calls(&traced.lines().split_off(before));
    assert!(passed_on.at_once >= ENOUGH, "{passed_on:?} are too few to tell");
    assert_eq!(passed_on.behind_an_accept, 0, "{passed_on:?}");
}

async fn is_refused(mut client: TcpStream) {
    // An end or a reset.
    assert_eq!(in_time("the end", client.read(&mut [0])).await.unwrap_or(0), 0);
}

/// Requests that were read, and written to the backend before the worker looked for events again.
#[derive(Debug, Default)]
struct PassedOn {
    at_once: usize,
    /// Those of them with an accept in between.
    behind_an_accept: usize,
}

impl PassedOn {
    fn in_calls(lines: &[String]) -> Self {
        let mut passed_on = Self::default();
        // By the number of a request, how many connections had been accepted when it was read.
        let (mut read, mut accepted) = (BTreeMap::new(), 0);
        for line in lines {
            let name = line.trim_start_matches("<... ").split(['(', ' ']).next().unwrap_or_default();
            let request = line.split_once("\"GET /sink/").and_then(|(_, rest)| rest.split(' ').next());
            match (name, request) {
                ("epoll_wait", _) => read.clear(),
                ("accept4", _) if line.contains(" = ") => accepted += 1,
                ("recvfrom", Some(request)) => _ = read.insert(request, accepted),
                (_, Some(request)) => {
                    if let Some(then) = read.remove(request) {
                        passed_on.at_once += 1;
                        passed_on.behind_an_accept += usize::from(then < accepted);
                    }
                }
                _ => {}
            }
        }
        passed_on
    }
}

#[test]
fn who_has_read_a_request_passes_it_on_ahead_of_the_next_accept() {
    on_eight_threads(ask_beside_a_queue());
}
