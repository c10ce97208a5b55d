//! Whose turn it is on the core that all load shares.
//!
//! The program `chrt` does what would take an unsafe call here. Without it, or without the right to, the load runs all the
//! same, but may be late itself.

use rustix::{process::setpriority_process, thread::gettid};
use std::{
    io,
    process::{Command, Stdio},
};

/// A thread as the kernel numbers it.
pub(crate) type Thread = i32;

/// The thread that asks.
pub(crate) fn this_thread() -> Thread {
    gettid().as_raw_nonzero().get()
}

/// Puts this thread behind everybody else on its core: a flood is no reason for others to be served late by the load
/// itself.
pub(super) fn last_in_line() -> io::Result<()> {
    // At once, where this may be had, or when its slice is used up.
    if !schedule("--idle", 0, this_thread()) {
        setpriority_process(None, 19)?;
    }
    Ok(())
}

/// Lets a thread run as soon as it has something to do, until the answer drops. Even one that is last in line is else left to
/// run until the next tick of the clock, 4 ms, once it runs.
pub(crate) fn first_in_line(thread: Thread) -> FirstInLine {
    schedule("--rr", 1, thread);
    FirstInLine(thread)
}

/// A thread that is never kept waiting.
#[must_use = "it waits its turn again when this drops"]
pub(crate) struct FirstInLine(Thread);

impl Drop for FirstInLine {
    fn drop(&mut self) {
        schedule("--other", 0, self.0);
    }
}

fn schedule(policy: &str, priority: u32, thread: Thread) -> bool {
    let (priority, thread) = (priority.to_string(), thread.to_string());
    let status = Command::new("chrt").args([policy, "--pid", &priority, &thread]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
