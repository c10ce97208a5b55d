//! The chaos test for as long as there is time.

use crate::{Outcome, number};
use std::{path::Path, process::Command};

/// Runs the chaos test with another length, and another seed if one is given.
pub(crate) fn run(root: &Path, words: &[&str]) -> Outcome {
    let wish = Wish::parse(words)?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command
        .args(["test", "--release", "--package", "smartproxy-bin", "--test", "e2e"])
        .args(["--", "chaos::nothing_is_left_of_chaos", "--exact", "--nocapture"])
        .env("CHAOS_SECS", wish.secs.to_string())
        .current_dir(root);
    if let Some(seed) = wish.seed {
        command.env("CHAOS_SEED", seed.to_string());
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("The soak ended with {status}.")),
        Err(error) => Err(format!("cargo could not be started: {error}.")),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Wish {
    secs: u64,
    seed: Option<u64>,
}

impl Wish {
    fn parse(words: &[&str]) -> Outcome<Self> {
        let mut wish = Self { secs: 600, seed: None };
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let number = number(word, words.next()).map_err(|error| format!("{error} See `cargo xtask --help`."))?;
            match word {
                "--secs" => wish.secs = number,
                "--seed" => wish.seed = Some(number),
                unknown => return Err(format!("`soak` does not know `{unknown}`. See `cargo xtask --help`.")),
            }
        }
        Ok(wish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_and_seed_may_be_chosen() {
        assert_eq!(Wish::parse(&[]), Ok(Wish { secs: 600, seed: None }));
        assert_eq!(Wish::parse(&["--seed", "7", "--secs", "9"]), Ok(Wish { secs: 9, seed: Some(7) }));
        assert!(Wish::parse(&["--secs"]).unwrap_err().contains("--secs"));
        assert!(Wish::parse(&["--fast", "1"]).unwrap_err().contains("`--fast`"));
    }
}
