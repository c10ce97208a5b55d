//! `h2load`: HTTP/2, many streams on few connections. What it asked for is counted where it arrives: in the backend.

use super::Load;
use crate::{
    Outcome,
    bench::{Bench, peers::SERVER_NAME, process::Running, stats::Quantiles},
};
use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

#[derive(Debug)]
pub(crate) struct H2load {
    process: Running,
    served: Arc<AtomicU64>,
    log: PathBuf,
}

impl H2load {
    pub(crate) fn start(port: u16, bench: &Bench, duration: Duration) -> Outcome<Self> {
        let log = bench.folder().join("h2load.log");
        // It appends to what is there.
        if log.exists() {
            fs::remove_file(&log).map_err(|error| format!("{} cannot be removed: {error}.", log.display()))?;
        }
        let seconds = duration.as_secs() + 1;
        let mut command = Command::new("h2load");
        command.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-m{STREAMS}"), &format!("-D{seconds}")]);
        command.arg(format!("--log-file={}", log.display())).arg(format!("--connect-to=127.0.0.1:{port}"));
        command.arg(format!("https://{SERVER_NAME}:{port}/"));
        command.stdout(Stdio::piped()).stdin(Stdio::null());
        let process = Running::start(&mut command)
            .map_err(|error| format!("{error} Get it with: apt-get install nghttp2-client"))?;
        Ok(Self { process, served: bench.backend.served(), log })
    }
}

impl Load for H2load {
    fn units(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    fn finish(mut self: Box<Self>) -> Outcome<Option<Quantiles>> {
        let output = self.process.output()?;
        let log = fs::read_to_string(&self.log);
        let log = log.map_err(|error| format!("h2load wrote no log ({error}) and said:\n{output}"))?;
        judge(&output, &log).map(Some)
    }
}

/// One line per request: when it began, its status, and how many microseconds it took.
fn judge(output: &str, log: &str) -> Outcome<Quantiles> {
    let mut latencies = Vec::new();
    for line in log.lines() {
        let mut columns = line.split_whitespace().skip(1);
        let (status, micros) = (columns.next(), columns.next().and_then(|micros| micros.parse().ok()));
        match (status, micros) {
            (Some("200"), Some(micros)) => latencies.push(Duration::from_micros(micros)),
            _ => return Err(format!("the load saw errors: {line}")),
        }
    }
    if !output.contains("Application protocol: h2") {
        return Err(format!("this was no HTTP/2:\n{output}"));
    }
    Quantiles::of(latencies).ok_or_else(|| format!("h2load did not finish:\n{output}"))
}

const CONNECTIONS: usize = 16;
const STREAMS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_with_errors_has_no_figures() {
        let good = "Application protocol: h2\nfinished in 1.00s\n";
        let quantiles = judge(good, "1700000000000000\t200\t120\n1700000000000000\t200\t140\n").unwrap();
        assert_eq!(quantiles.p999, Duration::from_micros(140));
        for (output, log) in [
            (good, ""),
            (good, "1700000000000000\t503\t120\n"),
            (good, "1700000000000000\t-1\t120\n"),
            ("Application protocol: http/1.1\n", "1700000000000000\t200\t120\n"),
        ] {
            assert!(judge(output, log).is_err(), "{output} {log}");
        }
    }
}
