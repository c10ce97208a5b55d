//! What the tests are made of: the proxy as a process, backends, clients, and proof that nothing is left behind.

pub(crate) mod admin;
pub(crate) mod backend;
pub(crate) mod certs;
pub(crate) mod client;
pub(crate) mod http;
pub(crate) mod leftovers;
pub(crate) mod ports;
pub(crate) mod proxy;
pub(crate) mod strace;

use std::time::Duration;

/// Runs a test body on eight threads.
pub(crate) fn on_eight_threads<T>(body: impl Future<Output = T>) -> T {
    raise_descriptor_limit();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(8).enable_all().build().expect("a runtime starts").block_on(body)
}

/// Looks fifty times a second whether `condition` holds; panics with `what` if it does not after as many looks as
/// `limit` has room for. Looks are counted, not time: on a busy machine they take longer, like what they wait for.
pub(crate) async fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<(), String>) {
    let mut looks = limit.as_millis() / PAUSE.as_millis();
    while let Err(state) = condition() {
        assert!(looks > 0, "{what}, but after {limit:?}: {state}");
        looks -= 1;
        tokio::time::sleep(PAUSE).await;
    }
}

const PAUSE: Duration = Duration::from_millis(20);

/// A figure of a process in KiB, by its name in `/proc/PID/status`.
pub(crate) fn memory(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field is there");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Whether a program is there that a test cannot do without; a word about it if it is not. `version` has it do no more
/// than to say its version.
///
/// # Panics
/// If it is missing where everything is to be tested: with `CI` set, no test is skipped.
pub(crate) fn is_installed(program: &str, version: &str) -> bool {
    let mut command = std::process::Command::new(program);
    let found = command.arg(version).output().is_ok_and(|output| output.status.success());
    if !found {
        assert!(std::env::var_os("CI").is_none(), "{program} is missing; install it");
        eprintln!("skipped: {program} is missing");
    }
    found
}

/// Whether the machine has nothing else to do, so that times mean something: told by this variable.
pub(crate) fn is_quiet() -> bool {
    std::env::var_os("SMARTPROXY_QUIET").is_some()
}

/// How long a bystander of an attack may wait on a quiet machine.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// Only one of the tests that open thousands of sockets or measure memory runs at a time.
pub(crate) async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit may be raised to the hard one");
}
