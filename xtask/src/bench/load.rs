//! Clients: `wrk` for requests, a loop of our own for connections that are refused.

use super::{
    backend::Backend,
    process::Running,
    scenarios::{CONNECTIONS, Listener, Scenario},
};
use crate::Outcome;
use rustix::net::sockopt::set_socket_linger;
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Load that has begun.
pub(crate) enum Load {
    Requests(Requests),
    Refusals(Refusals),
}

/// Begins the scenario's load on a port, for at least as long as `duration`.
pub(crate) fn start(scenario: &Scenario, port: u16, backend: &Backend, duration: Duration) -> Outcome<Load> {
    match scenario.listener {
        Listener::Http => Requests::start("http", port, backend, duration).map(Load::Requests),
        Listener::Tls => Requests::start("https", port, backend, duration).map(Load::Requests),
        Listener::Tcp => Refusals::start(port, scenario.client_limit).map(Load::Refusals),
    }
}

impl Load {
    /// Units of work done so far; read it twice and take the difference.
    pub(crate) fn units(&self) -> u64 {
        // Relaxed: nothing else is read by it.
        match self {
            Self::Requests(requests) => requests.served.load(Ordering::Relaxed),
            Self::Refusals(refusals) => refusals.refused.load(Ordering::Relaxed),
        }
    }

    /// Ends the load; an error if anything but the wanted answer was seen, for then the figures mean nothing.
    pub(crate) fn finish(self) -> Outcome {
        match self {
            Self::Requests(requests) => requests.finish(),
            Self::Refusals(refusals) => refusals.finish(),
        }
    }
}

/// `wrk`, whose work is counted where it arrives: in the backend.
pub(crate) struct Requests {
    wrk: Running,
    served: Arc<AtomicU64>,
}

impl Requests {
    fn start(scheme: &str, port: u16, backend: &Backend, duration: Duration) -> Outcome<Self> {
        let seconds = duration.as_secs() + 1;
        let mut command = Command::new("wrk");
        command.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s")]);
        command.arg(format!("{scheme}://127.0.0.1:{port}/")).stdout(Stdio::piped()).stdin(Stdio::null());
        let wrk = Running::start(&mut command).map_err(|error| format!("{error} Get it with: apt-get install wrk"))?;
        Ok(Self { wrk, served: backend.served() })
    }

    fn finish(mut self) -> Outcome {
        judge(&self.wrk.output()?)
    }
}

/// What `wrk` says about answers that it did not want.
fn judge(output: &str) -> Outcome {
    match output.lines().find(|line| line.contains("Socket errors") || line.contains("Non-2xx")) {
        Some(line) => Err(format!("the load saw errors:{line}")),
        None if !output.contains("requests in") => Err(format!("wrk did not finish:\n{output}")),
        None => Ok(()),
    }
}

/// A client that holds as many connections as it may and keeps asking for more.
pub(crate) struct Refusals {
    refused: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    knocking: Vec<JoinHandle<io::Result<()>>>,
    /// What makes the client full.
    _held: Vec<TcpStream>,
}

impl Refusals {
    fn start(port: u16, limit: usize) -> Outcome<Self> {
        let held = (0..limit).map(|_| hold(port)).collect::<io::Result<Vec<_>>>();
        let held = held.map_err(|error| format!("a connection below the limit failed: {error}."))?;
        let refused = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let knock_on = || {
            let (refused, stop) = (refused.clone(), stop.clone());
            thread::spawn(move || {
                // Relaxed, both: a flag and a count that guard no other data.
                while !stop.load(Ordering::Relaxed) {
                    // The kernel completes connections before the proxy accepts them, so a whole burst waits for it.
                    let burst = (0..BURST).map(|_| connect(port)).collect::<Vec<_>>();
                    for stream in burst {
                        refusal(stream)?;
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(())
            })
        };
        let knocking = (0..KNOCKING).map(|_| knock_on()).collect();
        Ok(Self { refused, stop, knocking, _held: held })
    }

    fn finish(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.knocking {
            let outcome = thread.join().map_err(|_| "a client panicked.".to_owned())?;
            outcome.map_err(|error| format!("a connection above the limit was not refused: {error}."))?;
        }
        Ok(())
    }
}

/// Opens a connection that counts: the backend answers through it.
///
/// Tries again for a while, since the connections of the round before may not have been given back yet.
fn hold(port: u16) -> io::Result<TcpStream> {
    let start = Instant::now();
    loop {
        match answered(port) {
            Err(_) if start.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(10)),
            outcome => return outcome,
        }
    }
}

fn answered(port: u16) -> io::Result<TcpStream> {
    let mut stream = connect(port)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let mut bytes = [0; 4096];
    match stream.read(&mut bytes)? {
        0 => Err(io::Error::other("it was closed")),
        _ => Ok(stream),
    }
}

/// Waits for the end that the proxy makes of a connection; an answer or silence is an error.
fn refusal(stream: io::Result<TcpStream>) -> io::Result<()> {
    match stream.and_then(|mut stream| stream.read(&mut [0; 16])) {
        Ok(0) => Ok(()),
        Ok(_) => Err(io::Error::other("it was answered")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
    }
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Closing resets, so that neither side keeps tens of thousands of ports in TIME_WAIT.
    set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(stream)
}

/// Threads of the client: one connects while the proxy closes the connections of the other.
const KNOCKING: usize = 2;
/// Connections that a thread opens before it waits for the first to be closed.
const BURST: usize = 32;
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_load_with_errors_has_no_figures() {
        assert!(judge("  1000 requests in 2.00s, 1.3MB read\nRequests/sec: 500\n").is_ok());
        for output in [
            "  1000 requests in 2.00s\n  Socket errors: connect 0, read 7, write 0, timeout 0\n",
            "  1000 requests in 2.00s\n  Non-2xx or 3xx responses: 4\n",
            "unable to connect to 127.0.0.1:1 Connection refused\n",
        ] {
            assert!(judge(output).is_err(), "{output}");
        }
    }

    #[test]
    fn a_connection_is_held_once_it_is_answered() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            drop(listener.accept().unwrap());
            let (mut answering, _) = listener.accept().unwrap();
            answering.write_all(b"welcome").unwrap();
            answering
        });
        let held = hold(port).unwrap();
        assert_eq!(held.local_addr().unwrap(), server.join().unwrap().peer_addr().unwrap());
    }

    #[test]
    fn a_close_is_a_refusal_and_an_answer_is_not() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            drop(listener.accept().unwrap());
            let (mut answering, _) = listener.accept().unwrap();
            answering.write_all(b"welcome").unwrap();
        });
        assert!(refusal(connect(port)).is_ok());
        assert!(refusal(connect(port)).unwrap_err().to_string().contains("answered"));
        server.join().unwrap();
    }
}
