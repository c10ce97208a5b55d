//! A backend that costs next to nothing, so that a proxy's core is the one that is short.

use super::load::{Thread, this_thread};
use crate::Outcome;
use memchr::memmem::Finder;
use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    io::retry_on_intr,
};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

/// On one thread that lives as long as the program:
///
/// - answers every HTTP/1.1 request with the same 1 KiB, and closes if the request says so;
/// - answers `/hold` with the beginning of a long body;
/// - answers what looks like a TLS hello with one byte.
#[derive(Debug)]
pub(crate) struct Backend {
    port: u16,
    served: Arc<AtomicU64>,
    thread: Thread,
}

impl Backend {
    /// Starts it on a free port of this machine.
    pub(crate) fn start() -> Outcome<Self> {
        let served = Arc::new(AtomicU64::new(0));
        let bound = Loop::bind(served.clone()).map_err(|error| format!("The backend cannot listen: {error}."))?;
        let (mut turns, port) = bound;
        let (sender, thread) = mpsc::channel();
        thread::spawn(move || {
            // Whoever waits for it is still there.
            sender.send(this_thread()).unwrap_or_default();
            // A backend that fails stops answering, and the load says so.
            if let Err(error) = turns.run() {
                eprintln!("The backend failed: {error}.");
            }
        });
        let thread = thread.recv().map_err(|error| format!("The backend did not start: {error}."))?;
        Ok(Self { port, served, thread })
    }

    /// The thread that answers.
    pub(crate) fn thread(&self) -> Thread {
        self.thread
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
    served: Arc<AtomicU64>,
    answers: Answers,
}

impl Loop {
    fn bind(served: Arc<AtomicU64>) -> io::Result<(Self, u16)> {
        // A queue long enough for every proxy to open all its connections at once.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SockAddr::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)))?;
        socket.listen(QUEUE)?;
        let listener = TcpListener::from(socket);
        let port = listener.local_addr()?.port();
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let (connections, next, answers) = (HashMap::new(), LISTENER + 1, Answers::new());
        Ok((Self { epoll, listener, connections, next, served, answers }, port))
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(256);
        loop {
            // A process that is stopped and goes on is interrupted, though nothing has come.
            retry_on_intr(|| epoll::wait(&self.epoll, spare_capacity(&mut events), None))?;
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
        let (answer, requests, closes) = self.answers.to(&bytes[..length]);
        // What is no request is answered once.
        let answered = (0..requests.max(1)).try_for_each(|_| stream.write_all(answer));
        // Relaxed: a count that is only read as a difference.
        self.served.fetch_add(requests, Ordering::Relaxed);
        if length == 0 || closes || answered.is_err() {
            self.connections.remove(&id);
        }
    }
}

/// What is answered, made once.
pub(crate) struct Answers {
    kept: Vec<u8>,
    last: Vec<u8>,
    held: Vec<u8>,
    ends: Finder<'static>,
    connection: Finder<'static>,
}

impl Answers {
    pub(crate) fn new() -> Self {
        let answer = |headers: &str, length: usize, sent: usize| {
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{headers}Content-Length: {length}\r\n\r\n");
            let mut answer = head.into_bytes();
            answer.resize(answer.len() + sent, b'x');
            answer
        };
        // Enough of the long one for proxies that wait until a buffer is full.
        Self {
            kept: answer("", 1024, 1024),
            last: answer("Connection: close\r\n", 1024, 1024),
            held: answer("", 1 << 30, 32 << 10),
            ends: Finder::new(b"\r\n\r\n"),
            connection: Finder::new(CONNECTION),
        }
    }

    /// What to write for each request, how many requests there were, and whether to close after that.
    ///
    /// Proxies add fields to what they pass on, some more than others. So this looks at many bytes at a time: one by one they
    /// would be the load's largest cost, paid for the proxies that say most.
    pub(crate) fn to(&self, bytes: &[u8]) -> (&[u8], u64, bool) {
        if bytes.is_empty() {
            return (b"", 0, false);
        }
        if bytes[0] == TLS_HANDSHAKE {
            return (b"!", 0, false);
        }
        let requests = self.ends.find_iter(bytes).count() as u64;
        if bytes.starts_with(b"GET /hold ") {
            return (&self.held, requests, false);
        }
        let says_close = |at: usize| {
            let value = bytes[at + CONNECTION.len()..].trim_ascii_start();
            value.get(..CLOSE.len()).is_some_and(|value| value.eq_ignore_ascii_case(CLOSE))
        };
        let closes = self.connection.find_iter(bytes).any(says_close);
        (if closes { &self.last } else { &self.kept }, requests, closes)
    }
}

const LISTENER: u64 = 0;
const QUEUE: i32 = 4096;
const TLS_HANDSHAKE: u8 = 22;
/// Without its first letter, which some write large.
const CONNECTION: &[u8] = b"onnection:";
const CLOSE: &[u8] = b"close";

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

    #[test]
    fn what_is_asked_decides_the_answer() {
        let answers = Answers::new();
        assert_eq!(answers.to(b"\x16\x03\x01"), (&b"!"[..], 0, false));
        assert_eq!(answers.to(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n").1, 2);
        assert!(answers.to(b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n").2);
        assert!(answers.to(b"GET /hold HTTP/1.1\r\n\r\n").0.len() < 1 << 20);
    }
}
