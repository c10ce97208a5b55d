//! The counting against its plain reference, over as many random histories as there is time for.

use crate::{Outcome, number};
use std::{path::Path, process::Command};

/// Runs the simulation of `limits-core` with other numbers than its test has.
pub(crate) fn run(root: &Path, words: &[&str]) -> Outcome {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let numbers = Numbers::parse(words)?;
    let status = Command::new(cargo)
        .args(["test", "--release", "--package", "limits-core", "--test", "simulation"])
        .args(["--", "every_answer_is_that_of_the_reference", "--nocapture"])
        .env("SIM_FIRST_SEED", numbers.first.to_string())
        .env("SIM_SEEDS", numbers.seeds.to_string())
        .env("SIM_STEPS", numbers.steps.to_string())
        .current_dir(root)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("The simulation ended with {status}.")),
        Err(error) => Err(format!("cargo could not be started: {error}.")),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Numbers {
    first: u64,
    seeds: u64,
    steps: u64,
}

impl Numbers {
    fn parse(words: &[&str]) -> Outcome<Self> {
        let mut numbers = Self { first: 0, seeds: 1_000, steps: 10_000 };
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let given = words.clone().next();
            let number = || number(word, given);
            match word {
                "--seeds" => numbers.seeds = number()?,
                "--steps" => numbers.steps = number()?,
                "--seed" => (numbers.first, numbers.seeds) = (number()?, 1),
                unknown => return Err(format!("`sim` does not know `{unknown}`. See `cargo xtask --help`.")),
            }
            words.next();
        }
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_can_be_repeated() {
        assert_eq!(Numbers::parse(&["--seed", "7", "--steps", "9"]), Ok(Numbers { first: 7, seeds: 1, steps: 9 }));
        assert!(Numbers::parse(&["--seeds"]).unwrap_err().contains("--seeds"));
        assert!(Numbers::parse(&["--seeds", "many"]).unwrap_err().contains("number"));
    }
}
