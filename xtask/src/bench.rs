//! What a unit of work costs in smartproxy, HAProxy and nginx, measured side by side.
//!
//! Every proxy has one worker on a core of its own; the load and the backend share the other one. All proxies of a
//! scenario run at once and are measured in turns, A B C A B C, so that a machine that grows slower or noisier touches
//! them alike. What is compared is the CPU time that the proxy itself used, which is far steadier than rates.

use crate::Outcome;
use peers::Proxy;
use report::{Line, Report};
use scenarios::{SCENARIOS, Scenario};
use std::{path::Path, process::Command, thread, time::Duration};

mod backend;
mod cpu;
mod load;
mod peers;
mod process;
mod report;
mod scenarios;
mod stats;

/// Measures and writes the report to `target/bench/`.
pub(crate) fn run(root: &Path, words: &[&str]) -> Outcome {
    let options = Options::parse(words)?;
    let folder = root.join("target/bench");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{} cannot be made: {error}.", folder.display()))?;

    cpu::pin(LOAD_CORE)?;
    let proxies = proxies(root, &options)?;
    peers::write_certificate(&folder)?;
    let backend = backend::Backend::start()?;
    let mut lines = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| options.only.is_none_or(|only| only == scenario.name)) {
        println!("{}: {}", scenario.name, scenario.sentence);
        lines.push((scenario, measure(scenario, &proxies, &backend, &folder, &options)?));
    }
    Report::new(root, words, &proxies, &lines).publish(&folder)
}

/// The names that `--only` takes.
#[cfg(test)]
pub(crate) fn scenario_names() -> impl Iterator<Item = &'static str> {
    SCENARIOS.iter().map(|scenario| scenario.name)
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    rounds: usize,
    window: Duration,
    only: Option<&'static str>,
    peers_only: bool,
}

impl Options {
    fn parse(words: &[&str]) -> Outcome<Self> {
        let mut options = Self { rounds: 9, window: Duration::from_secs(4), only: None, peers_only: false };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--quick" => (options.rounds, options.window) = (3, Duration::from_secs(2)),
                "--peers-only" => options.peers_only = true,
                "--only" => options.only = Some(scenario(words.next().copied())?),
                unknown => return Err(format!("`bench` does not know `{unknown}`. See `cargo xtask --help`.")),
            }
        }
        Ok(options)
    }
}

fn scenario(name: Option<&str>) -> Outcome<&'static str> {
    let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    let Some(name) = name else {
        return Err(format!("`--only` needs a name: {}.", names.join(", ")));
    };
    let found = names.iter().find(|known| **known == name);
    found.copied().ok_or_else(|| format!("There is no scenario `{name}`, only {}.", names.join(", ")))
}

/// The proxies that can be measured; smartproxy is built first. Says how to get those that are missing.
fn proxies(root: &Path, options: &Options) -> Outcome<Vec<Proxy>> {
    let mut proxies = Vec::new();
    if !options.peers_only {
        println!("building smartproxy");
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let status =
            Command::new(cargo).args(["build", "--release", "--package", "smartproxy-bin"]).current_dir(root).status();
        if !status.is_ok_and(|status| status.success()) {
            return Err("The release build failed; `--peers-only` measures without smartproxy.".to_owned());
        }
        proxies.push(Proxy::Smartproxy(root.join("target/release/smartproxy")));
    }
    for peer in [Proxy::Haproxy, Proxy::Nginx] {
        match peer.version() {
            Some(_) => proxies.push(peer),
            None => println!("{} is missing: apt-get install {}", peer.name(), peer.packages()),
        }
    }
    if proxies.is_empty() {
        return Err("There is no proxy to measure.".to_owned());
    }
    Ok(proxies)
}

/// One line per proxy, in the order of `proxies`, each with one sample per round.
fn measure(
    scenario: &Scenario,
    proxies: &[Proxy],
    backend: &backend::Backend,
    folder: &Path,
    options: &Options,
) -> Outcome<Vec<Line>> {
    let start = |proxy: &Proxy| {
        cpu::pin(PROXY_CORE)?;
        let started = proxy.start(scenario, backend.port(), folder);
        cpu::pin(LOAD_CORE)?;
        started
    };
    let running = proxies.iter().map(start).collect::<Outcome<Vec<_>>>()?;
    let mut lines: Vec<Line> = proxies.iter().map(|proxy| Line::new(proxy.name())).collect();
    for round in 1..=options.rounds {
        for (peer, line) in running.iter().zip(&mut lines) {
            let load = load::start(scenario, peer.port, backend, WARM_UP + options.window)?;
            thread::sleep(WARM_UP);
            let before = (cpu::used(peer.pid())?, load.units());
            let wall = std::time::Instant::now();
            thread::sleep(options.window);
            let (after, wall) = ((cpu::used(peer.pid())?, load.units()), wall.elapsed());
            load.finish().map_err(|error| format!("{} with {}: {error}", scenario.name, line.proxy))?;
            let sample = stats::Sample { cpu: after.0.saturating_sub(before.0), units: after.1 - before.1, wall };
            println!(
                "  round {round} {:<10} {:>8.0} {}/s {:>7.2} µs",
                line.proxy,
                sample.rate(),
                scenario.unit,
                sample.micros()
            );
            line.samples.push(sample);
        }
    }
    Ok(lines)
}

const LOAD_CORE: usize = 0;
const PROXY_CORE: usize = 1;
/// Connections are open, handshakes are done and caches are warm after that.
const WARM_UP: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_combine() {
        let quick = Options::parse(&["--only", "tls1", "--quick", "--peers-only"]).unwrap();
        assert_eq!((quick.rounds, quick.only, quick.peers_only), (3, Some("tls1"), true));
        let full = Options::parse(&[]).unwrap();
        assert!(full.rounds >= 9 && full.only.is_none() && !full.peers_only);
    }
}
