//! Load that runs beside the measurement: each kind counts its work and knows what must not happen.

use super::{Bench, peers::Started, scenarios::Work, stats::Quantiles};
use crate::Outcome;
use std::time::Duration;

mod bulk;
mod crowd;
mod each;
mod h2load;
mod knock;
mod priority;
mod shed;
mod wrk;

pub(crate) use bulk::source;
pub(crate) use crowd::Crowd;
pub(crate) use each::paced;
pub(crate) use knock::{Pace, fill, start as flood};
pub(crate) use priority::{Thread, first_in_line, this_thread};

/// Load that has begun. It ends when it drops, at the latest.
pub(crate) trait Load {
    /// Units of work done so far; read it twice and take the difference.
    fn units(&self) -> u64;

    /// Ends the load; an error if anything but the wanted answer was seen, for then the figures mean nothing.
    fn finish(self: Box<Self>) -> Outcome<Option<Quantiles>>;
}

/// Begins a kind of load on a proxy, for at least as long as `duration`.
pub(crate) fn start(work: Work, proxy: &Started, bench: &Bench, duration: Duration) -> Outcome<Box<dyn Load>> {
    let port = |listener| proxy.port(listener);
    Ok(match work {
        Work::Http1(listener) => Box::new(wrk::Wrk::start(listener, port(listener), bench, duration)?),
        Work::Http2 => Box::new(h2load::H2load::start(port(work.listener()), bench, duration)?),
        Work::Bulk => Box::new(bulk::start(port(work.listener()))),
        Work::Each(listener) => Box::new(each::start(listener, port(listener))),
        Work::Shed => Box::new(shed::start(port(work.listener()))),
        Work::Refused(listener) => Box::new(flood(listener, port(listener), None)),
    })
}

/// Connections that a client may have where it is to be refused.
pub(crate) const LIMIT: usize = 8;
