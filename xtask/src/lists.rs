//! Lists of operations made from bytes, against the plain reference, for as long as there is time.
//!
//! On stable Rust and without feedback from coverage: the bytes come from seeds, and a failing list is repeated by its own.

use crate::{Outcome, number};
use std::{path::Path, process::Command};

/// Runs the lists of bytes of `limits-core`'s simulation for longer than its test does.
pub(crate) fn run(root: &Path, words: &[&str]) -> Outcome {
    let (seconds, first) = parse(words)?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        .args(["test", "--release", "--package", "limits-core", "--test", "simulation", "--"])
        .args(["lists_made_of_bytes_are_answered_as_by_the_reference", "--nocapture"])
        .env("FUZZ_SECONDS", seconds.to_string())
        .env("FUZZ_FIRST_SEED", first.to_string())
        .current_dir(root)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("Fuzzing ended with {status}.")),
        Err(error) => Err(format!("cargo could not be started: {error}.")),
    }
}

/// For how many seconds, and from which seed on.
fn parse(words: &[&str]) -> Outcome<(u64, u64)> {
    let (mut seconds, mut seed) = (60, 1_000_000);
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        let number = number(word, words.next());
        match word {
            "--seconds" => seconds = number?,
            "--seed" => seed = number?,
            unknown => return Err(format!("`fuzz counting` does not know `{unknown}`. See `cargo xtask --help`.")),
        }
    }
    Ok((seconds, seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_asked_for() {
        assert_eq!(parse(&["--seconds", "5", "--seed", "7"]), Ok((5, 7)));
        assert!(parse(&["--seconds"]).unwrap_err().contains("--seconds"));
        assert!(parse(&["--long", "1"]).unwrap_err().contains("`--long`"));
    }
}
