//! What the kernel says about processes: who started whom, CPU time, resident memory; and on which core we run.

use super::load::Thread;
use crate::Outcome;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::{collections::HashMap, fs, time::Duration};

/// Moves this thread to these cores; threads and processes that it starts from then on begin there too.
pub(crate) fn pin(cores: &[usize]) -> Outcome {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set)
        .map_err(|error| format!("The cores {cores:?} are not ours ({error}): the bench needs two cores."))
}

/// User and system time of a process and all below it, ended threads included.
///
/// The resolution is the kernel's tick, 10 ms.
pub(crate) fn cpu(pid: u32) -> Outcome<Duration> {
    read(pid).ok_or_else(|| format!("Process {pid} has ended."))?;
    let ticks: u64 = family(pid).into_iter().filter_map(read).map(|stat| stat.ticks).sum();
    Ok(Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100))
}

/// Resident memory of a process and all below it, in bytes. Pages that they share count once in each.
pub(crate) fn resident(pid: u32) -> Outcome<u64> {
    // Not `statm`, which newer kernels keep as a sum of roughly synchronised parts.
    let of = |pid: u32| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).map(|rollup| rss(&rollup).unwrap_or(0));
    let own = of(pid).map_err(|error| format!("The memory of process {pid} cannot be read: {error}."))?;
    // One that has ended since it was listed has none.
    let others = family(pid).into_iter().filter(|other| *other != pid).filter_map(|other| of(other).ok());
    Ok(own + others.sum::<u64>())
}

/// A process and all below it that run, parents before their children.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (pid, stat) in pids.filter_map(|pid| Some((pid, read(pid)?))) {
        children.entry(stat.parent).or_default().push(pid);
    }
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next) {
        family.extend(children.remove(parent).unwrap_or_default());
        next += 1;
    }
    family
}

/// The threads of a process and of all below it.
pub(crate) fn threads(pid: u32) -> Vec<Thread> {
    let of = |pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let tasks = family(pid).into_iter().flat_map(of);
    tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

/// The first thread of a process that has this name.
pub(crate) fn thread_named(pid: u32, name: &str) -> Option<Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let named =
        |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name);
    tasks.filter(named).find_map(|task| task.file_name().to_str()?.parse().ok())
}

/// Whether a thread of a process waits for something to come.
pub(crate) fn sleeps(pid: u32, thread: Thread) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat"));
    stat.ok().and_then(|stat| parse(&stat)).is_some_and(|stat| stat.state == "S")
}

/// Whether a process runs; one that only waits to be waited for does not.
#[cfg(test)]
pub(crate) fn runs(pid: u32) -> bool {
    read(pid).is_some_and(|stat| stat.state != "Z")
}

struct Stat {
    state: String,
    parent: u32,
    ticks: u64,
}

fn read(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields of proc(5), counted from 1: 3 is the state, 4 the parent, 14 and 15 are user and system time.
fn parse(stat: &str) -> Option<Stat> {
    // The second field is the program's name in parentheses, which may hold blanks and parentheses itself.
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        state: (*fields.first()?).to_owned(),
        parent: u32::try_from(field(4)?).ok()?,
        ticks: field(14)? + field(15)?,
    })
}

/// The line `Rss:   1234 kB`, in bytes.
fn rss(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::this_thread;

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let stat = parse("77 (a) b (c) S 42 77 77 0 -1 4194304 100 0 1 0 7 5 9 9 20 0 1 0 220844").unwrap();
        assert_eq!((stat.state.as_str(), stat.parent, stat.ticks), ("S", 42, 12));
        assert!(parse("77 (a").is_none() && parse("77 (a) S").is_none());
    }

    #[test]
    fn all_threads_are_found() {
        let (begun, begins) = std::sync::mpsc::channel();
        let other = std::thread::Builder::new().name("another".to_owned()).spawn(move || {
            begun.send(this_thread()).unwrap();
            std::thread::park();
        });
        let other = other.unwrap();
        let another = begins.recv().unwrap();
        let threads = threads(std::process::id());
        assert!(threads.contains(&this_thread()) && threads.contains(&another));
        assert_eq!(thread_named(std::process::id(), "another"), Some(another));
        while !sleeps(std::process::id(), another) {
            std::thread::yield_now();
        }
        assert!(!sleeps(std::process::id(), this_thread()));
        other.thread().unpark();
        other.join().unwrap();
    }

    #[test]
    fn work_is_seen() {
        let me = std::process::id();
        let before = cpu(me).unwrap();
        let start = std::time::Instant::now();
        while cpu(me).unwrap() == before {
            assert!(start.elapsed() < Duration::from_secs(10), "a busy loop used no CPU time");
        }
    }

    #[test]
    fn memory_is_seen() {
        assert_eq!(rss("55c0-7ffd ---p [rollup]\nRss:    900 kB\nPss:    10 kB\n"), Some(921_600));
        let before = resident(std::process::id()).unwrap();
        let touched = vec![1_u8; 32 << 20];
        let after = resident(std::process::id()).unwrap();
        assert!(after > before + (touched.len() as u64) / 2, "{before} then {after}");
    }
}
