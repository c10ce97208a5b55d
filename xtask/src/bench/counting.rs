//! What the counting core costs: time beside its rivals, instructions, memory.

use crate::Outcome;
use std::{collections::BTreeMap, path::Path, process::Command};

/// Time per admission and release, by criterion, beside what a program would otherwise take, and bytes per client.
pub(crate) fn micro(root: &Path, words: &[&str]) -> Outcome {
    cargo(root, &[&["bench", "--package", "rivals", "--bench", "micro", "--"], words].concat())?;
    cargo(root, &["build", "--release", "--package", "rivals"])?;
    println!("\nresident memory, 1 M clients with a connection each");
    for name in RIVALS {
        print!("{}", output(root.join("target/release/rivals").as_os_str(), &[name, "1000000"])?);
    }
    Ok(())
}

/// Resident bytes per client of every size, the peak, what is left, and the longest lock.
pub(crate) fn memory(root: &Path, words: &[&str]) -> Outcome {
    let quick = match words {
        [] => false,
        ["--quick"] => true,
        [unknown, ..] => return Err(format!("`bench memory` knows only `--quick`, not `{unknown}`.")),
    };
    cargo(root, &["build", "--release", "--package", "limits-core", "--example", "memory"])?;
    let program = root.join("target/release/examples/memory");
    let between = (0..16).map(|step| 1_000_000 + step * 1_000_000 / 15);
    let sizes: Vec<u32> = if quick { vec![1_000_000, 1_400_000] } else { between.chain([10_000_000]).collect() };
    for family in ["v4", "v6"] {
        for size in &sizes {
            print!("{}", output(program.as_os_str(), &[family, &size.to_string()])?);
        }
    }
    Ok(())
}

/// Instructions per operation; more than five percent above the baseline is an error.
pub(crate) fn icount(root: &Path, words: &[&str]) -> Outcome {
    let bless = match words {
        [] => false,
        ["--bless"] => true,
        [unknown, ..] => return Err(format!("`bench icount` knows only `--bless`, not `{unknown}`.")),
    };
    if output("valgrind".as_ref(), &["--version"]).is_err() {
        return Err("valgrind is missing: apt-get install valgrind.".to_owned());
    }
    cargo(root, &["build", "--release", "--package", "limits-core", "--example", "icount"])?;
    let program = root.join("target/release/examples/icount");
    let program = program.to_str().ok_or("The path of the workspace is no text.")?;
    let mut counts = BTreeMap::new();
    for case in CASES {
        let of = |turns: u32| instructions(program, case, turns);
        counts.insert(case.to_owned(), (of(2 * TURNS)? - of(TURNS)?) / u64::from(TURNS));
    }
    let path = root.join(BASELINE);
    if bless {
        let mut text = BASELINE_HEAD.to_owned();
        text.extend(counts.iter().map(|(case, count)| format!("{case} {count}\n")));
        return std::fs::write(&path, text).map_err(|error| format!("{BASELINE} cannot be written: {error}."));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{BASELINE} cannot be read: {error}."))?;
    compare(&counts, &text)
}

/// Prints each count beside its baseline; an error names those that grew.
fn compare(counts: &BTreeMap<String, u64>, baseline: &str) -> Outcome {
    let mut grown = Vec::new();
    for (case, count) in counts {
        let before = baseline.lines().find_map(|line| line.strip_prefix(case.as_str())?.trim().parse::<u64>().ok());
        let Some(before) = before else {
            grown.push(format!("{case} has no baseline: `cargo xtask bench icount --bless` writes one"));
            continue;
        };
        let percent = (*count as f64 / before as f64 - 1.0) * 100.0;
        println!("{case:<12} {count:>6} instructions, baseline {before:>6}, {percent:>+5.1} %");
        if percent > MOST_PERCENT {
            grown.push(format!("{case} takes {percent:.1} % more instructions than its baseline"));
        }
    }
    if grown.is_empty() { Ok(()) } else { Err(grown.join("\n")) }
}

fn instructions(program: &str, case: &str, turns: u32) -> Outcome<u64> {
    let options = ["--tool=callgrind", "--callgrind-out-file=/dev/null", program, case, &turns.to_string()];
    let said = Command::new("valgrind").args(options).output();
    let said = said.map_err(|error| format!("valgrind could not be started: {error}."))?;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    let count = text.lines().find_map(|line| line.split("Collected : ").nth(1)?.trim().parse().ok());
    count.ok_or_else(|| format!("valgrind counted nothing for {case}:\n{text}"))
}

fn cargo(root: &Path, arguments: &[&str]) -> Outcome {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let line = arguments.join(" ");
    match Command::new(cargo).args(arguments).current_dir(root).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`cargo {line}` ended with {status}.")),
        Err(error) => Err(format!("`cargo {line}` could not be started: {error}.")),
    }
}

fn output(program: &std::ffi::OsStr, arguments: &[&str]) -> Outcome<String> {
    let line = format!("{} {}", program.to_string_lossy(), arguments.join(" "));
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("`{line}` could not be started: {error}."))?;
    if !output.status.success() {
        return Err(format!("`{line}` failed:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// As `rivals` knows them.
const RIVALS: [&str; 6] = ["limits-core", "mutex", "dashmap", "semaphores", "moka", "governor"];
/// As the example `icount` knows them.
const CASES: [&str; 6] = ["known_v4", "known_v6", "new_v4", "bound_v4", "refused_v4", "request_v4"];
const TURNS: u32 = 10_000;
const MOST_PERCENT: f64 = 5.0;
const BASELINE: &str = "xtask/icount.txt";
const BASELINE_HEAD: &str = "# Instructions per operation, by `cargo xtask bench icount --bless`. Compilers differ: bless with the one of CI.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_five_percent_is_an_error_and_less_is_not() {
        let counts = |count| BTreeMap::from([("known_v4".to_owned(), count)]);
        let baseline = "# head\nknown_v4 100\n";
        assert_eq!(compare(&counts(105), baseline), Ok(()));
        assert_eq!(compare(&counts(50), baseline), Ok(()));
        assert!(compare(&counts(106), baseline).unwrap_err().contains("known_v4 takes 6.0 %"));
        assert!(compare(&counts(1), "").unwrap_err().contains("no baseline"));
    }
}
