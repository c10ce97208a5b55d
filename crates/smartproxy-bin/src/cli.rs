//! The command line.

use crate::remote::Remote;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// A reverse proxy whose connection limits are exact, and one truth on every path.
#[derive(Debug, Parser)]
#[command(name = "smartproxy", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Reads a configuration and reports every mistake in it, each with its place and a suggestion.
    Check {
        /// The configuration: .yaml, .json or .toml.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Shows the whole thing without a configuration: backends, certificate and small limits included.
    Demo,
    /// Lets a running proxy finish what it has and end, as a SIGTERM does.
    Drain {
        #[command(flatten)]
        remote: Remote,
    },
    /// Puts the changed configuration of a running proxy in force, as a SIGHUP does, and says what came of it.
    Reload {
        #[command(flatten)]
        remote: Remote,
    },
    /// Runs the proxy until SIGTERM or SIGINT, then drains; a second signal ends it at once.
    Run {
        /// The configuration: .yaml, .json or .toml.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Reloads the configuration whenever its file changes.
        #[arg(short, long)]
        watch: bool,
    },
    /// Prints the JSON Schema of the configuration, for editors and other tools.
    Schema,
    /// Shows how a running proxy is.
    Status {
        #[command(flatten)]
        remote: Remote,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
