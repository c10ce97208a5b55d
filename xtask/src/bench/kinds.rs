//! How each kind of scenario is measured: one round of one proxy is one sample.

use super::{
    Bench,
    client::Client,
    load::{self, LIMIT},
    peers::{Listener, Proxy, Setup, Started},
    proc,
    report::Line,
    scenarios::{Kind, Scenario, Work},
    stats::Sample,
};
use crate::Outcome;

mod bystander;
mod memory;
mod reload;
mod together;
mod work;
mod workers;

/// One line per proxy, in their order, each with one sample per round, or with the reason why there is none.
///
/// Rounds are interleaved, A B C A B C, so that a machine that grows slower or noisier touches all alike.
pub(crate) fn measure(scenario: &Scenario, proxies: &[Box<dyn Proxy>], bench: &Bench) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut contenders = Vec::new();
    for proxy in proxies {
        let lacking = scenario.needs.iter().find(|need| !proxy.can(**need));
        let contender = match lacking {
            Some(need) => Err(need.lacking().to_owned()),
            None => Contender::new(scenario, proxy.as_ref(), bench).map(Some),
        };
        let mut line = Line::new(proxy.name());
        contenders.push(contender.unwrap_or_else(|error| {
            println!("  {:<10} takes no part: {error}", proxy.name());
            line.failure = Some(error);
            None
        }));
        lines.push(line);
    }
    for round in 1..=rounds(&scenario.kind, bench) {
        for (place, line) in contenders.iter_mut().zip(&mut lines) {
            let Some(contender) = place else { continue };
            match contender.sample(scenario, bench) {
                Ok(sample) => {
                    println!("  round {round} {:<10} {}", line.proxy, sample.describe(scenario));
                    line.samples.push(sample);
                }
                // Its earlier rounds are no better than this one.
                Err(error) => {
                    println!("  round {round} {:<10} failed: {error}", line.proxy);
                    line.failure = Some(format!("failed: {}", error.lines().next().unwrap_or_default()));
                    line.samples.clear();
                    *place = None;
                }
            }
        }
    }
    lines
}

/// Has a proxy do the work of a scenario once, if there is any, and end as an operator ends it.
pub(crate) fn exercise(scenario: &Scenario, proxy: &dyn Proxy, bench: &Bench) -> Outcome {
    if !matches!(scenario.kind, Kind::Work(_)) {
        return Ok(());
    }
    println!("  {}", scenario.name);
    let mut contender = Contender::new(scenario, proxy, bench)?;
    contender.sample(scenario, bench)?;
    contender.running.as_mut().map_or(Ok(()), Started::drain)
}

/// A proxy in a scenario.
struct Contender<'a> {
    proxy: &'a dyn Proxy,
    /// It runs through all rounds where starting it is no part of what is measured.
    running: Option<Started>,
    /// What makes a client full that is to be refused, in all rounds: not every proxy notices soon that a client has
    /// gone whose request was under way.
    _held: Vec<Client>,
}

impl<'a> Contender<'a> {
    fn new(scenario: &Scenario, proxy: &'a dyn Proxy, bench: &Bench) -> Outcome<Self> {
        let work = match scenario.kind {
            Kind::Work(work) => Some(work),
            Kind::Bystander(listener, _) => Some(Work::Refused(listener)),
            _ => None,
        };
        let running = work.map(|work| start(proxy, work::setup(work, bench)?, &[PROXY_CORE])).transpose()?;
        let held = match (work, &running) {
            (Some(work @ (Work::Refused(_) | Work::Shed)), Some(running)) => {
                load::fill(work.listener(), running.port(work.listener()), LIMIT)?
            }
            _ => Vec::new(),
        };
        Ok(Self { proxy, running, _held: held })
    }

    fn sample(&mut self, scenario: &Scenario, bench: &Bench) -> Outcome<Sample> {
        let (proxy, running) = (self.proxy, self.running.as_ref());
        match (&scenario.kind, running) {
            (Kind::Work(work), Some(running)) => work::sample(*work, running, bench),
            (Kind::Bystander(listener, pace), Some(running)) => bystander::sample(*listener, *pace, running, bench),
            (Kind::Idle(listener), _) => memory::idle(*listener, proxy, bench),
            (Kind::Closed(listener), _) => memory::closed(*listener, proxy, bench),
            (Kind::Clients, _) => memory::clients(proxy, bench),
            (Kind::RaisedLimit, _) => reload::raised(proxy, bench),
            (Kind::Reloads, _) => reload::again_and_again(proxy, bench),
            (Kind::Workers, _) => workers::sample(proxy, bench),
            (Kind::Together, _) => together::sample(proxy, bench),
            (Kind::Work(_) | Kind::Bystander(..), None) => unreachable!("these were started with the contender"),
        }
    }
}

/// Starts a proxy on some cores, and goes back to the core of the load.
fn start(proxy: &dyn Proxy, setup: Setup, cores: &[usize]) -> Outcome<Started> {
    proc::pin(cores)?;
    let started = Started::start(proxy, setup);
    proc::pin(&[LOAD_CORE])?;
    started
}

/// Starts a proxy on its core with one listener.
fn start_one(proxy: &dyn Proxy, bench: &Bench, listener: Listener) -> Outcome<Started> {
    start(proxy, Setup::new(bench.folder(), &[listener], bench.backend.port())?, &[PROXY_CORE])
}

/// Fewer where a sample takes long and hardly varies.
fn rounds(kind: &Kind, bench: &Bench) -> usize {
    let all = bench.options.rounds;
    match kind {
        Kind::Work(_) | Kind::Bystander(..) | Kind::Workers => all,
        Kind::Idle(_) | Kind::Closed(_) | Kind::Clients => (all * 2 / 3).max(1),
        Kind::RaisedLimit | Kind::Reloads | Kind::Together => (all / 3).max(1),
    }
}

/// Where the load and the backend run, and the proxies unless they have two workers.
pub(crate) const LOAD_CORE: usize = 0;
pub(crate) const PROXY_CORE: usize = 1;
