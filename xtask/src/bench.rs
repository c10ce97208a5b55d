//! What a unit of work costs in smartproxy and in its peers, measured side by side.
//!
//! Every proxy has one worker on a core of its own; the load and the backend share the other one. All proxies of a
//! scenario are measured in turns, so that a machine that grows slower or noisier touches them alike. What is compared
//! is the CPU time that the proxy itself used, which is far steadier than rates.

use crate::{Outcome, profiled};
use options::Options;
use peers::Proxy;
use report::Report;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

mod backend;
mod client;
pub(crate) mod counting;
mod h2;
pub(crate) mod icount;
mod kinds;
mod load;
mod options;
mod peers;
mod proc;
mod process;
mod report;
mod scenarios;
mod stats;

/// Measures and writes the report to `target/bench/`.
pub(crate) fn run(root: &Path, words: &[&str]) -> Outcome {
    let options = Options::parse(words)?;
    if options.list {
        for scenario in &options.scenarios {
            println!("{:<17} {}", scenario.name, scenario.sentence);
        }
        return Ok(());
    }
    let folder = root.join("target/bench");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{} cannot be made: {error}.", folder.display()))?;

    proc::pin(&[kinds::LOAD_CORE])?;
    let proxies = proxies(root, &options)?;
    let bench = Bench::new(options)?;
    let mut results = Vec::new();
    for scenario in bench.options.scenarios.iter().copied() {
        println!("{}: {}", scenario.name, scenario.sentence);
        results.push((scenario, kinds::measure(scenario, &proxies, &bench)));
    }
    Report::new(root, words, &proxies, &results).publish(&folder, &bench.options.report)?;
    let ours = results.iter().flat_map(|(_, lines)| lines).filter(|line| line.proxy == peers::OURS);
    match ours.filter_map(|line| line.failure.as_deref()).next() {
        Some(failure) => Err(format!("smartproxy {failure}")),
        None => Ok(()),
    }
}

/// Has a program of ours do what costs CPU in each scenario, for a moment.
pub(crate) fn exercise(program: PathBuf) -> Outcome {
    proc::pin(&[kinds::LOAD_CORE])?;
    let bench = Bench::new(Options::parse(&["--rounds", "1"])?)?;
    let program = peers::Smartproxy(program);
    for scenario in bench.options.scenarios.iter().copied() {
        kinds::exercise(scenario, &program, &bench).map_err(|error| format!("{}: {error}", scenario.name))?;
    }
    Ok(())
}

/// What all scenarios share.
pub(crate) struct Bench {
    options: Options,
    backend: backend::Backend,
    /// The port of the backend for bulk.
    source: u16,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(options: Options) -> Outcome<Self> {
        let folder = process::temporary_folder()?;
        process::end_with_us(folder.path().to_owned())?;
        peers::write_certificate(folder.path())?;
        Ok(Self { options, backend: backend::Backend::start()?, source: load::source()?, folder })
    }

    /// Where files are that nobody needs afterwards.
    fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// The proxies that can be measured; smartproxy is built first. Says how to get those that are missing.
fn proxies(root: &Path, options: &Options) -> Outcome<Vec<Box<dyn Proxy>>> {
    let mut proxies: Vec<Box<dyn Proxy>> = Vec::new();
    if !options.peers_only {
        let ours = if options.profiled { with_profile(root)? } else { build(root)? };
        proxies.push(Box::new(peers::Smartproxy(ours)));
    }
    for peer in peers::others() {
        match peer.version() {
            Some(_) => proxies.push(peer),
            None => println!("{} is missing: {}", peer.name(), peer.install()),
        }
    }
    if proxies.is_empty() {
        return Err("There is no proxy to measure.".to_owned());
    }
    Ok(proxies)
}

/// Where smartproxy is, built with a profile.
fn with_profile(root: &Path) -> Outcome<PathBuf> {
    let program = profiled::program_in(root);
    if program.exists() { Ok(program) } else { Err("`cargo xtask profiled` has to build it first.".to_owned()) }
}

/// Builds smartproxy as it is shipped, and says where it is.
fn build(root: &Path) -> Outcome<PathBuf> {
    println!("building smartproxy");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status =
        Command::new(cargo).args(["build", "--release", "--package", "smartproxy-bin"]).current_dir(root).status();
    if !status.is_ok_and(|status| status.success()) {
        return Err("The release build of smartproxy failed.".to_owned());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |target| root.join(target));
    Ok(target.join("release/smartproxy"))
}
