//! CPU time per unit of work.

use super::{
    super::{
        Bench,
        load::{self, LIMIT},
        peers::{Setup, Started},
        proc,
        scenarios::Work,
        stats::Sample,
    },
    Outcome,
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// What a proxy is set up as.
pub(super) fn setup(work: Work, bench: &Bench) -> Outcome<Setup> {
    let backend = if work == Work::Bulk { bench.source } else { bench.backend.port() };
    let mut setup = Setup::new(bench.folder(), &[work.listener()], backend)?;
    if matches!(work, Work::Refused(_) | Work::Shed) {
        setup.client_limit = LIMIT;
    }
    setup.sheds = work == Work::Shed;
    Ok(setup)
}

/// Loads a proxy for a while, and looks at its CPU time and at the work done at both ends of the window.
pub(super) fn sample(work: Work, proxy: &Started, bench: &Bench) -> Outcome<Sample> {
    let load = load::start(work, proxy, bench, WARM_UP + bench.options.window)?;
    thread::sleep(WARM_UP);
    let before = (proc::cpu(proxy.pid())?, load.units());
    let start = Instant::now();
    thread::sleep(bench.options.window);
    let (after, wall) = ((proc::cpu(proxy.pid())?, load.units()), start.elapsed());
    let latency = load.finish()?;
    let (cpu, units) = (after.0.saturating_sub(before.0), after.1 - before.1);
    if units == 0 {
        return Err("no work was done.".to_owned());
    }
    let (scale, price) = scale(work);
    let units = units as f64 / scale;
    Ok(Sample { cost: cpu.as_secs_f64() * price / units, rate: Some(units / wall.as_secs_f64()), latency })
}

/// How much the load counts as one unit, and what a second of CPU time is in the table.
fn scale(work: Work) -> (f64, f64) {
    match work {
        Work::Bulk => (1e9, 1.0),
        _ => (1.0, 1e6),
    }
}

/// Connections are open, handshakes are done and caches are warm after that.
pub(super) const WARM_UP: Duration = Duration::from_millis(500);
