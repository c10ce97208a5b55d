//! What a flood from one address does to a client at another one.

use super::{
    super::{
        Bench,
        load::{self, Load, Pace},
        peers::{Listener, Started},
        proc,
        stats::Sample,
    },
    Outcome,
    work::WARM_UP,
};
use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

/// The bystander's 99th percentile in milliseconds; the rate is that of the flood.
pub(super) fn sample(listener: Listener, pace: Pace, proxy: &Started, bench: &Bench) -> Outcome<Sample> {
    let port = proxy.port(listener);
    let mut at_once = vec![load::first_in_line(bench.backend.thread())];
    // What else the machine does on the proxy's core is not to be waited for. But the kernel stops a real-time thread that
    // never sleeps, as some do where each of the flood has a handshake.
    if !listener.terminates() || pace.is_some() {
        at_once.extend(proc::threads(proxy.pid()).into_iter().map(load::first_in_line));
    }
    let flood = Box::new(load::flood(listener, port, pace));
    thread::sleep(WARM_UP);
    let (before, start) = (flood.units(), Instant::now());
    let bystander = Box::new(load::paced(BYSTANDER, listener, port, interval(listener)));
    thread::sleep(bench.options.window);
    let refused = (flood.units() - before) as f64 / start.elapsed().as_secs_f64();
    let latency = bystander.finish().map_err(|error| format!("the bystander was not served: {error}"))?;
    flood.finish()?;
    let latency = latency.ok_or("the bystander was never served.")?;
    Ok(Sample { cost: latency.p99.as_secs_f64() * 1e3, rate: Some(refused), latency: Some(latency) })
}

const BYSTANDER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// How often it asks: often, so that the 99th percentile is not one or two answers, but a handshake takes both sides a
/// millisecond.
fn interval(listener: Listener) -> Duration {
    Duration::from_millis(if listener.terminates() { 5 } else { 2 })
}
