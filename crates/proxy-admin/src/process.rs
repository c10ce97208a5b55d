//! What the kernel says of this process.

use std::fs;
use std::io;

/// Ticks a second in `/proc`: a constant of Linux's interface on every platform that Rust's standard library supports
/// well, whatever the kernel's own tick is.
const TICKS: f64 = 100.0;

/// Figures of this process. Each is `None` where the system does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Process {
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) virtual_bytes: Option<u64>,
    pub(crate) cpu_seconds: Option<f64>,
    /// Since 1970.
    pub(crate) start_seconds: Option<f64>,
    pub(crate) open_fds: Option<u64>,
    pub(crate) max_fds: Option<u64>,
}

impl Process {
    pub(crate) fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let mut process = Self::parse(
            &read("/proc/self/stat"),
            &read("/proc/self/status"),
            &read("/proc/self/limits"),
            &read("/proc/stat"),
        );
        process.open_fds = open_descriptors().ok();
        process
    }

    fn parse(stat: &str, status: &str, limits: &str, system: &str) -> Self {
        // The second field is the program's name in parentheses; it may contain anything.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
        // By their numbers in proc(5), less the two fields that were cut off and counted from 0.
        let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let kilobytes = |key| number_after(status, key).map(|kilobytes| kilobytes * 1024);
        let boot = number_after(system, "btime");
        Self {
            resident_bytes: kilobytes("VmRSS:"),
            virtual_bytes: kilobytes("VmSize:"),
            cpu_seconds: ticks(14).zip(ticks(15)).map(|(user, kernel)| (user + kernel) / TICKS),
            start_seconds: boot.zip(ticks(22)).map(|(boot, after)| boot as f64 + after / TICKS),
            open_fds: None,
            max_fds: number_after(limits, "Max open files"),
        }
    }
}

fn open_descriptors() -> io::Result<u64> {
    let listed = fs::read_dir("/proc/self/fd")?.count() as u64;
    // The listing itself is one of them.
    Ok(listed.saturating_sub(1))
}

/// The first number of the line that begins with `key`.
fn number_after(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fields_whatever_the_program_is_called() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 4 0 1000 99 88";
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024    4096    files\n";
        let process = Process::parse(stat, "VmSize:\t  20 kB\nVmRSS:\t  10 kB\n", limits, "cpu 1\nbtime 5000\n");
        let expected = Process {
            resident_bytes: Some(10_240),
            virtual_bytes: Some(20_480),
            cpu_seconds: Some(3.0),
            start_seconds: Some(5010.0),
            open_fds: None,
            max_fds: Some(1024),
        };
        assert_eq!(process, expected);
    }

    #[test]
    fn what_the_system_does_not_tell_is_absent() {
        assert_eq!(Process::parse("", "", "Max open files unlimited", ""), Process::default());
    }

    #[test]
    fn this_process_has_figures() {
        let process = Process::read();
        assert!(process.resident_bytes.unwrap() > 100_000);
        assert!(process.open_fds.unwrap() >= 3 && process.max_fds.unwrap() >= process.open_fds.unwrap());
        assert!(process.start_seconds.unwrap() > 1.5e9 && process.cpu_seconds.is_some());
    }
}
