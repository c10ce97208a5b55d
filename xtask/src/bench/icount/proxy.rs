//! The hot paths of the proxy, as it is shipped: driven one unit after the other.
//!
//! A refusal is not among them: it takes so few instructions that what the proxy does by the clock drowns them.

use super::super::{
    Bench,
    client::{Client, KEPT},
    peers::{Listener, Setup, Smartproxy, Started},
};
use super::{VALGRIND, instructions, steps};
use crate::Outcome;
use std::{
    fs,
    net::Ipv4Addr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// What is counted.
pub(super) struct HotPath {
    pub(super) name: &'static str,
    listener: Listener,
    /// The two numbers of units.
    units: [u64; 2],
    drive: Drive,
}

/// How units come about.
#[derive(Clone, Copy)]
enum Drive {
    /// Requests over one connection, of the backend that all scenarios share.
    Ask,
    /// A connection for each, in lock step.
    Connect,
}

/// All of them.
pub(super) const PATHS: &[HotPath] = &[
    HotPath {
        name: "http1",
        // HTTP/1.1 request on a kept connection
        listener: Listener::Http,
        units: [500, 3500],
        drive: Drive::Ask,
    },
    HotPath {
        name: "tls1",
        // the same inside TLS
        listener: Listener::Tls,
        units: [500, 3500],
        drive: Drive::Ask,
    },
    HotPath {
        name: "connect",
        // a connection, a request, a close
        listener: Listener::Http,
        units: [200, 8200],
        drive: Drive::Connect,
    },
    HotPath {
        name: "connect-tcp",
        // the same through a TCP route
        listener: Listener::Tcp,
        units: [200, 8200],
        drive: Drive::Connect,
    },
];

impl HotPath {
    /// Instructions per unit. What the clock or the kernel's scheduling add, they do not add each time: a count that is too
    /// much for `good` is taken again.
    pub(super) fn count(&self, program: &Smartproxy, bench: &Bench, good: impl Fn(u64) -> bool) -> Outcome<u64> {
        let mut least = u64::MAX;
        for _ in 0..ATTEMPTS {
            least = least.min(self.count_once(program, bench)?);
            if good(least) {
                break;
            }
        }
        Ok(least)
    }

    fn count_once(&self, program: &Smartproxy, bench: &Bench) -> Outcome<u64> {
        let [few, many] = self.units;
        let fail = |error| format!("{}: {error}", self.name);
        // What the proxy does by the clock takes a million instructions a second: both have to last as long.
        let (more, took) = self.run(program, bench, many, Duration::ZERO).map_err(fail)?;
        let (less, _) = self.run(program, bench, few, took).map_err(fail)?;
        Ok(more.saturating_sub(less) / (many - few))
    }

    /// The instructions of a whole life with so many units in it, which take as long as that at least, and how long they took.
    fn run(&self, program: &Smartproxy, bench: &Bench, units: u64, least: Duration) -> Outcome<(u64, Duration)> {
        let mut in_steps = match self.drive {
            Drive::Ask => None,
            Drive::Connect => Some(steps::Backend::start()?),
        };
        let port = in_steps.as_ref().map_or_else(|| Ok(bench.backend.port()), steps::Backend::port)?;
        let setup = Setup::new(bench.folder(), &[self.listener], port)?;
        let log = bench.folder().join("valgrind.log");
        let mut proxy = Started::under(program, setup, |command| {
            let mut counted = Command::new("valgrind");
            counted
                .args(VALGRIND)
                .arg(format!("--log-file={}", log.display()))
                .arg(command.get_program())
                .args(command.get_args());
            counted
        })?;
        let begin = Instant::now();
        match &mut in_steps {
            None => ask(&proxy, self.listener, units)?,
            Some(backend) => backend.connections(&proxy, self.listener, units)?,
        }
        let took = begin.elapsed();
        thread::sleep(least.saturating_sub(took));
        proxy.drain()?;
        let log = fs::read_to_string(&log).map_err(|error| format!("valgrind wrote no {}: {error}.", log.display()))?;
        let count = instructions(&log).ok_or_else(|| format!("valgrind counted nothing:\n{log}"))?;
        Ok((count, took))
    }
}

const ATTEMPTS: usize = 8;

fn ask(proxy: &Started, listener: Listener, units: u64) -> Outcome {
    let client = Client::connect(Ipv4Addr::LOCALHOST, listener, proxy.port(listener));
    let mut client = client.map_err(|error| format!("the client cannot connect: {error}."))?;
    (0..units).try_for_each(|_| answered(&mut client, KEPT))
}

fn answered(client: &mut Client, request: &[u8]) -> Outcome {
    match client.ask(request).map(|answer| answer.status) {
        Ok(200) => Ok(()),
        Ok(status) => Err(format!("a request was answered with {status}.")),
        Err(error) => Err(format!("a request failed: {error}.")),
    }
}
