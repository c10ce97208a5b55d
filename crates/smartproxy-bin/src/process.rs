//! From a configuration to a running proxy: table, listeners, workers, admin endpoint.

use crate::access_log::{AccessLog, Flush, Prepared};
use crate::descriptors::{self, Fit};
use crate::logging::Log;
use crate::reload::{Parts, Reloader};
use crate::report::{Access, Chronicle};
use crate::status::ProxyStatus;
use crate::watch::Stamp;
use crate::{allocator, control, endpoint, limits, systemd};
use conn_tracker::Report;
use limits_core::{Table, TableConfig};
use log_dedup::Guard;
use proxy_admin::{Admin, EventCounters};
use proxy_http::{HttpServer, TlsShared};
use proxy_route::{Config, Endpoint, RouteTable, Settings};
use proxy_tcp::{Drain, DrainWatch, Generation, Listeners, Live, Shed, SocketFile, Timers, Worker, WorkerListener};
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Instant, SystemTime};
use tokio::sync::{Notify, mpsc};

/// A running proxy.
pub(crate) struct Process {
    pub(crate) status: Arc<ProxyStatus>,
    pub(crate) admin: Option<Endpoint>,
    drain: Drain,
    workers: Vec<JoinHandle<()>>,
    control: control::Control,
    _access: Flush,
    _admin: Option<SocketFile>,
    // Dropped last: it writes what the workers still had to say.
    _log: Guard,
}

impl Process {
    /// Opens every listener and starts every thread. `file` is what a reload reads, and how it looked;
    /// `log` is that of the process.
    ///
    /// # Errors
    /// What stands in the way, as a sentence; nothing is left running then.
    pub(crate) fn start(
        mut config: Config,
        file: Option<(PathBuf, Option<Stamp>)>,
        log: &Log,
    ) -> Result<Self, Box<dyn Error>> {
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
        let admin = config.settings.admin.clone();
        let threads = config.settings.workers.or_else(|| std::thread::available_parallelism().ok());
        let threads = threads.unwrap_or(NonZeroUsize::MIN);
        let routes = RouteTable::new(table.route_ids().into_iter().zip(config.routes))?;
        let generation = Arc::new(Generation::new(config.settings, routes));

        let prepared = Prepared::new(generation.settings.access_log.as_ref())?;
        let (access_log, flush) = AccessLog::start(prepared)?;
        access_log.reopen_on_hangup()?;
        let (listeners, listening) = open(&generation, threads)?;
        let channels = (0..threads.get()).map(|_| mpsc::unbounded_channel());
        let (senders, added): (Vec<_>, Vec<_>) = channels.unzip();
        let (tls, counts) = (TlsShared::new()?, Arc::clone(&table));
        let parts = Parts {
            file,
            table: counts,
            tls,
            descriptors,
            listening,
            added: senders,
            access: Arc::clone(&access_log),
            log: log.dedup.clone(),
        };
        let reloader = Arc::new(Reloader::new(parts, Arc::clone(&generation))?);
        let admin = match admin {
            None => None,
            Some(admin) => Some((endpoint::open(&admin.listen)?, admin.token)),
        };

        log.know(&table);
        let access = Access { log: access_log, table: Arc::clone(&table) };
        let chronicle = Arc::new(Chronicle { counters: EventCounters::new(log.dedup.clone()), access });
        let log = Guard::ticking(&log.dedup)?;
        let (drain, watch) = Drain::new();
        let shed = Shed::new();
        let status = Arc::new(ProxyStatus {
            table: Arc::clone(&table),
            chronicle: Arc::clone(&chronicle),
            reloader: Arc::clone(&reloader),
            shed: Arc::clone(&shed),
            workers: threads.get(),
            started: SystemTime::now(),
            since,
            draining: AtomicBool::new(false),
            drain: Notify::new(),
        });
        let (mut place, mut file) = (None, None);
        let admin = admin.map(|(opened, token)| {
            let listener = opened.listener;
            (place, file) = (Some(opened.place), opened.file);
            let status: Arc<dyn proxy_admin::Status> = Arc::<ProxyStatus>::clone(&status);
            Admin::new(listener, token, status)
        });
        let shared = Shared { reloader, table: Arc::clone(&table), report: chronicle, shed };
        let (accepting, accepts) = std::sync::mpsc::channel();
        let workers = listeners.into_iter().zip(added).enumerate();
        let workers: Result<Vec<_>, _> =
            workers.map(|(number, own)| shared.start_worker(number, own, watch.clone(), accepting.clone())).collect();
        let workers = workers?;
        drop(accepting);
        if accepts.iter().count() < workers.len() {
            return Err("a worker ended while it started".into());
        }
        let control = control::start(admin.transpose()?, table, &status.reloader)?;
        Ok(Self { status, admin: place, drain, workers, control, _access: flush, _admin: file, _log: log })
    }

    /// Lets every connection finish, for as long as the configuration grants; whether all did.
    pub(crate) async fn drain(self) -> bool {
        let Self { status, drain, workers, control, .. } = self;
        let grace = status.reloader.generation().settings.timeouts.graceful_shutdown;
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
        control.end().await;
        all
    }
}

/// Opens every port, or takes it from whoever started the process: the listeners of each worker, and where they are.
#[expect(clippy::type_complexity, reason = "two lists, named at the only place that takes them")]
fn open(
    generation: &Generation,
    threads: NonZeroUsize,
) -> Result<(Vec<Vec<WorkerListener>>, Vec<(u16, String)>), Box<dyn Error>> {
    let mut handed = systemd::sockets();
    let mut workers: Vec<Vec<_>> = (0..threads.get()).map(|_| Vec::new()).collect();
    let mut listening = Vec::new();
    for (port, _) in generation.table.ports() {
        let Settings { bind, bind_unix, .. } = &generation.settings;
        let mut listeners = Listeners::bind_or_adopt(bind, [port], threads, &mut handed)?;
        listeners.extend(Listeners::bind_unix(bind_unix, [port], threads)?);
        listening.extend(places(&listeners).map(|place| (port, place)));
        workers.iter_mut().zip(listeners.into_workers()).for_each(|(all, own)| all.extend(own));
    }
    for address in handed.iter().filter_map(|socket| socket.local_addr().ok()) {
        tracing::warn!("the socket on {address} that was handed over is closed: no route is on it (see `bind`)");
    }
    Ok((workers, listening))
}

/// Where they listen, for those who look.
pub(crate) fn places(listeners: &Listeners) -> impl Iterator<Item = String> {
    let addresses = listeners.addresses().iter().map(ToString::to_string);
    addresses.chain(listeners.sockets().iter().map(|path| format!("unix:{}", path.display())))
}

fn table_config(config: &Config) -> TableConfig {
    let limits = &config.settings.limits;
    TableConfig { prefixes: limits.prefixes, tracked_clients: limits.tracked_clients }
}

/// What the workers share.
struct Shared {
    reloader: Arc<Reloader>,
    table: Arc<Table>,
    report: Arc<Chronicle>,
    shed: Arc<Shed>,
}

impl Shared {
    /// Starts a worker, which tells `accepting` when it watches its listeners.
    fn start_worker(
        &self,
        number: usize,
        (listeners, added): (Vec<WorkerListener>, mpsc::UnboundedReceiver<WorkerListener>),
        drain: DrainWatch,
        accepting: std::sync::mpsc::Sender<()>,
    ) -> std::io::Result<JoinHandle<()>> {
        let (generations, newest) = self.reloader.follow();
        let live = Live::new(generations);
        let tracker = self.table.for_worker();
        let report: Arc<dyn Report> = Arc::<Chronicle>::clone(&self.report);
        let shed = Arc::clone(&self.shed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(TURN).build()?;
        Builder::new().name(format!("worker-{number}")).spawn(move || {
            runtime.block_on(async move {
                // A drain of the worker's own: it is finished when the worker's connections are.
                let (own, watch) = Drain::new();
                let timers = Timers::new();
                let http = Arc::new(HttpServer::new(newest, Arc::clone(&report), watch.clone(), timers.clone()));
                let worker = Worker { tracker, report, live, drain: watch, http, timers, shed };
                let finishing = async move {
                    drain.draining().await;
                    own.start();
                    own.finished().await;
                };
                let running = async move {
                    if let Err(error) = worker.run_with(listeners, added).await {
                        tracing::error!("worker {number} cannot go on: {error}");
                        std::process::exit(WORKER_FAILED);
                    }
                };
                // Polled after the others: by now every listener is watched.
                let accepting = async move { accepting.send(()).unwrap_or_default() };
                tokio::spawn(allocator::hand_back());
                tokio::join!(biased; running, finishing, accepting);
            });
        })
    }
}

/// How many tasks have their turn before a worker looks for what has come meanwhile. A busy one reads, in one turn, what has
/// come for many connections, and then sends all they have to say: to look in between would tear that apart.
const TURN: u32 = 256;

/// A worker without listeners would leave clients waiting in its queues: better to end and be restarted.
const WORKER_FAILED: i32 = 70;
