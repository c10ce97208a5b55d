//! Connections in lock step: client and backend are one thread, which waits before each of its steps until the proxy has
//! nothing left to do. So how many turns the worker takes does not depend on who was faster.

use super::super::{
    backend::Answers,
    client::{Client, LAST, PATIENCE},
    load::Thread,
    peers::{Listener, Started},
    proc,
};
use crate::Outcome;
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::Instant,
};

/// A backend that answers when it is told to.
pub(super) struct Backend {
    listener: TcpListener,
    answers: Answers,
    /// What the proxy may ask over again.
    kept: Option<TcpStream>,
}

impl Backend {
    pub(super) fn start() -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.map_err(|error| format!("The backend cannot listen: {error}."))?;
        Ok(Self { listener, answers: Answers::new(), kept: None })
    }

    pub(super) fn port(&self) -> Outcome<u16> {
        let address = self.listener.local_addr();
        address.map(|address| address.port()).map_err(|error| format!("The backend has no port: {error}."))
    }

    /// Connections through a proxy, one after the other: each asks once and is closed.
    pub(super) fn connections(&mut self, proxy: &Started, listener: Listener, units: u64) -> Outcome {
        let worker = Worker::of(proxy)?;
        let port = proxy.port(listener);
        (0..units)
            .try_for_each(|_| self.connection(&worker, listener, port))
            .map_err(|error| format!("a connection failed: {error}."))
    }

    fn connection(&mut self, worker: &Worker, listener: Listener, port: u16) -> io::Result<()> {
        let mut client = Client::connect(Ipv4Addr::LOCALHOST, listener, port)?;
        worker.settled()?;
        client.write_all(LAST)?;
        client.flush()?;
        worker.settled()?;
        let (mut stream, request) = self.asked()?;
        let (answer, _, closes) = self.answers.to(&request);
        stream.write_all(answer)?;
        worker.settled()?;
        if closes {
            drop(stream);
            worker.settled()?;
        } else {
            self.kept = Some(stream);
        }
        let status = client.answer()?.status;
        if status != 200 {
            return Err(io::Error::other(format!("answered with {status}")));
        }
        client.until_closed()?;
        drop(client);
        worker.settled()
    }

    /// The next request that is there, and where it came from. Connections that have ended without one are passed over.
    fn asked(&mut self) -> io::Result<(TcpStream, Vec<u8>)> {
        let mut bytes = [0; 4096];
        loop {
            let mut stream = match self.kept.take() {
                Some(stream) => stream,
                None => self.listener.accept()?.0,
            };
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            match stream.read(&mut bytes)? {
                0 => {}
                length => return Ok((stream, bytes[..length].to_vec())),
            }
        }
    }
}

/// The one thread of a proxy that serves.
struct Worker {
    process: u32,
    thread: Thread,
}

impl Worker {
    /// Its ports are there before it is.
    fn of(proxy: &Started) -> Outcome<Self> {
        let process = proxy.pid();
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(thread) = proc::thread_named(process, "worker-0") {
                return Ok(Self { process, thread });
            }
            thread::yield_now();
        }
        Err("the proxy has no worker.".to_owned())
    }

    /// Returns once it sleeps, so that it has dealt with all that has arrived: what is sent over the loopback wakes it
    /// before the call that sends it returns.
    fn settled(&self) -> io::Result<()> {
        let begin = Instant::now();
        while !proc::sleeps(self.process, self.thread) {
            if begin.elapsed() > PATIENCE {
                return Err(io::Error::other("the worker does not come to rest"));
            }
            thread::yield_now();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_without_a_request_is_passed_over_and_a_kept_one_is_asked_again() {
        let mut backend = Backend::start().unwrap();
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, backend.port().unwrap())).unwrap();
        drop(connect());
        let mut asking = connect();
        for request in [&b"one"[..], b"two"] {
            asking.write_all(request).unwrap();
            let (stream, asked) = backend.asked().unwrap();
            assert_eq!(asked, request);
            backend.kept = Some(stream);
        }
    }
}
