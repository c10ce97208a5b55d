//! `smartproxy run`.

use crate::logging::Log;
use crate::process::Process;
use crate::status::ProxyStatus;
use crate::watch::Stamp;
use crate::{systemd, watch};
use proxy_admin::Status;
use proxy_route::Settings;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs the proxy on a configuration until a signal ends it; if it is `watched`, a file that changes is reloaded.
pub(crate) fn run(file: &Path, watched: bool) -> ExitCode {
    let stamp = Stamp::of(file);
    let loaded = match proxy_config::load(file) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            eprint!("{mistakes}");
            return ExitCode::FAILURE;
        }
    };
    let log = match Log::start(&loaded.config.settings.logging) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    for warning in loaded.warnings.iter() {
        tracing::warn!("{}:{}:{}: {}", file.display(), warning.line, warning.column, warning.message);
    }
    let run = || -> Result<ExitCode, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            // Before anything else, so that no signal meets the default action while listeners open.
            let mut signals = Signals::new()?;
            let process = Process::start(loaded.config, Some((file.to_owned(), stamp)), &log)?;
            ready(&process);
            systemd::ready();
            tokio::spawn(systemd::watchdog());
            tokio::spawn(watch::follow(Arc::clone(&process.status.reloader), watched));
            Ok(signals.until_the_end(process).await)
        })
    };
    run().unwrap_or_else(|error| {
        tracing::error!("{error}");
        ExitCode::FAILURE
    })
}

/// The one line that says what is in force.
pub(crate) fn ready(process: &Process) {
    let status = &process.status;
    let generation = status.reloader.generation();
    let Settings { limits, enforce, .. } = &generation.settings;
    let listeners = status.reloader.listeners();
    tracing::info!(
        listeners = listeners.join(" "),
        admin = process.admin.as_ref().map(tracing::field::display),
        workers = status.workers,
        routes = generation.table.routes().len(),
        max_connections = limits.max_connections,
        max_connections_per_ip = limits.per_client,
        connection_rate_per_minute = limits.rate_per_minute,
        max_pending = limits.pending_or_default(),
        enforce,
        "ready"
    );
}

/// The signals that end the process.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for SIGTERM or SIGINT; reloads on SIGHUP.
    pub(crate) async fn ended(&mut self, status: &Arc<ProxyStatus>) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => {
                    let status = Arc::clone(status);
                    // Not awaited: a signal to end is not to wait for it. What came of it is in the log.
                    drop(tokio::task::spawn_blocking(move || match status.reload() {
                        Some(Ok(_)) => {}
                        Some(Err(why)) => tracing::debug!("SIGHUP: {why}"),
                        None => tracing::warn!("SIGHUP: there is no file to reload"),
                    }));
                }
            }
        }
    }

    /// Waits for a signal or the admin endpoint, drains, and ends at once on a further signal.
    pub(crate) async fn until_the_end(&mut self, process: Process) -> ExitCode {
        let status = Arc::clone(&process.status);
        tokio::select! {
            () = self.ended(&status) => {}
            () = status.drain_asked() => {}
        }
        tracing::info!("draining");
        systemd::stopping();
        tokio::select! {
            all = process.drain() => {
                if all {
                    tracing::info!("drained");
                } else {
                    tracing::warn!("the time to drain is over: what is still open is closed");
                }
                ExitCode::SUCCESS
            }
            () = self.ended(&status) => {
                tracing::warn!("a second signal: ending at once");
                ExitCode::FAILURE
            }
        }
    }
}
