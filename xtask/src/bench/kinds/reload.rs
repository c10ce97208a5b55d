//! What a reload does to counts and to requests.

use super::{
    super::{
        Bench,
        client::{Client, KEPT, LAST},
        load::{Crowd, Load},
        peers::{Listener, Proxy, Setup},
        stats::Sample,
    },
    Outcome, PROXY_CORE, start,
};
use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How many connections more are admitted when the limit is raised.
pub(super) fn raised(proxy: &dyn Proxy, bench: &Bench) -> Outcome<Sample> {
    let mut setup = Setup::new(bench.folder(), &[Listener::Tcp], bench.backend.port())?;
    (setup.client_limit, setup.reloads) = (LIMIT, true);
    let mut running = start(proxy, setup, &[PROXY_CORE])?;
    let port = running.port(Listener::Tcp);
    // The connection that looked whether it listens may still be counted.
    let mut held = Vec::new();
    let begin = Instant::now();
    while held.len() < LIMIT {
        held.extend(admitted(port));
        if begin.elapsed() > PATIENCE {
            return Err(format!("it admitted {} of {LIMIT} connections.", held.len()));
        }
    }
    if admitted(port).is_some() {
        return Err(format!("it admitted more than its limit of {LIMIT}."));
    }
    running.reload(proxy, |setup| setup.client_limit = RAISED)?;
    thread::sleep(RELOADED);
    let more: Vec<Client> = (0..TRIED).filter_map(|_| admitted(port)).collect();
    Ok(Sample::cost(more.len() as f64))
}

/// A connection that is answered, and stays open.
fn admitted(port: u16) -> Option<Client> {
    let mut client = Client::connect(Ipv4Addr::LOCALHOST, Listener::Tcp, port).ok()?;
    client.ask(KEPT).ok()?;
    Some(client)
}

/// Requests that failed during [`RELOADS`] reloads; the rate is that of all requests.
pub(super) fn again_and_again(proxy: &dyn Proxy, bench: &Bench) -> Outcome<Sample> {
    let mut setup = Setup::new(bench.folder(), &[Listener::Http], bench.backend.port())?;
    setup.reloads = true;
    let mut running = start(proxy, setup, &[PROXY_CORE])?;
    let port = running.port(Listener::Http);
    let failed = Arc::new(AtomicU64::new(0));
    let count = failed.clone();
    let kept = Crowd::start(CLIENTS, move |member| {
        let mut client = None;
        while member.goes_on() {
            member.did(1);
            client = match keep(client, port) {
                Ok(client) => client,
                Err(_) => {
                    // Relaxed: a count that is read when all have ended.
                    count.fetch_add(1, Ordering::Relaxed);
                    None
                }
            };
        }
        Ok(())
    });
    let count = failed.clone();
    let new = Crowd::start(CLIENTS, move |member| {
        while member.goes_on() {
            member.did(1);
            let asked = Client::connect(Ipv4Addr::LOCALHOST, Listener::Http, port)
                .and_then(|mut client| expect(&mut client, LAST));
            if asked.is_err() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    });
    let begin = Instant::now();
    let requests = || kept.units() + new.units();
    for reload in 0..RELOADS {
        running.reload(proxy, |setup| setup.client_limit -= 1 + reload % 2)?;
        thread::sleep(BETWEEN);
        // However fast the machine is, every reload meets its share of the requests.
        let reloaded = Instant::now();
        while requests() < (reload as u64 + 1) * REQUESTS_EACH {
            if reloaded.elapsed() > PATIENCE {
                return Err(format!("{} requests during {} reloads are too few.", requests(), reload + 1));
            }
            thread::sleep(LOOK);
        }
    }
    let rate = requests() as f64 / begin.elapsed().as_secs_f64();
    Box::new(kept).finish()?;
    Box::new(new).finish()?;
    Ok(Sample { cost: failed.load(Ordering::Relaxed) as f64, rate: Some(rate), latency: None })
}

/// Asks over a connection that may be kept from before; what is left of it.
fn keep(client: Option<Client>, port: u16) -> io::Result<Option<Client>> {
    let mut client = client.map_or_else(|| Client::connect(Ipv4Addr::LOCALHOST, Listener::Http, port), Ok)?;
    let closes = expect(&mut client, KEPT)?;
    Ok((!closes).then_some(client))
}

fn expect(client: &mut Client, request: &[u8]) -> io::Result<bool> {
    let answer = client.ask(request)?;
    match answer.status {
        200 => Ok(answer.closes),
        status => Err(io::Error::other(format!("answered with {status}"))),
    }
}

const LIMIT: usize = 100;
const RAISED: usize = 110;
/// Connections tried after the reload: enough to see counts that were forgotten.
const TRIED: usize = 150;
/// Every proxy has taken its new configuration by then.
const RELOADED: Duration = Duration::from_secs(2);
const RELOADS: usize = 20;
const BETWEEN: Duration = Duration::from_millis(300);
const CLIENTS: usize = 4;
/// Requests per reload, so that all of them meet 50,000.
const REQUESTS_EACH: u64 = 50_000 / RELOADS as u64;
const LOOK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(10);
