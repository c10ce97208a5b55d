//! What a second worker costs.

use super::{
    super::{
        Bench,
        peers::{Listener, Proxy, Setup},
        scenarios::Work,
        stats::Sample,
    },
    LOAD_CORE, Outcome, PROXY_CORE, start, work,
};

/// CPU time per request with two workers, in that with one; the rate is that of two.
///
/// Both run on all cores, beside the load, so that nothing but the number of workers differs.
pub(super) fn sample(proxy: &dyn Proxy, bench: &Bench) -> Outcome<Sample> {
    let with = |workers| {
        let mut setup = Setup::new(bench.folder(), &[Listener::Http], bench.backend.port())?;
        setup.workers = workers;
        let running = start(proxy, setup, &[LOAD_CORE, PROXY_CORE])?;
        work::sample(Work::Http1(Listener::Http), &running, bench)
    };
    let (one, two) = (with(1)?, with(2)?);
    Ok(Sample { cost: two.cost / one.cost, ..two })
}
