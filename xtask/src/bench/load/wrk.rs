//! `wrk`: requests over kept connections. What it asked for is counted where it arrives: in the backend.

use super::Load;
use crate::{
    Outcome,
    bench::{
        Bench,
        peers::{Listener, SERVER_NAME},
        process::Running,
        stats::Quantiles,
    },
};
use std::{
    fs,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

#[derive(Debug)]
pub(crate) struct Wrk {
    process: Running,
    served: Arc<AtomicU64>,
}

impl Wrk {
    pub(crate) fn start(listener: Listener, port: u16, bench: &Bench, duration: Duration) -> Outcome<Self> {
        let script = bench.folder().join("quantiles.lua");
        fs::write(&script, SCRIPT).map_err(|error| format!("{} cannot be written: {error}.", script.display()))?;
        let scheme = if listener.terminates() { "https" } else { "http" };
        let seconds = duration.as_secs() + 1;
        let mut command = Command::new("wrk");
        command.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s"), "-s"]).arg(script);
        command.arg(format!("{scheme}://{SERVER_NAME}:{port}/")).stdout(Stdio::piped()).stdin(Stdio::null());
        let process =
            Running::start(&mut command).map_err(|error| format!("{error} Get it with: apt-get install wrk"))?;
        Ok(Self { process, served: bench.backend.served() })
    }
}

impl Load for Wrk {
    fn units(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    fn finish(mut self: Box<Self>) -> Outcome<Option<Quantiles>> {
        judge(&self.process.output()?).map(Some)
    }
}

/// What `wrk` says about answers that it did not want, and about how long the others took.
fn judge(output: &str) -> Outcome<Quantiles> {
    if let Some(line) = output.lines().find(|line| line.contains("Socket errors") || line.contains("Non-2xx")) {
        return Err(format!("the load saw errors:{line}"));
    }
    let numbers = output.lines().find_map(|line| line.strip_prefix("quantiles "));
    let numbers: Vec<u64> =
        numbers.into_iter().flat_map(str::split_whitespace).filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [p50, p99, p999] => {
            let [p50, p99, p999] = [p50, p99, p999].map(Duration::from_micros);
            Ok(Quantiles { p50, p99, p999 })
        }
        _ => Err(format!("wrk did not finish:\n{output}")),
    }
}

const CONNECTIONS: usize = 64;
/// It prints no more than the 99th percentile by itself.
const SCRIPT: &str = r#"
done = function(_, latency, _)
   io.write(string.format("quantiles %d %d %d\n", latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_with_errors_has_no_figures() {
        let good = "  1000 requests in 2.00s, 1.3MB read\nRequests/sec: 500\nquantiles 700 1500 2100\n";
        assert_eq!(judge(good).unwrap().p999, Duration::from_micros(2100));
        for output in [
            "  1000 requests in 2.00s\n  Socket errors: connect 0, read 7, write 0, timeout 0\nquantiles 1 2 3\n",
            "  1000 requests in 2.00s\n  Non-2xx or 3xx responses: 4\nquantiles 1 2 3\n",
            "unable to connect to 127.0.0.1:1 Connection refused\n",
        ] {
            assert!(judge(output).is_err(), "{output}");
        }
    }
}
