//! Programs that run beside us and end with us.

use super::cpu;
use crate::Outcome;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::Read,
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

/// A started program. When it drops, the program and the processes that it started are ended, by their ids.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Starts the program.
    pub(crate) fn start(command: &mut Command) -> Outcome<Self> {
        let child = command.spawn();
        let child =
            child.map_err(|error| format!("{} could not be started: {error}.", command.get_program().display()))?;
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
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return; // its id may be somebody else's by now
        }
        // Looked up first: the children of a process that has ended belong to somebody else.
        let children = cpu::children(self.pid());
        signal(self.pid(), Signal::TERM);
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > PATIENCE {
                for child in children {
                    signal(child, Signal::KILL);
                }
                // Either fails only when the process has ended, which is the aim.
                drop(self.child.kill());
                drop(self.child.wait());
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A port of this machine that nobody listens on.
pub(crate) fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).map_err(|error| format!("There is no free port: {error}."))
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Fails only when the process has ended, which is the aim.
        kill_process(pid, signal).unwrap_or(());
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_program_has_ended() {
        let running = Running::start(Command::new("sleep").arg("600")).unwrap();
        let pid = running.pid();
        assert!(cpu::children(std::process::id()).contains(&pid));
        drop(running);
        assert!(cpu::used(pid).is_err());
    }

    #[test]
    fn a_program_that_ends_early_is_reported() {
        let mut running = Running::start(&mut Command::new("false")).unwrap();
        assert!(running.wait_for(free_port().unwrap()).unwrap_err().contains("exit status: 1"));
    }
}
