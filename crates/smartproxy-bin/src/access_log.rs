//! The access log: lines are made by the workers, kept in memory for a moment, and written by a thread of their own, which
//! is also the one to change where they go and how they look: a line is written where its settings say.

mod line;
mod output;

use conn_tracker::AccessRecord;
use output::Output;
use parking_lot::{Condvar, Mutex};
use proxy_route::{AccessLogSettings, LogFormat};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{SignalKind, signal};

/// Takes the records of all workers.
#[derive(Debug)]
pub(crate) struct AccessLog {
    /// Whether any record is written.
    on: AtomicBool,
    shards: Box<[Shard]>,
    dropped: AtomicU64,
    orders: Mutex<Orders>,
    ordered: Condvar,
    finished: Condvar,
}

/// The lines of the threads that share it. A cache line of its own, so that the locks of two threads do not meet.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    waiting: Vec<u8>,
    /// Connections seen: they have no id to be sampled by.
    connections: u64,
    /// How lines look; `None` while there is no log.
    style: Option<Style>,
}

/// How lines look, and which there are.
#[derive(Clone, Copy, Debug)]
struct Style {
    format: LogFormat,
    /// A record is written if its hash is below this; `None` is always.
    threshold: Option<u64>,
}

/// A log that can be written, and is not yet; or none.
#[derive(Debug)]
pub(crate) struct Prepared(Option<(Output, Style)>);

/// What the writing thread is to do.
#[derive(Debug, Default)]
struct Orders {
    change: Option<Prepared>,
    /// Changes that were made.
    changes: u64,
    reopen: bool,
    end: bool,
    ended: bool,
}

/// Writes what is left when it drops.
#[derive(Debug)]
pub(crate) struct Flush(Arc<AccessLog>);

/// How often lines are written.
const PERIOD: Duration = Duration::from_millis(200);
/// Bytes that may wait in a shard. Twice that while the disk is slow: the one half waits, the other is being written.
const ROOM: usize = 1 << 20;
/// Shards beyond this many would cost memory and spare no waiting.
const MOST_SHARDS: usize = 16;
/// How long the end of the process, or a reload, waits for a disk.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two reports of dropped lines.
const COMPLAINT: Duration = Duration::from_secs(5);

impl AccessLog {
    /// Starts the thread that writes the log, if there is one, and waits for one if not.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub(crate) fn start(Prepared(prepared): Prepared) -> io::Result<(Arc<Self>, Flush)> {
        let log = Arc::new(Self::new());
        let (output, style) = prepared.unzip();
        log.shards.iter().for_each(|shard| shard.0.lock().style = style);
        log.turn(style);
        let writing = Arc::clone(&log);
        Builder::new().name("access-log".to_owned()).spawn(move || writing.write(output))?;
        Ok((Arc::clone(&log), Flush(log)))
    }

    /// Has everything from now on written as `prepared`, and what was taken before as it was to be. Waits for that, unless
    /// the disk takes too long.
    pub(crate) fn adopt(&self, prepared: Prepared) {
        let mut orders = self.orders.lock();
        let before = orders.changes;
        orders.change = Some(prepared);
        self.ordered.notify_one();
        let waits = |orders: &mut Orders| orders.changes == before && !orders.ended;
        self.finished.wait_while_for(&mut orders, waits, PATIENCE);
    }

    /// Says whether any record is written.
    fn turn(&self, style: Option<Style>) {
        // Ordering: see `is_on`.
        self.on.store(style.is_some_and(|style| style.threshold != Some(0)), Ordering::Relaxed);
    }

    fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            on: AtomicBool::new(false),
            shards: (0..cores.next_power_of_two().min(MOST_SHARDS)).map(|_| Shard::default()).collect(),
            dropped: AtomicU64::new(0),
            orders: Mutex::default(),
            ordered: Condvar::new(),
            finished: Condvar::new(),
        }
    }

    /// Whether any record is written.
    pub(crate) fn is_on(&self) -> bool {
        // Ordering: it stands for itself. A record that is not taken for it, or in vain, is one at the turn of the log.
        self.on.load(Ordering::Relaxed)
    }

    /// Takes a record; `route` is the name of its route. Never waits for the disk.
    pub(crate) fn record(&self, record: &AccessRecord<'_>, route: Option<&str>) {
        let mut lines = self.shard().0.lock();
        let Some(Style { format, threshold }) = lines.style else { return };
        if let Some(threshold) = threshold {
            lines.connections += u64::from(record.request.is_none());
            let hash = record.request.map_or_else(|| mixed(lines.connections), |request| hash(request.id.as_bytes()));
            if hash >= threshold {
                return;
            }
        }
        let before = lines.waiting.len();
        line::write(&mut lines.waiting, format, SystemTime::now(), route, record);
        if lines.waiting.len() > ROOM {
            lines.waiting.truncate(before);
            drop(lines);
            self.drop_lines(1);
        }
    }

    /// Lines dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        // Ordering: a statistic.
        self.dropped.load(Ordering::Relaxed)
    }

    /// Has the file opened anew, soon: another one may be in its place.
    pub(crate) fn reopen(&self) {
        self.orders.lock().reopen = true;
        self.ordered.notify_one();
    }

    /// Reopens the file at every SIGHUP. To be called on a tokio runtime.
    ///
    /// # Errors
    /// If the signal cannot be listened for.
    pub(crate) fn reopen_on_hangup(self: &Arc<Self>) -> io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let log = Arc::clone(self);
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                log.reopen();
            }
        });
        Ok(())
    }

    fn drop_lines(&self, count: u64) {
        // Ordering: a statistic.
        self.dropped.fetch_add(count, Ordering::Relaxed);
    }

    fn shard(&self) -> &Shard {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            // Ordering: only that the numbers differ matters.
            static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        &self.shards[NUMBER.with(|number| *number) % self.shards.len()]
    }

    /// The thread that writes, until the end.
    fn write(&self, mut output: Option<Output>) {
        let (mut complained, mut known) = (Instant::now(), 0);
        let mut batch = Vec::new();
        loop {
            let (change, end) = {
                let mut orders = self.orders.lock();
                let waits = |orders: &mut Orders| !orders.end && !orders.reopen && orders.change.is_none();
                match &output {
                    Some(_) if waits(&mut orders) => _ = self.ordered.wait_for(&mut orders, PERIOD),
                    Some(_) => {}
                    None => self.ordered.wait_while(&mut orders, waits),
                }
                if std::mem::take(&mut orders.reopen)
                    && let Some(output) = &mut output
                {
                    drop(orders);
                    output.reopen();
                    orders = self.orders.lock();
                }
                (orders.change.take(), orders.end)
            };
            if let Some(output) = &mut output {
                output.follow(Instant::now());
            }
            let style = change.as_ref().map(|Prepared(prepared)| prepared.as_ref().map(|(_, style)| *style));
            for shard in &self.shards {
                {
                    let mut lines = shard.0.lock();
                    std::mem::swap(&mut batch, &mut lines.waiting);
                    lines.style = style.unwrap_or(lines.style);
                }
                if let Some(output) = &mut output {
                    self.drop_lines(output.write(&batch));
                }
                batch.clear();
                // A burst is not paid for ever.
                batch.shrink_to(KEPT);
            }
            if let Some(Prepared(prepared)) = change {
                self.turn(style.flatten());
                output = prepared.map(|(output, _)| output);
                self.orders.lock().changes += 1;
                self.finished.notify_all();
            }
            let dropped = self.dropped();
            if dropped > known && (end || complained.elapsed() >= COMPLAINT) {
                tracing::warn!(lines = dropped - known, "the access log could not take all lines: they are dropped");
                (complained, known) = (Instant::now(), dropped);
            }
            if end {
                break;
            }
        }
        self.orders.lock().ended = true;
        self.finished.notify_all();
    }
}

impl Prepared {
    /// Opens the log of a configuration.
    ///
    /// # Errors
    /// A file that cannot be opened.
    pub(crate) fn new(settings: Option<&AccessLogSettings>) -> Result<Self, String> {
        let Some(AccessLogSettings { output, format, sample }) = settings else { return Ok(Self(None)) };
        let output = Output::open(output.clone())
            .map_err(|error| format!("accessLog.path: the file cannot be opened: {error}"))?;
        // Exact enough: 2^64 has more digits than the share.
        let threshold = (*sample < 1.0).then_some((sample * u64::MAX as f64) as u64);
        Ok(Self(Some((output, Style { format: *format, threshold }))))
    }
}

/// Bytes of a buffer that are kept for its next use.
const KEPT: usize = 64 * 1024;

impl Drop for Flush {
    fn drop(&mut self) {
        let mut orders = self.0.orders.lock();
        orders.end = true;
        self.0.ordered.notify_one();
        let until = Instant::now() + PATIENCE;
        while !orders.ended && !self.0.finished.wait_until(&mut orders, until).timed_out() {}
    }
}

/// FNV-1a, spread over all bits: ids of one worker differ in their last digits only.
fn hash(bytes: &[u8]) -> u64 {
    mixed(
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)),
    )
}

/// The last step of `splitmix64`.
const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests;
