//! `smartproxy run`.

use crate::logging;
use crate::process::Process;
use proxy_route::Settings;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs the proxy on a configuration until a signal ends it.
pub(crate) fn run(file: &Path) -> ExitCode {
    let loaded = match proxy_config::load(file) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            eprint!("{mistakes}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = logging::start(&loaded.config.settings.logging) {
        eprintln!("error: logging.level: {error}");
        return ExitCode::FAILURE;
    }
    for warning in loaded.warnings.iter() {
        tracing::warn!("{}:{}:{}: {}", file.display(), warning.line, warning.column, warning.message);
    }
    let run = || -> Result<ExitCode, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            // Before anything else, so that no signal meets the default action while listeners open.
            let mut signals = Signals::new()?;
            let process = Process::start(loaded.config)?;
            ready(&process);
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
    let Settings { limits, enforce, .. } = &status.generation.settings;
    let listeners: Vec<_> = status.listeners.iter().map(ToString::to_string).collect();
    tracing::info!(
        listeners = listeners.join(" "),
        admin = process.admin.map(tracing::field::display),
        workers = status.workers,
        routes = status.generation.table.routes().len(),
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

    /// Waits for SIGTERM or SIGINT. SIGHUP, which would end a process by default, only says that it does nothing.
    pub(crate) async fn ended(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => {
                    tracing::warn!("SIGHUP: reloading is not supported yet; restart to put a new configuration in force");
                }
            }
        }
    }

    /// Waits for a signal, drains, and ends at once on a second one.
    pub(crate) async fn until_the_end(&mut self, process: Process) -> ExitCode {
        self.ended().await;
        tracing::info!("draining");
        tokio::select! {
            all = process.drain() => {
                if all {
                    tracing::info!("drained");
                } else {
                    tracing::warn!("the time to drain is over: what is still open is closed");
                }
                ExitCode::SUCCESS
            }
            () = self.ended() => {
                tracing::warn!("a second signal: ending at once");
                ExitCode::FAILURE
            }
        }
    }
}
