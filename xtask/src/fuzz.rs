//! Texts spoilt at random for every reader of what strangers send.

use crate::Outcome;
use std::{path::Path, process::Command};

/// Builds the driver for speed, with the checks that a debug build has, and hands the words over.
pub(crate) fn run(root: &Path, words: &[&str]) -> Outcome {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let status = Command::new(cargo)
        .args(["run", "--release", "--package", "smartproxy-fuzz", "--"])
        .args(words)
        .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
        .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true")
        .env("CARGO_TARGET_DIR", root.join("target/fuzz"))
        .current_dir(root)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("The fuzzer ended with {status}.")),
        Err(error) => Err(format!("cargo could not be started: {error}.")),
    }
}
