//! Everything a change must pass before it is proposed, cheapest first.

use crate::{Outcome, tidy};
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// Runs all steps and stops at the first that fails, with the command that repeats it.
///
/// `--fast` leaves the end-to-end tests out.
pub(crate) fn run(root: &Path, options: &[&str]) -> Outcome {
    let fast = match options {
        [] => false,
        ["--fast"] => true,
        [unknown, ..] => return Err(format!("`check` knows only `--fast`, not `{unknown}`.")),
    };
    let mut times = Vec::new();
    for step in steps(fast) {
        println!("== {step}");
        let start = Instant::now();
        let outcome = if step == TIDY { tidy::run(root) } else { shell(root, step) };
        let time = start.elapsed();
        outcome.map_err(|message| format!("{message}\n== failed after {}. Again: {step}", seconds(time)))?;
        times.push((step, time));
    }
    println!("\nall green");
    for (step, time) in times {
        println!("{:>8}  {step}", seconds(time));
    }
    Ok(())
}

fn steps(fast: bool) -> Vec<&'static str> {
    let mut steps = vec!["cargo fmt --all --check", CLIPPY, TIDY];
    // The end-to-end tests are a test target of the binary's package, and cargo can leave out packages, not targets.
    steps.extend(if fast { FAST_TESTS.as_slice() } else { &["cargo test --workspace"] });
    steps
}

/// Runs a command line of plain words with the cargo that runs us.
fn shell(root: &Path, line: &str) -> Outcome {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo).args(line.split(' ').skip(1)).current_dir(root).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` ended with {status}.")),
        Err(error) => Err(format!("`{line}` could not be started: {error}.")),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

const CLIPPY: &str = "cargo clippy --workspace --all-targets -- -D warnings";
const TIDY: &str = "cargo xtask tidy";
const FAST_TESTS: [&str; 2] =
    ["cargo test --workspace --exclude smartproxy-bin", "cargo test --package smartproxy-bin --bins"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_fast_way_leaves_tests_out() {
        assert!(steps(false).contains(&"cargo test --workspace"));
        assert!(!steps(true).contains(&"cargo test --workspace"));
        assert_eq!(steps(false)[..3], steps(true)[..3]);
    }

    #[test]
    fn a_failing_step_is_an_error_that_names_it() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(shell(here, "cargo --version").is_ok());
        assert!(shell(here, "cargo no-such-command").unwrap_err().contains("no-such-command"));
    }
}
