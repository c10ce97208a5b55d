//! From a configuration to a running proxy: table, listeners, workers, admin endpoint.

use crate::access_log::{AccessLog, Flush};
use crate::descriptors::{self, Fit};
use crate::report::{Access, Chronicle};
use crate::status::ProxyStatus;
use crate::{control, limits};
use conn_tracker::Report;
use limits_core::{Table, TableConfig};
use log_dedup::Ticker;
use proxy_admin::Admin;
use proxy_http::{HttpGeneration, HttpServer, TlsShared};
use proxy_route::{Config, RouteTable};
use proxy_tcp::{Drain, DrainWatch, Generation, Listeners, Live, Worker, WorkerListener};
use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// A running proxy.
pub(crate) struct Process {
    pub(crate) status: Arc<ProxyStatus>,
    pub(crate) admin: Option<SocketAddr>,
    drain: Drain,
    workers: Vec<JoinHandle<()>>,
    grace: Option<Duration>,
    _access: Option<Flush>,
    // Dropped last: it writes what the workers still had to say.
    _log: Ticker,
}

impl Process {
    /// Opens every listener and starts every thread.
    ///
    /// # Errors
    /// What stands in the way, as a sentence; nothing is left running then.
    pub(crate) fn start(mut config: Config) -> Result<Self, Box<dyn Error>> {
        let descriptors = descriptors::raise();
        match descriptors::fit(&mut config.settings.limits, descriptors) {
            Ok(Fit::Unchanged) => {}
            Ok(Fit::Lowered { to, descriptors }) => {
                tracing::warn!(
                    "maxConnections is lowered to {to}: the process may have {descriptors} file descriptors"
                );
            }
            Err(too_few) => return Err(too_few.to_string().into()),
        }
        let since = Instant::now();
        let table = Table::new(table_config(&config), limits::of(&config), since)?;
        let (grace, admin) = (config.settings.timeouts.graceful_shutdown, config.settings.admin.clone());
        let threads = config.settings.workers.or_else(|| std::thread::available_parallelism().ok());
        let threads = threads.unwrap_or(NonZeroUsize::MIN);
        let routes = RouteTable::new(table.route_ids().into_iter().zip(config.routes))?;
        let generation = Arc::new(Generation::new(config.settings, routes));
        let http = Arc::new(HttpGeneration::new(Arc::clone(&generation), &TlsShared::new()?)?);

        let ports = generation.table.ports().map(|(port, _)| port);
        let listeners = Listeners::bind(&generation.settings.bind, ports, threads)?;
        let admin = match admin {
            None => None,
            Some(admin) => {
                let listener = TcpListener::bind(admin.listen)
                    .map_err(|error| format!("admin.listen: {} cannot be opened: {error}", admin.listen))?;
                Some((listener, admin.token))
            }
        };

        let names = Arc::clone(&table);
        let name = move |route| Some(names.route_key(conn_tracker::RouteId::new(route)?)?.to_owned());
        let (access, flush) = match &generation.settings.access_log {
            None => (None, None),
            Some(settings) => {
                let (log, flush) = AccessLog::start(settings)
                    .map_err(|error| format!("accessLog.path: the file cannot be opened: {error}"))?;
                log.reopen_on_hangup()?;
                (Some(Access { log, table: Arc::clone(&table) }), Some(flush))
            }
        };
        let chronicle = Arc::new(Chronicle::new(&generation.settings.logging, name, access));
        let log = Ticker::start(&chronicle.log)?;
        let (drain, watch) = Drain::new();
        let status = Arc::new(ProxyStatus {
            table: Arc::clone(&table),
            chronicle: Arc::clone(&chronicle),
            generation: Arc::clone(&generation),
            listeners: listeners.addresses().to_vec(),
            workers: threads.get(),
            started: SystemTime::now(),
            since,
            draining: AtomicBool::new(false),
        });
        let address = admin.as_ref().map(|(listener, _)| listener.local_addr()).transpose()?;
        let admin = admin.map(|(listener, token)| {
            let status: Arc<dyn proxy_admin::Status> = Arc::<ProxyStatus>::clone(&status);
            Admin::new(listener, token, status)
        });
        control::start(admin.transpose()?, Arc::clone(&table))?;
        let shared = Shared { generation, http, table, report: chronicle };
        let workers = listeners.into_workers().into_iter().enumerate();
        let workers: Result<Vec<_>, _> =
            workers.map(|(number, own)| shared.start_worker(number, own, watch.clone())).collect();
        Ok(Self { status, admin: address, drain, workers: workers?, grace, _access: flush, _log: log })
    }

    /// Lets every connection finish, for as long as the configuration grants; whether all did.
    pub(crate) async fn drain(self) -> bool {
        let Self { status, drain, workers, grace, .. } = self;
        // Ordering: the flag stands for itself.
        status.draining.store(true, Ordering::Relaxed);
        drain.start();
        let finished = drain.finished();
        let all = match grace {
            None => {
                finished.await;
                true
            }
            Some(grace) => tokio::time::timeout(grace, finished).await.is_ok(),
        };
        // Threads with unfinished connections are left to the end of the process.
        for worker in workers.into_iter().filter(JoinHandle::is_finished) {
            drop(worker.join());
        }
        all
    }
}

fn table_config(config: &Config) -> TableConfig {
    let limits = &config.settings.limits;
    TableConfig { prefixes: limits.prefixes, tracked_clients: limits.tracked_clients, ..TableConfig::default() }
}

/// What the workers share.
struct Shared {
    generation: Arc<Generation>,
    http: Arc<HttpGeneration>,
    table: Arc<Table>,
    report: Arc<Chronicle>,
}

impl Shared {
    fn start_worker(
        &self,
        number: usize,
        listeners: Vec<WorkerListener>,
        drain: DrainWatch,
    ) -> std::io::Result<JoinHandle<()>> {
        // The senders end here: this configuration is the only one there will be.
        let live = Live::new(watch::channel(Arc::clone(&self.generation)).1);
        let newest = watch::channel(Arc::clone(&self.http)).1;
        let tracker = self.table.for_worker();
        let report: Arc<dyn Report> = Arc::<Chronicle>::clone(&self.report);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Builder::new().name(format!("worker-{number}")).spawn(move || {
            runtime.block_on(async move {
                // A drain of the worker's own: it is finished when the worker's connections are.
                let (own, watch) = Drain::new();
                let http = Arc::new(HttpServer::new(newest, Arc::clone(&report), watch.clone()));
                let worker = Worker { tracker, report, live, drain: watch, http };
                let finishing = async move {
                    let mut drain = drain;
                    drain.draining().await;
                    own.start();
                    own.finished().await;
                };
                let (ended, ()) = tokio::join!(worker.run(listeners), finishing);
                if let Err(error) = ended {
                    tracing::error!("worker {number} cannot go on: {error}");
                    std::process::exit(WORKER_FAILED);
                }
            });
        })
    }
}

/// A worker without listeners would leave clients waiting in its queues: better to end and be restarted.
const WORKER_FAILED: i32 = 70;
