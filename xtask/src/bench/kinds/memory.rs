//! Resident memory, of a process that has just been started each time.

use super::{
    super::{
        Bench,
        client::{Client, KEPT, LAST, hello, reset_on_close},
        h2,
        peers::{Listener, Proxy, Setup, Started},
        proc,
        stats::Sample,
    },
    Outcome, PROXY_CORE, start, start_one,
};
use std::{
    io::{self, Read, Write},
    net::Ipv4Addr,
    ops::Range,
    thread,
    time::Duration,
};

/// Bytes per connection, one second after the last byte on the last one.
pub(super) fn idle(listener: Listener, proxy: &dyn Proxy, bench: &Bench) -> Outcome<Sample> {
    let running = start_one(proxy, bench, listener)?;
    let before = warm(&running, listener)?;
    let held = open(&running, listener, IDLE)?;
    thread::sleep(SETTLED);
    let after = proc::resident(running.pid())?;
    drop(held);
    Ok(Sample::cost((after as f64 - before as f64) / IDLE as f64))
}

/// Megabytes above the start, two seconds after the last close.
pub(super) fn closed(listener: Listener, proxy: &dyn Proxy, bench: &Bench) -> Outcome<Sample> {
    let running = start_one(proxy, bench, listener)?;
    let before = warm(&running, listener)?;
    for _ in 0..CLOSED / AT_ONCE {
        drop(open(&running, listener, AT_ONCE)?);
        thread::sleep(SETTLED);
    }
    thread::sleep(SETTLED);
    let after = proc::resident(running.pid())?;
    Ok(Sample::cost((after as f64 - before as f64) / 1e6))
}

/// Bytes per address from which one request has come.
pub(super) fn clients(proxy: &dyn Proxy, bench: &Bench) -> Outcome<Sample> {
    let mut setup = Setup::new(bench.folder(), &[Listener::Http], bench.backend.port())?;
    // Slow enough that nobody recovers, and so is forgotten, before all have been here.
    setup.client_rate = 1;
    let running = start(proxy, setup, &[PROXY_CORE])?;
    let port = running.port(Listener::Http);
    let visits = |clients: Range<u32>| {
        clients.into_iter().try_for_each(|client| {
            let [_, high, middle, low] = (client + 1).to_be_bytes();
            let visited = visit(Ipv4Addr::new(127, 1 + high, middle, low), port);
            visited.map_err(|error| format!("client {client} failed: {error}."))
        })
    };
    visits(CLIENTS..CLIENTS + WARM as u32)?;
    thread::sleep(SETTLED);
    let before = proc::resident(running.pid())?;
    visits(0..CLIENTS)?;
    thread::sleep(SETTLED);
    let after = proc::resident(running.pid())?;
    Ok(Sample::cost((after as f64 - before as f64) / f64::from(CLIENTS)))
}

fn visit(from: Ipv4Addr, port: u16) -> io::Result<()> {
    let mut client = Client::connect(from, Listener::Http, port)?;
    reset_on_close(client.socket())?;
    match client.ask(LAST)?.status {
        200 => client.until_closed(),
        status => Err(io::Error::other(format!("answered with {status}"))),
    }
}

/// Has code and first buffers loaded; the memory after that.
fn warm(running: &Started, listener: Listener) -> Outcome<u64> {
    drop(open(running, listener, WARM)?);
    thread::sleep(SETTLED);
    proc::resident(running.pid())
}

/// Connections over which something has been asked and answered.
fn open(running: &Started, listener: Listener, count: usize) -> Outcome<Vec<Client>> {
    let port = running.port(listener);
    let open = |number| open_one(listener, port).map_err(|error| format!("connection {number} failed: {error}."));
    (0..count).map(open).collect()
}

fn open_one(listener: Listener, port: u16) -> io::Result<Client> {
    let mut client = Client::connect(Ipv4Addr::LOCALHOST, listener, port)?;
    match listener {
        Listener::H2 => h2::ask(&mut client)?,
        Listener::Sni | Listener::Tcp => {
            client.write_all(&hello()?)?;
            client.read_exact(&mut [0])?;
        }
        Listener::Http | Listener::Tls => match client.ask(KEPT)?.status {
            200 => {}
            status => return Err(io::Error::other(format!("answered with {status}"))),
        },
    }
    Ok(client)
}

const IDLE: usize = 2000;
const CLOSED: usize = 10_000;
const AT_ONCE: usize = 5000;
const CLIENTS: u32 = 100_000;
const WARM: usize = 64;
const SETTLED: Duration = Duration::from_secs(1);
