//! `smartproxy check`.

use std::path::Path;
use std::process::ExitCode;

/// Reports every mistake of the file; succeeds if there is none.
pub(crate) fn check(file: &Path) -> ExitCode {
    match proxy_config::load(file) {
        Ok(loaded) => {
            eprint!("{}", loaded.warnings);
            println!("{}: {} routes, no mistakes", file.display(), loaded.config.routes.len());
            ExitCode::SUCCESS
        }
        Err(mistakes) => {
            eprint!("{mistakes}");
            ExitCode::FAILURE
        }
    }
}
