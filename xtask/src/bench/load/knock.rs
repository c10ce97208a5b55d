//! A client that has as many connections as it may and keeps asking for more.

use super::{Crowd, priority::last_in_line};
use crate::{
    Outcome,
    bench::{
        client::{Client, KEPT, PATIENCE, connect, reset_on_close},
        peers::Listener,
    },
};
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// How often a second a client knocks; `None` is without pause.
pub(crate) type Pace = Option<u32>;

/// Begins to knock; the work is what is refused. The client must be at its limit.
pub(crate) fn start(listener: Listener, port: u16, pace: Pace) -> Crowd {
    let size = if pace.is_some() { PACED_BURST } else { BURST };
    let between_bursts = pace.map(|pace| Duration::from_secs((THREADS * size) as u64) / pace);
    Crowd::start(THREADS, move |member| {
        last_in_line()?;
        let mut due = Instant::now();
        while member.goes_on() {
            if let Some(pause) = between_bursts {
                // A burst that took longer is not made up for: a late one would be no flood but a wave.
                thread::sleep(due.saturating_duration_since(Instant::now()));
                due = Instant::now() + pause;
            }
            // The kernel completes connections before the proxy accepts them, so a whole burst waits for it.
            let burst = (0..size).map(|_| knock(listener, port)).collect::<Vec<_>>();
            for stream in burst {
                refusal(listener, stream)
                    .map_err(|error| io::Error::new(error.kind(), format!("not refused: {error}")))?;
                member.did(1);
            }
        }
        Ok(())
    })
}

/// Takes all connections up to a limit.
pub(crate) fn fill(listener: Listener, port: u16, limit: usize) -> Outcome<Vec<Client>> {
    let held = (0..limit).map(|_| hold(listener, port)).collect::<io::Result<_>>();
    held.map_err(|error| format!("a connection below the limit failed: {error}."))
}

/// A request under way, which every proxy counts as a connection.
///
/// Tries again for a while: the connection that looked whether the proxy listens may not have been given back yet.
fn hold(listener: Listener, port: u16) -> io::Result<Client> {
    let start = Instant::now();
    loop {
        let held = Client::connect(Ipv4Addr::LOCALHOST, listener, port).and_then(|mut client| {
            client.hold()?;
            Ok(client)
        });
        match held {
            Err(_) if start.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(10)),
            outcome => return outcome,
        }
    }
}

/// A connection, and what a client would send at once.
fn knock(listener: Listener, port: u16) -> io::Result<TcpStream> {
    let mut stream = connect(Ipv4Addr::LOCALHOST, port)?;
    reset_on_close(&stream)?;
    if listener == Listener::Http {
        // Fails where the proxy was faster, which is a refusal too.
        stream.write_all(KEPT).or_else(closed)?;
    }
    Ok(stream)
}

/// Waits for the end that the proxy makes of a connection, or its refusal in HTTP; anything else is an error.
pub(super) fn refusal(listener: Listener, stream: io::Result<TcpStream>) -> io::Result<()> {
    let mut stream = match stream {
        Ok(stream) => stream,
        // Some reset faster than `connect` returns.
        Err(error) => return closed(error),
    };
    match listener {
        Listener::Tcp | Listener::Sni => match stream.read(&mut [0; 16]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(io::Error::other("it was answered")),
            Err(error) => closed(error),
        },
        Listener::Http => {
            let mut head = [0; 12];
            match stream.read_exact(&mut head) {
                Ok(()) if matches!(&head[9..], b"429" | b"503") => Ok(()),
                Ok(()) => Err(io::Error::other(format!("answered {:?}", String::from_utf8_lossy(&head)))),
                Err(error) => closed(error),
            }
        }
        Listener::Tls | Listener::H2 => {
            let asked = Client::over(stream, listener).and_then(|mut client| client.ask(KEPT));
            match asked {
                Ok(answer) if matches!(answer.status, 429 | 503) => Ok(()),
                Ok(answer) => Err(io::Error::other(format!("answered {}", answer.status))),
                Err(error) => closed(error),
            }
        }
    }
}

/// An error that says nothing but that the other side has closed is none.
fn closed(error: io::Error) -> io::Result<()> {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof => Ok(()),
        _ => Err(error),
    }
}

/// Threads of the client: one connects while the proxy closes the connections of the other.
const THREADS: usize = 2;
/// Connections that a thread opens before it waits for the first to be closed.
const BURST: usize = 32;
/// The same of one that knocks at a pace.
const PACED_BURST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::Load;
    use std::net::TcpListener;

    #[test]
    fn a_connection_is_held_once_it_is_answered() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            drop(listener.accept().unwrap());
            let (mut answering, _) = listener.accept().unwrap();
            answering.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
            answering
        });
        let held = hold(Listener::Tcp, port).unwrap();
        assert_eq!(held.socket().local_addr().unwrap(), server.join().unwrap().peer_addr().unwrap());
    }

    #[test]
    fn a_pace_is_kept() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || listener.incoming().for_each(drop));
        let begin = Instant::now();
        let crowd = start(Listener::Tcp, port, Some(400));
        while crowd.units() < 40 {
            thread::yield_now();
        }
        // The third burst of either thread is due by then, and the second one was not enough.
        assert!(begin.elapsed() >= Duration::from_millis(80), "too fast");
        drop(crowd);
    }

    #[test]
    fn a_close_is_a_refusal_and_an_answer_is_not() {
        let port_of = |answers: &'static [&'static [u8]]| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            thread::spawn(move || {
                for answer in answers {
                    listener.accept().unwrap().0.write_all(answer).unwrap();
                }
            });
            port
        };
        let port = port_of(&[b"", b"welcome"]);
        assert!(refusal(Listener::Tcp, knock(Listener::Tcp, port)).is_ok());
        assert!(refusal(Listener::Tcp, knock(Listener::Tcp, port)).unwrap_err().to_string().contains("answered"));
        let port = port_of(&[b"", b"HTTP/1.1 503 no", b"HTTP/1.1 200 OK"]);
        assert!(refusal(Listener::Http, knock(Listener::Http, port)).is_ok());
        let port = port_of(&[b""]);
        assert!(refusal(Listener::Tls, knock(Listener::Tls, port)).is_ok());
    }
}
