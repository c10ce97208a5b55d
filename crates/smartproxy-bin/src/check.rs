//! `smartproxy check` and `smartproxy schema`.

use crate::descriptors::{self, Fit};
use crate::limits;
use limits_core::{Table, TableConfig};
use proxy_http::{HttpGeneration, TlsShared};
use proxy_route::{Config, RouteTable};
use proxy_tcp::Generation;
use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Reports every mistake of the file; succeeds if there is none.
pub(crate) fn check(file: &Path) -> ExitCode {
    let loaded = match proxy_config::load(file) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            eprint!("{mistakes}");
            return ExitCode::FAILURE;
        }
    };
    eprint!("{}", loaded.warnings);
    let routes = loaded.config.routes.len();
    match prepare(loaded.config) {
        Ok(()) => {
            println!("{}: {routes} routes, no mistakes", file.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}

/// Prints the JSON Schema of the configuration.
pub(crate) fn schema() -> ExitCode {
    match std::io::stdout().write_all(proxy_config::SCHEMA.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads it has read enough.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Everything that a start does short of opening a port: the file descriptors, the limits, the routes, and whether each
/// key belongs to its certificate.
fn prepare(mut config: Config) -> Result<(), Box<dyn Error>> {
    match descriptors::fit(&mut config.settings.limits, descriptors::raise()) {
        Ok(Fit::Unchanged) => {}
        Ok(Fit::Lowered { to, descriptors }) => {
            eprintln!(
                "note: a process with {descriptors} file descriptors, as this one, lowers maxConnections to {to}"
            );
        }
        Err(too_few) => return Err(too_few.to_string().into()),
    }
    let limits = &config.settings.limits;
    // The table is made and thrown away: no memory of it depends on how many clients it may hold.
    let table = TableConfig { prefixes: limits.prefixes, tracked_clients: limits.tracked_clients };
    let table = Table::new(table, limits::of(&config), Instant::now())?;
    let routes = RouteTable::new(table.route_ids().into_iter().zip(config.routes))?;
    HttpGeneration::new(Arc::new(Generation::new(config.settings, routes)), &TlsShared::new()?)?;
    Ok(())
}
