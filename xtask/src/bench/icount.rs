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
use std::{collections::BTreeMap, fs, path::Path, process::Command};

mod proxy;

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
    let compiler = compiler();
    let comparable = baseline.compiler == compiler;
    if !comparable {
        println!(
            "The baseline is of {}, this is {compiler}: what differs is shown, and no failure.",
            baseline.compiler
        );
    }
    let mut grown = Vec::new();
    let mut note = |name: &'static str, count: u64| {
        let before = baseline.paths.insert(name.to_owned(), count);
        println!("{name:<12} {count:>7} instructions, {}", change(before, count));
        if before.is_none_or(|before| exceeds(before, count)) {
            grown.push(name);
        }
    };
    let wanted = |name: &str| names.is_empty() || names.contains(&name);
    if counting::CASES.into_iter().any(wanted) {
        let program = counting::build(root)?;
        for case in counting::CASES.into_iter().filter(|case| wanted(case)) {
            note(case, counting::count(&program, case)?);
        }
    }
    if proxy::PATHS.iter().any(|path| wanted(path.name)) {
        let program = Smartproxy(super::build(root)?);
        let bench = Bench::new(Options::parse(&[])?)?;
        for path in proxy::PATHS.iter().filter(|path| wanted(path.name)) {
            note(path.name, path.count(&program, &bench)?);
        }
    }
    if bless {
        baseline.compiler = compiler;
        return fs::write(&file, baseline.text()).map_err(|error| format!("{BASELINE} cannot be written: {error}."));
    }
    match grown[..] {
        [] => Ok(()),
        _ if !comparable => Ok(()),
        _ => Err(format!(
            "More than {TOLERATED} % above {BASELINE}, or missing there: {}. Find out why, or accept it with \
             `cargo xtask bench icount --bless` and say why in the commit.",
            grown.join(", ")
        )),
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

fn change(before: Option<u64>, count: u64) -> String {
    let Some(before) = before else { return "not in the baseline".to_owned() };
    format!("baseline {before:>7}, {:+.1} %", (count as f64 / before as f64 - 1.0) * 100.0)
}

/// What was counted when a change was last accepted, and with what compiler: one `name count` per line.
#[derive(Debug, PartialEq)]
struct Baseline {
    compiler: String,
    paths: BTreeMap<String, u64>,
}

impl Baseline {
    fn parse(text: &str) -> Self {
        let compiler = text.lines().find_map(|line| line.strip_prefix(COMPILER)).unwrap_or("unknown compilers");
        let count = |line: &str| {
            let (name, count) = line.split_once(' ')?;
            Some((name.to_owned(), count.trim().parse().ok()?))
        };
        Self { compiler: compiler.to_owned(), paths: text.lines().filter_map(count).collect() }
    }

    fn text(&self) -> String {
        let counts = self.paths.iter().map(|(name, count)| format!("{name} {count}\n"));
        format!("{HEAD}{COMPILER}{}\n{}", self.compiler, counts.collect::<String>())
    }
}

/// What the counts depend on beside the code: another compiler, or another architecture, makes other instructions.
fn compiler() -> String {
    let version = first_line(Command::new("rustc").arg("--version"));
    format!("{} on {}", version.unwrap_or_else(|| "an unknown rustc".to_owned()), std::env::consts::ARCH)
}

/// All of the counting: what needs neither sockets nor an event loop, and is the same in every run.
const CORE: &str = "core";
const BASELINE: &str = "xtask/icount.txt";
const HEAD: &str = "# Instructions per operation, by `cargo xtask bench icount --bless`.\n";
const COMPILER: &str = "# compiler: ";
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
        assert_eq!(change(Some(200), 210), "baseline     200, +5.0 %");
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let paths = BTreeMap::from([("http1".to_owned(), 20_000)]);
        let baseline = Baseline { compiler: "rustc 1".to_owned(), paths };
        assert_eq!(Baseline::parse(&baseline.text()), baseline);
        assert!(Baseline::parse("").paths.is_empty());
    }

    #[test]
    fn unknown_paths_are_named() {
        assert!(run(Path::new("."), &["http9"]).unwrap_err().contains("`http9`"));
    }
}
