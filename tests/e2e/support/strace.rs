//! Counting system calls of a worker.

use super::backend::Backend;
use super::ports::free_port;
use super::proxy::{Proxy, binary};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A proxy with one worker whose system calls are written down.
pub(crate) struct Traced {
    pub(crate) proxy: Proxy,
    output: PathBuf,
    _folder: tempfile::TempDir,
}

impl Traced {
    /// Starts it; `None`, with a word about it, where strace is missing.
    ///
    /// # Panics
    /// As [`super::is_installed`] does.
    pub(crate) fn start(routes_and_settings: &str) -> Option<Self> {
        if !super::is_installed("strace", "-V") {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let output = folder.path().join("calls");
        let mut command = Command::new("strace");
        // The proxy stays the child, so that signals go to it.
        command.args(["-D", "-f", "-qq", "-o"]).arg(&output).arg(binary()).stdin(Stdio::null());
        let proxy = Proxy::start_by(command, "workers: 1\n", routes_and_settings);
        Some(Self { proxy, output, _folder: folder })
    }

    /// The same with one HTTP route to `backend`, where a client may have so many connections; and where it listens.
    ///
    /// # Panics
    /// As [`Traced::start`] does.
    pub(crate) fn limited(connections_of_a_client: usize, backend: &Backend) -> Option<(Self, SocketAddr)> {
        let port = free_port();
        let traced = Self::start(&format!(
            "bind: [\"127.0.0.1\"]
maxConnectionsPerIP: {connections_of_a_client}
connectionRateLimitPerMinute: 0
routes:
  - name: web
    match: {{ ports: {port}, protocol: http }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {} }}] }}
",
            backend.port()
        ))?;
        Some((traced, SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
    }

    /// Stops the proxy: whatever happens until [`Traced::go_on`] is there when it wakes up.
    pub(crate) fn stop(&self) {
        self.proxy.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.proxy.pid());
        loop {
            let text = std::fs::read_to_string(&stat).expect("the process is ours");
            let state = text.rsplit(") ").next().and_then(|rest| rest.chars().next());
            if matches!(state, Some('T' | 't')) {
                return;
            }
            std::thread::yield_now();
        }
    }

    pub(crate) fn go_on(&self) {
        let pid = Pid::from_raw(self.proxy.pid().cast_signed()).expect("a process");
        kill_process(pid, Signal::CONT).expect("the process is ours");
    }

    /// Every call that the worker has finished so far: its name and result.
    pub(crate) fn calls(&self) -> Vec<(String, String)> {
        self.lines().iter().filter_map(|line| parse(line)).collect()
    }

    /// What strace has said of the worker so far, a line for each call, or one for each half of a call that was interrupted
    /// by others: what is sent stands in the first half, what is received in the second.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.output).expect("strace writes it");
        // Whoever accepts, and is not the admin endpoint's thread, which accepts too: it has a listener of its own.
        let worker = self.worker();
        let lines = text.lines().filter_map(|line| line.trim_start().split_once(char::is_whitespace));
        lines.filter(|(thread, _)| *thread == worker).map(|(_, line)| line.trim_start().to_owned()).collect()
    }

    fn worker(&self) -> String {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.proxy.pid())).expect("the process is ours");
        let is_worker = |task: &std::fs::DirEntry| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "worker-0")
        };
        let task = tasks.filter_map(Result::ok).find(is_worker).expect("it has a worker");
        task.file_name().into_string().expect("a number")
    }
}

/// `accept4(9, …) = 11`, or the second half of one that was interrupted by others: `<... accept4 resumed>…) = 11`.
fn parse(line: &str) -> Option<(String, String)> {
    let (call, result) = line.rsplit_once(" = ")?;
    let name = match call.strip_prefix("<... ") {
        Some(resumed) => resumed.split(' ').next()?,
        None => call.split('(').next()?,
    };
    Some((name.to_owned(), result.trim().to_owned()))
}

/// How often each call was made.
pub(crate) fn by_name(calls: &[(String, String)]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    calls.iter().for_each(|(name, _)| *counts.entry(name.as_str()).or_default() += 1);
    counts
}
