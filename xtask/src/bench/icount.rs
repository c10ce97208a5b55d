//! Instructions per unit of work on the hot paths, counted by valgrind and held against a baseline.
//!
//! Nothing here depends on how fast or how busy a machine is. A path is driven twice with different numbers of units,
//! and the difference between the two counts is that of the units: starting and ending cost the same in both.

use super::{
    Bench, counting,
    options::Options,
    peers::{Smartproxy, first_line},
};
use crate::Outcome;
use baseline::{Baseline, Machine};
use std::{fs, path::Path, process::Command};

mod baseline;
mod proxy;
mod steps;

/// Counts all paths, or those that are named (`core`: all of the counting), and compares with the baseline; `--bless` replaces it.
pub(crate) fn run(root: &Path, words: &[&str]) -> Outcome {
    let bless = words.contains(&"--bless");
    let names = words.iter().filter(|word| **word != "--bless");
    let names: Vec<&str> = names
        .flat_map(|name| if *name == CORE { &counting::CASES } else { std::slice::from_ref(name) })
        .copied()
        .collect();
    let known: Vec<&str> = counting::CASES.into_iter().chain(proxy::PATHS.iter().map(|path| path.name)).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(format!("`bench icount` knows `--bless`, `{CORE}` and {}, not `{unknown}`.", known.join(", ")));
    }
    if first_line(Command::new("valgrind").arg("--version")).is_none() {
        return Err("valgrind is missing: apt-get install valgrind".to_owned());
    }
    let file = root.join(BASELINE);
    let text = fs::read_to_string(&file).map_err(|error| format!("{BASELINE} cannot be read: {error}."))?;
    let mut baseline = Baseline::parse(&text);
    let here = Machine::this();
    let mut counts = Vec::new();
    let wanted = |name: &str| names.is_empty() || names.contains(&name);
    if counting::CASES.into_iter().any(wanted) {
        let program = counting::build(root)?;
        let mut counting = Counting::new(&baseline, &here, false);
        for case in counting::CASES.into_iter().filter(|case| wanted(case)) {
            counting.note(case, counting::count(&program, case)?);
        }
        counts.push(counting);
    }
    if proxy::PATHS.iter().any(|path| wanted(path.name)) {
        let program = Smartproxy(super::build(root)?);
        let bench = Bench::new(Options::parse(&[])?)?;
        let mut counting = Counting::new(&baseline, &here, true);
        for path in proxy::PATHS.iter().filter(|path| wanted(path.name)) {
            let good = |count| !bless && !baseline.is_exceeded(path.name, count);
            counting.note(path.name, path.count(&program, &bench, good)?);
        }
        counts.push(counting);
    }
    let grown: Vec<&str> = counts.iter().flat_map(|counting| &counting.grown).copied().collect();
    let counts = counts.into_iter().flat_map(|counting| counting.counts).collect();
    if bless {
        baseline.accept(counts, here);
        return fs::write(&file, baseline.text()).map_err(|error| format!("{BASELINE} cannot be written: {error}."));
    }
    if grown.is_empty() {
        return Ok(());
    }
    Err(format!(
        "More than {TOLERATED} % above {BASELINE}, or missing there: {}. Find out why, or accept it with \
         `cargo xtask bench icount --bless` and say why in the commit.",
        grown.join(", ")
    ))
}

/// Counts of one kind beside the baseline.
struct Counting<'a> {
    baseline: &'a Baseline,
    /// Whether the baseline says anything about what is counted here.
    comparable: bool,
    counts: Vec<(&'static str, u64)>,
    grown: Vec<&'static str>,
}

impl<'a> Counting<'a> {
    fn new(baseline: &'a Baseline, here: &Machine, whole: bool) -> Self {
        let differs = baseline.differs(here, whole);
        if let Some(why) = &differs {
            println!("{why}");
        }
        Self { baseline, comparable: differs.is_none(), counts: Vec::new(), grown: Vec::new() }
    }

    fn note(&mut self, name: &'static str, count: u64) {
        println!("{name:<12} {count:>7} instructions, {}", self.baseline.change(name, count));
        self.counts.push((name, count));
        if self.comparable && self.baseline.is_exceeded(name, count) {
            self.grown.push(name);
        }
    }
}

/// The line `==12== I   refs:      1,234,567`.
fn instructions(log: &str) -> Option<u64> {
    let (_, number) = log.lines().find(|line| line.contains("I   refs:"))?.split_once("refs:")?;
    number.trim().replace(',', "").parse().ok()
}

fn exceeds(before: u64, count: u64) -> bool {
    count * 100 > before * (100 + TOLERATED)
}

/// All of the counting: what needs neither sockets nor an event loop, and is the same in every run.
const CORE: &str = "core";
const BASELINE: &str = "xtask/icount.txt";
/// Percent above the baseline.
const TOLERATED: u64 = 5;
/// Counts instructions and nothing else.
const VALGRIND: [&str; 3] = ["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valgrinds_count_is_found() {
        assert_eq!(instructions("==7== \n==7== I   refs:      1,234,567\n"), Some(1_234_567));
        assert_eq!(instructions("==7== killed\n"), None);
    }

    #[test]
    fn more_than_five_percent_is_too_much() {
        assert!(!exceeds(10_000, 10_500) && exceeds(10_000, 10_501) && !exceeds(10_000, 1));
    }

    #[test]
    fn unknown_paths_are_named() {
        assert!(run(Path::new("."), &["http9"]).unwrap_err().contains("`http9`"));
    }
}
