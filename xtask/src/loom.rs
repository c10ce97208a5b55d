//! The counting under model checkers: every interleaving of two threads, and random ones of four, instead of those that
//! happen.

use crate::Outcome;
use std::{path::Path, process::Command};

/// Builds the models into directories of their own, because a compiler flag changes every crate, and runs them.
pub(crate) fn run(root: &Path, only: &[&str]) -> Outcome {
    check(root, "loom", &["limits-core", "log-dedup"], only)?;
    check(root, "shuttle", &["limits-core"], only)
}

fn check(root: &Path, checker: &str, packages: &[&str], only: &[&str]) -> Outcome {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        .args(["test", "--release", "--test", checker])
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .args(only)
        .env("RUSTFLAGS", format!("--cfg {checker}"))
        .env("CARGO_TARGET_DIR", root.join("target").join(checker))
        .current_dir(root)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("The models under {checker} ended with {status}.")),
        Err(error) => Err(format!("cargo could not be started: {error}.")),
    }
}
