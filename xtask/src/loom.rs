//! The counting under the model checker: every interleaving of a few threads, instead of those that happen.

use crate::Outcome;
use std::{path::Path, process::Command};

/// Builds the models into a directory of their own, because a compiler flag changes every crate, and runs them.
pub(crate) fn run(root: &Path, only: &[&str]) -> Outcome {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        .args(["test", "--release", "--package", "limits-core", "--package", "log-dedup", "--test", "loom"])
        .args(only)
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", root.join("target/loom"))
        .current_dir(root)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("The models ended with {status}.")),
        Err(error) => Err(format!("cargo could not be started: {error}.")),
    }
}
