//! The `smartproxy` binary: command line, wiring, signals. Everything else is in the crates it is made of.
//!
//! ```sh
//! smartproxy demo                 # everything in one command
//! smartproxy check -c site.yaml   # every mistake at once
//! smartproxy run -c site.yaml     # until SIGTERM, then drains
//! ```

mod access_log;
mod check;
mod cli;
mod control;
mod demo;
mod descriptors;
mod limits;
mod logging;
mod process;
mod report;
mod run;
mod status;

use clap::Parser;
use std::process::ExitCode;

// Gives memory back after a burst of connections, and is faster under many short-lived ones than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::Cli::parse().command {
        cli::Command::Check { config } => check::check(&config),
        cli::Command::Demo => demo::demo(),
        cli::Command::Run { config } => run::run(&config),
        cli::Command::Schema => check::schema(),
    }
}
