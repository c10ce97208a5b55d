//! What a flood from one address does to clients at others.

use super::{
    super::{
        Bench,
        load::{self, Load, Pace},
        peers::{Listener, Started},
        stats::Sample,
    },
    Outcome,
    work::WARM_UP,
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// The bystanders' 99th percentile in milliseconds; the rate is that of the flood.
pub(super) fn sample(listener: Listener, pace: Pace, proxy: &Started, bench: &Bench) -> Outcome<Sample> {
    let port = proxy.port(listener);
    let _at_once = load::first_in_line(bench.backend.thread());
    let flood = Box::new(load::flood(listener, port, pace));
    thread::sleep(WARM_UP);
    let (before, start) = (flood.units(), Instant::now());
    let bystanders = if listener.terminates() { 1 } else { BYSTANDERS };
    let bystanders = Box::new(load::paced(bystanders, listener, port, INTERVAL));
    thread::sleep(bench.options.window);
    let refused = (flood.units() - before) as f64 / start.elapsed().as_secs_f64();
    let latency = bystanders.finish().map_err(|error| format!("a bystander was not served: {error}"))?;
    flood.finish()?;
    let latency = latency.ok_or("no bystander was ever served.")?;
    Ok(Sample { cost: latency.p99.as_secs_f64() * 1e3, rate: Some(refused), latency: Some(latency) })
}

/// One of them has two latencies a second beyond its 99th percentile, which therefore varies by much; more of them vary less.
/// Where each has a handshake there is one: theirs would soon be the work that is measured.
const BYSTANDERS: u8 = 4;
const INTERVAL: Duration = Duration::from_millis(5);
