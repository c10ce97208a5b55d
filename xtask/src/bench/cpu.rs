//! Which core we run on, and how much CPU time a process has used.

use crate::Outcome;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::{fs, time::Duration};

/// Moves this thread to one core; threads and processes that it starts from then on begin there too.
pub(crate) fn pin(core: usize) -> Outcome {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores)
        .map_err(|error| format!("Core {core} is not ours ({error}): the bench needs two cores."))
}

/// User and system time of a process with all its threads, those that have ended included, and of its children.
///
/// The resolution is the kernel's tick, 10 ms.
pub(crate) fn used(pid: u32) -> Outcome<Duration> {
    let stat = read(pid).ok_or_else(|| format!("Process {pid} has ended."))?;
    let ticks: u64 = stat.ticks + children(pid).into_iter().filter_map(read).map(|child| child.ticks).sum::<u64>();
    Ok(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100))
}

/// The processes that a process has started and that still run.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| read(*pid).is_some_and(|stat| stat.parent == parent)).collect()
}

struct Stat {
    parent: u32,
    ticks: u64,
}

fn read(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields of proc(5), counted from 1: 4 is the parent, 14 and 15 are user and system time.
fn parse(stat: &str) -> Option<Stat> {
    // The second field is the program's name in parentheses, which may hold blanks and parentheses itself.
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat { parent: u32::try_from(field(4)?).ok()?, ticks: field(14)? + field(15)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let stat = parse("77 (a) b (c) S 42 77 77 0 -1 4194304 100 0 1 0 7 5 9 9 20 0 1 0 220844").unwrap();
        assert_eq!((stat.parent, stat.ticks), (42, 12));
        assert!(parse("77 (a").is_none() && parse("77 (a) S").is_none());
    }

    #[test]
    fn work_is_seen() {
        let me = std::process::id();
        let before = used(me).unwrap();
        let start = std::time::Instant::now();
        while used(me).unwrap() == before {
            assert!(start.elapsed() < Duration::from_secs(10), "a busy loop used no CPU time");
        }
    }
}
