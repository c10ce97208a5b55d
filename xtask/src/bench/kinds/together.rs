//! Whether routes of different kinds count a client once.

use super::{
    super::{
        Bench,
        client::{Client, KEPT},
        peers::{Listener, Proxy, Setup},
        stats::Sample,
    },
    Outcome, PROXY_CORE, start,
};
use std::{net::Ipv4Addr, thread, time::Duration};

/// How many connections one client has on both routes, taken in turns, when no more are admitted.
pub(super) fn sample(proxy: &dyn Proxy, bench: &Bench) -> Outcome<Sample> {
    let mut setup = Setup::new(bench.folder(), &[Listener::Tcp, Listener::Tls], bench.backend.port())?;
    setup.client_limit = LIMIT;
    let running = start(proxy, setup, &[PROXY_CORE])?;
    // The connections that looked whether it listens are forgotten.
    thread::sleep(Duration::from_millis(500));
    let mut held = Vec::new();
    for _ in 0..TRIED {
        for listener in [Listener::Tcp, Listener::Tls] {
            held.extend(admitted(listener, running.port(listener)));
        }
    }
    Ok(Sample::cost(held.len() as f64))
}

/// A connection over which a request is answered with success, and which stays open.
fn admitted(listener: Listener, port: u16) -> Option<Client> {
    let mut client = Client::connect(Ipv4Addr::LOCALHOST, listener, port).ok()?;
    (client.ask(KEPT).ok()?.status == 200).then_some(client)
}

const LIMIT: usize = 100;
/// On each of the routes.
const TRIED: usize = 150;
