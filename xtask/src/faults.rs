//! Whether the tests of the counting can fail: one fault at a time is put into a copy, and a named test must turn red.

use crate::Outcome;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

mod list;

pub(crate) use list::FAULTS;

/// A fault, and the test that must see it.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// Below `crates/`.
    pub(crate) file: &'static str,
    /// What stands there once, and what takes its place.
    pub(crate) old: &'static str,
    pub(crate) new: &'static str,
    /// `target::test` of `limits-core`, or the path of a unit test of the file's own crate.
    pub(crate) test: &'static str,
}

/// Runs all faults, or those whose name contains a word.
pub(crate) fn run(root: &Path, words: &[&str]) -> Outcome {
    let wanted = |fault: &&Fault| words.is_empty() || words.iter().any(|word| fault.name.contains(word));
    let faults: Vec<&Fault> = FAULTS.iter().filter(wanted).collect();
    if faults.is_empty() {
        return Err(format!("No fault is called like {}.", words.join(" or ")));
    }
    let copy = Copy::new(root)?;
    let mut survived = Vec::new();
    for fault in &faults {
        let verdict = copy.with(fault)?;
        println!("{:<44} {:<60} {verdict:?}", fault.name, fault.test);
        if verdict != Verdict::Red {
            survived.push(format!("{}: {} is {verdict:?}, not red", fault.name, fault.test));
        }
    }
    println!("{} of {} faults turn their test red", faults.len() - survived.len(), faults.len());
    if survived.is_empty() { Ok(()) } else { Err(survived.join("\n")) }
}

/// The test targets of `limits-core`.
const INTEGRATION: [&str; 3] = ["edges", "simulation", "threads"];

/// What became of a test.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Red,
    Green,
    /// The fault does not compile: it says nothing about the test.
    Unbuilt,
    /// There is no such test.
    Missing,
}

/// The two crates of the counting in a workspace of their own, which production code never sees.
struct Copy {
    root: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn new(root: &Path) -> Outcome<Self> {
        let copy = Self { root: root.join("target/faults/copy"), target: root.join("target/faults/target") };
        if copy.root.exists() {
            fs::remove_dir_all(&copy.root).map_err(|error| format!("{} stays: {error}.", copy.root.display()))?;
        }
        for name in ["limits-core", "conn-tracker"] {
            let below = Path::new("crates").join(name);
            duplicate(&root.join(&below), &copy.root.join(&below))?;
        }
        let manifest = read(&root.join("Cargo.toml"))?;
        let keep = |line: &&str| !line.starts_with("default-members");
        let lines = manifest.lines().filter(keep).map(|line| match line {
            line if line.starts_with("members = ") => "members = [\"crates/*\"]",
            line => line,
        });
        write(&copy.root.join("Cargo.toml"), &(lines.collect::<Vec<_>>().join("\n") + "\n"))?;
        write(&copy.root.join("Cargo.lock"), &read(&root.join("Cargo.lock"))?)?;
        Ok(copy)
    }

    /// Puts a fault in, runs its test, and takes it out again.
    fn with(&self, fault: &Fault) -> Outcome<Verdict> {
        let path = self.root.join("crates").join(fault.file);
        let sound = read(&path)?;
        write(&path, &fault.apply(&sound)?)?;
        let verdict = self.test(fault);
        write(&path, &sound)?;
        verdict
    }

    fn test(&self, fault: &Fault) -> Outcome<Verdict> {
        let integration = fault.test.split_once("::").filter(|(target, _)| INTEGRATION.contains(target));
        let own = fault.file.split('/').next().unwrap_or_default();
        let (test, base) = match integration {
            Some((target, test)) => (test, vec!["test", "--package", "limits-core", "--test", target]),
            None => (fault.test, vec!["test", "--package", own, "--lib"]),
        };
        if !self.cargo(&[&*base, &["--no-run"]].concat())?.status.success() {
            return Ok(Verdict::Unbuilt);
        }
        let output = self.cargo(&[&*base, &["--", test, "--exact"]].concat())?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(match output.status.success() {
            _ if !text.contains(&format!("test {test} ")) => Verdict::Missing,
            true => Verdict::Green,
            false => Verdict::Red,
        })
    }

    fn cargo(&self, arguments: &[&str]) -> Outcome<Output> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut command = Command::new(cargo);
        command.args(arguments).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        command.output().map_err(|error| format!("cargo could not be started: {error}."))
    }
}

impl Fault {
    fn apply(&self, sound: &str) -> Outcome<String> {
        match sound.matches(self.old).count() {
            1 => Ok(sound.replacen(self.old, self.new, 1)),
            times => Err(format!("{}: {:?} is {times} times in {}, not once", self.name, self.old, self.file)),
        }
    }
}

fn duplicate(from: &Path, to: &Path) -> Outcome {
    let failed = |error| format!("{} cannot be copied: {error}.", from.display());
    fs::create_dir_all(to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            duplicate(&path, &to.join(name))?;
        } else {
            fs::copy(&path, to.join(name)).map_err(failed)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}.", path.display()))
}

fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).map_err(|error| format!("{} cannot be written: {error}.", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_fits_the_code_and_stands_in_the_document() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let document = read(&root.join("docs/TESTING.md")).unwrap();
        assert!(FAULTS.len() >= 25);
        for fault in FAULTS {
            let sound = read(&root.join("crates").join(fault.file)).unwrap();
            let faulty = fault.apply(&sound).unwrap();
            assert_ne!(faulty, sound, "{}", fault.name);
            assert!(document.contains(fault.name), "{} is missing in docs/TESTING.md", fault.name);
            assert!(document.contains(fault.test), "{} is missing in docs/TESTING.md", fault.test);
            assert_eq!(FAULTS.iter().filter(|other| other.name == fault.name).count(), 1, "{}", fault.name);
        }
    }
}
