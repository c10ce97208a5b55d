//! Putting a new configuration in force while connections go on.
//!
//! Everything that can fail comes first: reading, certificates, listeners, limits. Then limits, HTTP, routes and listeners
//! are swapped in this order, so that whoever goes by a new route finds its limits and certificates in force.

use crate::access_log::{AccessLog, Prepared};
use crate::process::places;
use crate::watch::{Look, Stamp, certificate_files};
use crate::{changes, descriptors, limits, logging, systemd};
use conn_tracker::RouteId;
use descriptors::Fit;
use limits_core::Table;
use log_dedup::Dedup;
use parking_lot::Mutex;
use proxy_http::{Handshakes, HttpGeneration, TlsBackends, TlsPorts, TlsShared};
use proxy_route::{Config, Route, RouteTable};
use proxy_tcp::{Generation, Listeners, WorkerListener};
use std::collections::HashSet;
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::{mpsc, watch};

/// What a reload needs of the running process.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The file to read again, if there is one, and how it looked before it was read.
    pub(crate) file: Option<(PathBuf, Option<Stamp>)>,
    pub(crate) table: Arc<Table>,
    pub(crate) tls: TlsShared,
    /// File descriptors that the process may have.
    pub(crate) descriptors: u64,
    /// The ports that are open, each with its addresses.
    pub(crate) listening: Vec<(u16, String)>,
    pub(crate) access: Arc<AccessLog>,
    /// Where each worker takes further listeners.
    pub(crate) added: Vec<mpsc::UnboundedSender<WorkerListener>>,
    /// What folds the log.
    pub(crate) log: Dedup,
}

/// The configuration in force, and the way to the next one.
#[derive(Debug)]
pub(crate) struct Reloader {
    parts: Parts,
    generations: watch::Sender<Arc<Generation>>,
    http: watch::Sender<Arc<HttpGeneration>>,
    listening: Mutex<Vec<(u16, String)>>,
    last_read: Mutex<Look>,
    reloads: AtomicU64,
    one_at_a_time: Mutex<()>,
}

impl Reloader {
    /// `config` is in force, with the certificates as they are on disk.
    ///
    /// # Errors
    /// A certificate that cannot be used.
    pub(crate) fn new(mut parts: Parts, generation: Arc<Generation>) -> Result<Self, Box<dyn Error>> {
        let look =
            Look { config: parts.file.as_ref().and_then(|(_, stamp)| *stamp), certificates: stamps(&generation) };
        let http = HttpGeneration::new(Arc::clone(&generation), &parts.tls)?;
        Ok(Self {
            listening: Mutex::new(std::mem::take(&mut parts.listening)),
            parts,
            generations: watch::Sender::new(generation),
            http: watch::Sender::new(Arc::new(http)),
            last_read: Mutex::new(look),
            reloads: AtomicU64::new(0),
            one_at_a_time: Mutex::new(()),
        })
    }

    /// The configuration in force.
    pub(crate) fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.generations.borrow())
    }

    /// Follows the configuration in force.
    pub(crate) fn follow(&self) -> (watch::Receiver<Arc<Generation>>, watch::Receiver<Arc<HttpGeneration>>) {
        (self.generations.subscribe(), self.http.subscribe())
    }

    /// Where it listens.
    pub(crate) fn listeners(&self) -> Vec<String> {
        self.listening.lock().iter().map(|(_, place)| place.clone()).collect()
    }

    /// The TLS handshakes of the process.
    pub(crate) fn handshakes(&self) -> &Handshakes {
        self.parts.tls.handshakes()
    }

    /// How often a configuration was put in force since the start.
    pub(crate) fn reloads(&self) -> u64 {
        // Ordering: a figure to be shown.
        self.reloads.load(Ordering::Relaxed)
    }

    /// How the files look now.
    pub(crate) fn look(&self) -> Look {
        let config = self.parts.file.as_ref().and_then(|(file, _)| Stamp::of(file));
        Look { config, certificates: stamps(&self.generation()) }
    }

    /// How the files looked when they were read last.
    pub(crate) fn last_read(&self) -> Look {
        self.last_read.lock().clone()
    }

    /// Reads the file again and puts it in force, or says why not; the log says the same. `None` without a file.
    pub(crate) fn reload(&self) -> Option<Result<String, String>> {
        let (file, _) = self.parts.file.as_ref()?;
        let _one_at_a_time = self.one_at_a_time.lock();
        systemd::reloading();
        self.last_read.lock().config = Stamp::of(file);
        let outcome = match proxy_config::load(file) {
            Err(mistakes) => Err(mistakes.to_string()),
            Ok(loaded) => {
                for warning in loaded.warnings.iter() {
                    tracing::warn!("{}:{}:{}: {}", file.display(), warning.line, warning.column, warning.message);
                }
                self.put_in_force(loaded.config).map_err(|error| error.to_string())
            }
        };
        match &outcome {
            Ok(told) => tracing::info!(reloads = self.reloads(), "reloaded: {told}"),
            Err(why) => tracing::error!("not reloaded, the configuration in force stays: {why}"),
        }
        systemd::ready();
        Some(outcome)
    }

    /// Reads the certificates again.
    pub(crate) fn reload_certificates(&self) {
        let _one_at_a_time = self.one_at_a_time.lock();
        let generation = self.generation();
        // If they cannot be used they are tried again once they have changed again.
        self.last_read.lock().certificates = stamps(&generation);
        match HttpGeneration::new(generation, &self.parts.tls) {
            Ok(http) => {
                self.http.send_replace(Arc::new(http));
                tracing::info!("certificates have changed on disk and are in force");
            }
            Err(error) => tracing::error!("certificates have changed on disk, the former ones stay in force: {error}"),
        }
    }

    fn put_in_force(&self, mut config: Config) -> Result<String, Box<dyn Error>> {
        let Parts { table: counts, tls, descriptors, added, access, .. } = &self.parts;
        let before = self.generation();
        let mut notes = Vec::new();
        let not_applied = changes::take_back(&before.settings, &mut config.settings);
        if !not_applied.is_empty() {
            notes.push(format!("not applied, restart for it: {}", not_applied.join(", ")));
        }
        if let Fit::Lowered { to, .. } =
            descriptors::fit(&mut config.settings.limits, *descriptors).map_err(|error| error.to_string())?
        {
            notes.push(format!("maxConnections is lowered to {to}, which is what file descriptors allow"));
        }
        let routes: Vec<&Route> = before.table.routes().iter().map(|route| &***route).collect();
        for (old, new) in changes::renamed(&routes, &config.routes) {
            notes.push(format!(
                "route {new:?} seems to be {old:?} under a new name; its counts begin anew (an `id` keeps them)"
            ));
        }
        // With numbers that stand for nothing: the right ones are known when the limits are in force.
        let trial = RouteTable::new((0..).map_while(RouteId::new).zip(config.routes.iter().cloned()))?;
        let ports = TlsPorts::new(&config.settings, &trial, tls)?;
        let backends = TlsBackends::new(&trial, tls)?;
        let opened = self.open(&config, &trial)?;
        let access_log = match &config.settings.access_log {
            same if *same == before.settings.access_log => None,
            other => Some(Prepared::new(other.as_ref())?),
        };
        let ids = counts.reload(Instant::now(), limits::of(&config))?;

        let Config { settings, routes } = config;
        let table = RouteTable::new(ids.into_iter().zip(routes)).expect("the same routes were a table before");
        let generation = Arc::new(before.successor(settings, table));
        let look = stamps(&generation);
        logging::configure(&self.parts.log, &generation.settings.logging);
        let open: HashSet<u16> = generation.table.ports().map(|(port, _)| port).collect();
        self.http.send_replace(Arc::new(HttpGeneration::with_tls(Arc::clone(&generation), ports, backends)));
        self.generations.send_replace(Arc::clone(&generation));
        if let Some(prepared) = access_log {
            access.adopt(prepared);
        }
        let mut listening = self.listening.lock();
        listening.retain(|(port, _)| open.contains(port));
        for (port, listeners) in opened {
            listening.extend(places(&listeners).map(|place| (port, place)));
            for (worker, own) in added.iter().zip(listeners.into_workers()) {
                // A worker that is gone takes no more connections, and its listeners close here.
                own.into_iter().for_each(|listener| drop(worker.send(listener)));
            }
        }
        drop(listening);
        self.last_read.lock().certificates = look;
        // Ordering: see `reloads`.
        self.reloads.fetch_add(1, Ordering::Relaxed);
        notes.insert(0, format!("{} routes are in force", generation.table.routes().len()));
        Ok(notes.join("; "))
    }

    /// Opens the ports that are not open yet.
    fn open(&self, config: &Config, table: &RouteTable) -> Result<Vec<(u16, Listeners)>, Box<dyn Error>> {
        let open: HashSet<u16> = self.listening.lock().iter().map(|(port, _)| *port).collect();
        let workers = NonZeroUsize::new(self.parts.added.len()).unwrap_or(NonZeroUsize::MIN);
        let fresh = table.ports().map(|(port, _)| port).filter(|port| !open.contains(port));
        let bind = |port| {
            let mut listeners = Listeners::bind(&config.settings.bind, [port], workers)?;
            listeners.extend(Listeners::bind_unix(&config.settings.bind_unix, [port], workers)?);
            Ok((port, listeners))
        };
        fresh.map(bind).collect()
    }
}

fn stamps(generation: &Generation) -> Vec<Option<Stamp>> {
    certificate_files(generation).iter().map(|file| Stamp::of(file)).collect()
}
