//! The `smartproxy` binary: command line, wiring, signals. Everything else is in the crates it is made of.
//!
//! ```sh
//! smartproxy demo                 # everything in one command
//! smartproxy check -c site.yaml   # every mistake at once
//! smartproxy run -c site.yaml     # until SIGTERM, then drains
//! smartproxy reload               # what a SIGHUP does, with an answer
//! ```

mod access_log;
mod allocator;
mod changes;
mod check;
mod cli;
mod control;
mod demo;
mod descriptors;
mod endpoint;
mod limits;
mod logging;
mod process;
mod reload;
mod remote;
mod report;
mod run;
mod status;
mod systemd;
mod watch;

use clap::Parser;
use remote::Wish;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::Cli::parse().command {
        cli::Command::Check { config } => check::check(&config),
        cli::Command::Demo => demo::demo(),
        cli::Command::Drain { remote } => remote::ask(&remote, Wish::Drain),
        cli::Command::Reload { remote } => remote::ask(&remote, Wish::Reload),
        cli::Command::Run { config, watch } => run::run(&config, watch),
        cli::Command::Schema => check::schema(),
        cli::Command::Status { remote } => remote::ask(&remote, Wish::Status),
    }
}
