//! Dropping the connection attempts of clients that keep knocking, in the kernel and before they cost an accept.
//!
//! Every refusal at accept is counted in a [`sketch`]. Whoever is refused too often goes on the [`list`], and from the list
//! comes a [`program`] that every listener of every worker attaches through its [`gate`], ten times a second at most. While
//! anybody is on the list, the tracker is asked again and again whom it would let in by now: those are lifted, and the next
//! SYN that their system sends by itself gets in.

mod gate;
mod list;
mod program;
mod sketch;

pub(crate) use gate::{Gate, detach};

use crate::{Generation, Live};
use conn_tracker::{Arrival, ClientKey, ConnectionTracker, Event, EventKind, Origin, Reason, Report};
use list::List;
use parking_lot::Mutex;
use program::Program;
use proxy_route::ShedSettings;
use sketch::Sketch;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// Who is shed, for all workers of a process: give the same one to each.
///
/// Does nothing, and takes no memory to speak of, while [`Settings::shed`](proxy_route::Settings::shed) is not set. See
/// there for when a client is shed and when it is lifted again.
pub struct Shed {
    started: Instant,
    /// There from the first refusal on that counts.
    sketch: OnceLock<Sketch>,
    arrivals: Mutex<Arrivals>,
    current: Mutex<Current>,
    programs: watch::Sender<Arc<Program>>,
    due: Notify,
    /// How many are on the list.
    clients: AtomicUsize,
}

/// Those who are to go on the list, until the next turn.
#[derive(Default)]
struct Arrivals {
    clients: Vec<(ClientKey, Reason)>,
    /// Whether a worker keeps the list, or has been woken to.
    attended: bool,
}

#[derive(Default)]
struct Current {
    list: List,
    /// Whether the list is to be attached again although nobody came or went.
    stale: bool,
    /// What the list was made by.
    settings: Option<ShedSettings>,
    /// How many clients the kernel takes, once it has refused more.
    room: Option<usize>,
    last_change: Option<Instant>,
}

/// No filter is younger than this when the next one is attached: so long at most does a client wait that could be let in.
const TURN: Duration = Duration::from_millis(100);
/// How soon it is looked again whether anybody could be let in, where the last look changed nothing.
const LOOK: Duration = Duration::from_millis(50);
/// More than this many in one turn wait for their next refusals.
const MOST_ARRIVALS: usize = 4096;

impl Shed {
    /// Sheds nobody yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            sketch: OnceLock::new(),
            arrivals: Mutex::default(),
            current: Mutex::default(),
            programs: watch::Sender::default(),
            due: Notify::new(),
            clients: AtomicUsize::new(0),
        })
    }

    /// How many clients are shed now.
    #[must_use]
    pub fn clients(&self) -> usize {
        // Ordering: a figure to be shown.
        self.clients.load(Ordering::Relaxed)
    }

    /// Takes note that a client was refused at accept.
    pub(crate) fn refused(&self, now: Instant, generation: &Generation, client: IpAddr, reason: Reason) {
        let Some(settings) = &generation.settings.shed else { return };
        // Shed clients reach no listener at all, and on some of them nobody is ever pending.
        if reason == Reason::PendingLimit {
            return;
        }
        let client = generation.settings.limits.prefixes.key(client);
        let millis = u64::try_from(now.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX);
        let knocks = self.sketch.get_or_init(Sketch::new).note(millis, client, settings.after_refusals_per_second);
        if !knocks || generation.is_spared(client) {
            return;
        }
        let mut arrivals = self.arrivals.lock();
        if arrivals.clients.len() < MOST_ARRIVALS {
            arrivals.clients.push((client, reason));
        }
        if !std::mem::replace(&mut arrivals.attended, true) {
            drop(arrivals);
            self.due.notify_one();
        }
    }

    /// Keeps the list, for ever; of all workers that do, one at a time.
    pub(crate) async fn keep(&self, tracker: &dyn ConnectionTracker, report: &dyn Report, mut live: Live) {
        loop {
            self.due.notified().await;
            let attendance = Attendance(self);
            let mut next = self.current.lock().last_change.and_then(|last| last.checked_add(TURN));
            loop {
                if let Some(next) = next {
                    tokio::time::sleep_until(next.into()).await;
                }
                let now = Instant::now();
                // From its start: what a turn takes does not make anybody wait longer.
                let Some(pause) = self.turn(now, live.current(), tracker, report) else { break };
                next = now.checked_add(pause);
            }
            drop(attendance);
        }
    }

    /// Brings the list up to date; how soon the next turn is due, if anybody is on it.
    fn turn(
        &self,
        now: Instant,
        generation: &Generation,
        tracker: &dyn ConnectionTracker,
        report: &dyn Report,
    ) -> Option<Duration> {
        let arrivals = std::mem::take(&mut self.arrivals.lock().clients);
        let mut current = self.current.lock();
        let Current { list, stale, settings, room, last_change } = &mut *current;
        if *settings != generation.settings.shed {
            *settings = generation.settings.shed;
            *room = None;
        }
        let mut changed = std::mem::take(stale);
        let mut added = Vec::new();
        match settings {
            None => changed |= list.clear(),
            Some(settings) => {
                let verdict = |client: ClientKey| {
                    let arrival = Arrival { origin: Origin::Client(client.network()), pending: false };
                    tracker.would_open(now, arrival).err().map(|rejection| rejection.reason)
                };
                changed |= list.review(now, |client| !generation.is_spared(client), verdict);
                let most = usize::try_from(settings.max_clients).unwrap_or(usize::MAX).min(room.unwrap_or(usize::MAX));
                changed |= list.cut(most);
                let until = now.checked_add(settings.hold_for).unwrap_or(now);
                for (client, reason) in arrivals {
                    let refused = reason == Reason::ClientRate || verdict(client).is_some();
                    if refused && list.add(client, reason, until, most) {
                        added.push((client, reason));
                    }
                }
            }
        }
        changed |= !added.is_empty();
        if changed {
            *last_change = Some(now);
            let program = Program::new(&list.clients(), generation.settings.limits.prefixes);
            list.cut(program.clients);
            // Ordering: see `clients`.
            self.clients.store(program.clients, Ordering::Relaxed);
            self.programs.send_replace(Arc::new(program));
        }
        for (client, reason) in added.into_iter().filter(|(client, _)| list.contains(*client)) {
            let source = Some(client.network());
            report.event(Event { kind: EventKind::Shed, reason: reason.label(), route: None, source });
        }
        (!list.is_empty()).then_some(if changed { TURN } else { LOOK })
    }

    /// Takes note that the kernel does not take a program for so many clients, for which the answer is where to look.
    fn does_not_fit(&self, clients: usize, advice: &str) {
        let mut current = self.current.lock();
        let room = clients / 2;
        if current.room.is_none_or(|known| room < known) {
            current.room = Some(room);
            current.stale = true;
            tracing::warn!(
                "the kernel does not take a filter for {clients} clients; {room} are shed at most: {advice}"
            );
        }
    }
}

impl fmt::Debug for Shed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shed").field("clients", &self.clients()).finish_non_exhaustive()
    }
}

/// The turn of one worker to keep the list; the next one takes over what is left.
struct Attendance<'a>(&'a Shed);

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        let Self(shed) = self;
        let left = !shed.current.lock().list.is_empty();
        let mut arrivals = shed.arrivals.lock();
        arrivals.attended = left || !arrivals.clients.is_empty();
        if arrivals.attended {
            shed.due.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
