//! Programs that run beside us and end with us: when their owner drops, when we panic, when we are interrupted.

use super::proc;
use crate::Outcome;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// A started program. When it drops, the program and all that it started are ended, by their ids.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Starts the program.
    pub(crate) fn start(command: &mut Command) -> Outcome<Self> {
        // Held until the child is in the list: a signal in between would leave it behind.
        let mut started = started();
        let child = command.spawn();
        let child =
            child.map_err(|error| format!("{} could not be started: {error}.", command.get_program().display()))?;
        started.insert(child.id());
        Ok(Self { child })
    }

    /// The id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the program ends by itself; what it wrote to a piped standard output.
    pub(crate) fn output(&mut self) -> Outcome<String> {
        let mut text = String::new();
        let read = self.child.stdout.take().map_or(Ok(0), |mut pipe| pipe.read_to_string(&mut text));
        let ended = read.and_then(|_| self.child.wait());
        ended.map(|_| text).map_err(|error| format!("Process {} cannot be waited for: {error}.", self.pid()))
    }

    /// Waits until the program accepts connections on a port of this machine.
    pub(crate) fn wait_for(&mut self, port: u16) -> Outcome {
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended with {status}."));
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("it does not listen on port {port} after {} s.", PATIENCE.as_secs()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Sends it a signal; its children get none.
    pub(crate) fn signal(&self, wanted: Signal) {
        signal(self.pid(), wanted);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = self.pid();
        if matches!(self.child.try_wait(), Ok(None)) {
            end(pid);
            // Fails only when somebody else has waited for it, and then it has ended too.
            drop(self.child.wait());
        }
        started().remove(&pid);
    }
}

/// A folder for the files of a run, removed with it.
pub(crate) fn temporary_folder() -> Outcome<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("smartproxy-bench-").tempdir();
    folder.map_err(|error| format!("A temporary folder cannot be made: {error}."))
}

/// From here on Ctrl-C, SIGTERM and a closed terminal end what we have started and remove `folder` before they end us.
pub(crate) fn end_with_us(folder: PathBuf) -> Outcome {
    let signals = Signals::new([SIGHUP, SIGINT, SIGTERM]);
    let mut signals = signals.map_err(|error| format!("Signals cannot be watched: {error}."))?;
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // Kept to the end, so that nothing is started any more.
            let started = started();
            started.iter().copied().for_each(end);
            drop(fs::remove_dir_all(&folder));
            eprintln!("\nInterrupted: everything that was started has been ended.");
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// A port of this machine that nobody listens on.
pub(crate) fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|error| format!("There is no free port: {error}."))
}

/// Ends a process and all below it. Parents first: some start a new child when one ends.
fn end(pid: u32) {
    for pid in proc::family(pid) {
        signal(pid, Signal::KILL);
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Fails only when the process has ended, which is the aim.
        kill_process(pid, signal).unwrap_or(());
    }
}

/// The ids of the programs that run.
fn started() -> MutexGuard<'static, BTreeSet<u32>> {
    static STARTED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_program_has_ended_and_so_have_its_children() {
        let running = Running::start(Command::new("sh").args(["-c", "sleep 600 & sleep 600; true"])).unwrap();
        let start = Instant::now();
        let family = loop {
            let family = proc::family(running.pid());
            if family.len() == 3 {
                break family;
            }
            assert!(start.elapsed() < PATIENCE, "{family:?}");
        };
        drop(running);
        assert!(!started().contains(&family[0]));
        // The parent is waited for; the others become somebody else's, who may take a moment to wait for them.
        assert!(proc::cpu(family[0]).is_err());
        while family.iter().any(|pid| proc::runs(*pid)) {
            assert!(start.elapsed() < PATIENCE, "{family:?}");
        }
    }

    #[test]
    fn a_program_that_ends_early_is_reported() {
        let mut running = Running::start(&mut Command::new("false")).unwrap();
        assert!(running.wait_for(free_port().unwrap()).unwrap_err().contains("exit status: 1"));
    }
}
