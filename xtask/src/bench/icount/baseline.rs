//! What was counted when a change was last accepted, and where.

use super::exceeds;
use crate::bench::peers::first_line;
use std::{collections::BTreeMap, fs, process::Command};

/// A file of lines: where it was counted, and `name count` for each path.
#[derive(Debug, PartialEq)]
pub(super) struct Baseline {
    machine: Machine,
    paths: BTreeMap<String, u64>,
}

/// What counts depend on beside the code.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Machine {
    /// Another compiler, or another architecture, makes other instructions.
    compiler: String,
    /// The library of C and cryptography choose their code by the processor. The counting has no need of either.
    processor: String,
}

impl Machine {
    pub(super) fn this() -> Self {
        let version = first_line(Command::new("rustc").arg("--version"));
        let version = version.unwrap_or_else(|| "an unknown rustc".to_owned());
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            compiler: format!("{version} on {}", std::env::consts::ARCH),
            processor: processor.map_or("unknown", |(_, name)| name).to_owned(),
        }
    }
}

impl Baseline {
    pub(super) fn parse(text: &str) -> Self {
        let line = |head| text.lines().find_map(|line| line.strip_prefix(head)).unwrap_or("unknown").to_owned();
        let count = |line: &str| {
            let (name, count) = line.split_once(' ')?;
            Some((name.to_owned(), count.trim().parse().ok()?))
        };
        let machine = Machine { compiler: line(COMPILER), processor: line(PROCESSOR) };
        Self { machine, paths: text.lines().filter_map(count).collect() }
    }

    pub(super) fn text(&self) -> String {
        let Machine { compiler, processor } = &self.machine;
        let counts = self.paths.iter().map(|(name, count)| format!("{name} {count}\n"));
        format!("{HEAD}{COMPILER}{compiler}\n{PROCESSOR}{processor}\n{}", counts.collect::<String>())
    }

    /// Why counts that were taken on `here` say nothing beside these, if so; `whole` are those of the whole proxy.
    pub(super) fn differs(&self, here: &Machine, whole: bool) -> Option<String> {
        let Machine { compiler, processor } = &self.machine;
        let (there, here) = match whole {
            _ if *compiler != here.compiler => (compiler, &here.compiler),
            true if *processor != here.processor => (processor, &here.processor),
            _ => return None,
        };
        Some(format!("The baseline is of {there}, this is {here}: what differs is shown, and no failure."))
    }

    /// Whether a count is more than what is tolerated, or there is none to compare it with.
    pub(super) fn is_exceeded(&self, name: &str, count: u64) -> bool {
        self.paths.get(name).is_none_or(|before| exceeds(*before, count))
    }

    /// How a count differs, in words.
    pub(super) fn change(&self, name: &str, count: u64) -> String {
        let Some(before) = self.paths.get(name) else { return "not in the baseline".to_owned() };
        format!("baseline {before:>7}, {:+.1} %", (count as f64 / *before as f64 - 1.0) * 100.0)
    }

    /// Accepts counts. Those of paths that are not among them stay, as those of another machine if need be.
    pub(super) fn accept(&mut self, counts: Vec<(&str, u64)>, here: Machine) {
        self.machine = here;
        self.paths.extend(counts.into_iter().map(|(name, count)| (name.to_owned(), count)));
    }
}

const HEAD: &str = "# Instructions per operation, by `cargo xtask bench icount --bless`.\n";
const COMPILER: &str = "# compiler: ";
const PROCESSOR: &str = "# processor: ";

#[cfg(test)]
mod tests {
    use super::{super::TOLERATED, *};

    fn of(compiler: &str, processor: &str) -> Machine {
        Machine { compiler: compiler.to_owned(), processor: processor.to_owned() }
    }

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let paths = BTreeMap::from([("http1".to_owned(), 20_000)]);
        let baseline = Baseline { machine: of("rustc 1", "a fast one"), paths };
        assert_eq!(Baseline::parse(&baseline.text()), baseline);
        assert!(Baseline::parse("").paths.is_empty());
    }

    #[test]
    fn another_processor_matters_to_the_proxy_and_another_compiler_to_all() {
        let baseline = Baseline { machine: of("rustc 1", "a"), paths: BTreeMap::new() };
        let differs = |compiler, processor| {
            [false, true].map(|whole| baseline.differs(&of(compiler, processor), whole).is_some())
        };
        assert_eq!(differs("rustc 1", "a"), [false, false]);
        assert_eq!(differs("rustc 1", "b"), [false, true]);
        assert_eq!(differs("rustc 2", "a"), [true, true]);
    }

    #[test]
    fn changes_are_told_and_what_is_missing_is_exceeded() {
        let mut baseline = Baseline::parse("");
        assert!(baseline.is_exceeded("http1", 1));
        baseline.accept(vec![("http1", 200)], of("rustc 1", "a"));
        assert!(!baseline.is_exceeded("http1", 200 + 200 * TOLERATED / 100));
        assert_eq!(baseline.change("http1", 210), "baseline     200, +5.0 %");
    }
}
