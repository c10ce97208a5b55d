//! A backend that costs next to nothing, so that a proxy's core is the one that is short.

use crate::Outcome;
use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, EventData, EventFlags},
};
use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Answers every HTTP/1.1 request with the same 1 KiB, on one thread that lives as long as the program.
#[derive(Debug)]
pub(crate) struct Backend {
    port: u16,
    served: Arc<AtomicU64>,
}

impl Backend {
    /// Starts it on a free port of this machine.
    pub(crate) fn start() -> Outcome<Self> {
        let served = Arc::new(AtomicU64::new(0));
        let bound = Loop::bind(served.clone()).map_err(|error| format!("The backend cannot listen: {error}."))?;
        let (mut turns, port) = bound;
        thread::spawn(move || {
            // A backend that fails stops answering, and the load says so.
            if let Err(error) = turns.run() {
                eprintln!("The backend failed: {error}.");
            }
        });
        Ok(Self { port, served })
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Requests answered so far, ever growing; read it twice.
    pub(crate) fn served(&self) -> Arc<AtomicU64> {
        self.served.clone()
    }
}

struct Loop {
    epoll: OwnedFd,
    listener: TcpListener,
    connections: HashMap<u64, TcpStream>,
    next: u64,
    response: Vec<u8>,
    served: Arc<AtomicU64>,
}

impl Loop {
    fn bind(served: Arc<AtomicU64>) -> io::Result<(Self, u16)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let mut response = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n".to_vec();
        response.resize(response.len() + 1024, b'x');
        Ok((Self { epoll, listener, connections: HashMap::new(), next: LISTENER + 1, response, served }, port))
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(256);
        loop {
            epoll::wait(&self.epoll, spare_capacity(&mut events), None)?;
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    id => self.serve(id),
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nodelay(true)?;
        epoll::add(&self.epoll, &stream, EventData::new_u64(self.next), EventFlags::IN)?;
        self.connections.insert(self.next, stream);
        self.next += 1;
        Ok(())
    }

    /// Answers what has arrived. A request without a body that arrives in one piece is all it understands.
    fn serve(&mut self, id: u64) {
        let Some(stream) = self.connections.get_mut(&id) else { return };
        let mut bytes = [0; 16 * 1024];
        let length = stream.read(&mut bytes).unwrap_or(0);
        let requests = bytes[..length].windows(4).filter(|window| window == b"\r\n\r\n").count();
        let answered = (0..requests).try_for_each(|_| stream.write_all(&self.response));
        // Relaxed: a count that is only read as a difference.
        self.served.fetch_add(requests as u64, Ordering::Relaxed);
        if length == 0 || answered.is_err() {
            self.connections.remove(&id);
        }
    }
}

const LISTENER: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_answered_and_counted() {
        let backend = Backend::start().unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, backend.port())).unwrap();
        for request in 1..=3 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            let mut response = Vec::new();
            while !response.ends_with(&[b'x'; 1024]) {
                let mut bytes = [0; 4096];
                let length = stream.read(&mut bytes).unwrap();
                assert!(length > 0, "closed");
                response.extend_from_slice(&bytes[..length]);
            }
            assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n"));
            let start = std::time::Instant::now();
            while backend.served().load(Ordering::Relaxed) != request {
                assert!(start.elapsed().as_secs() < 10, "request {request} was not counted");
            }
        }
    }
}
