//! A client that is refused, and after a while not even that: what it sends to connect is dropped in the kernel.

use super::{Crowd, knock, priority};
use crate::bench::peers::Listener;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    time::{Duration, Instant},
};

/// Begins to knock; the work is attempts that led nowhere, refused or unanswered. The client must be at its limit.
pub(crate) fn start(port: u16) -> Crowd {
    Crowd::start(THREADS, move |member| {
        priority::last_in_line()?;
        while member.goes_on() {
            let burst = (0..BURST).map(|_| attempt(port)).collect::<io::Result<Vec<_>>>()?;
            let begin = Instant::now();
            while burst.iter().any(|socket| !answered(socket).unwrap_or(true)) && begin.elapsed() < UNANSWERED {
                wait(&burst, UNANSWERED.saturating_sub(begin.elapsed()))?;
            }
            for socket in burst {
                outcome(socket)?;
                member.did(1);
            }
        }
        Ok(())
    })
}

/// Sends the first packet, and does not wait for an answer.
fn attempt(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    match socket.connect(&SockAddr::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(socket),
    }
}

/// Whether the connection is there, or was.
fn answered(socket: &Socket) -> io::Result<bool> {
    let mut fds = [PollFd::new(socket, PollFlags::OUT)];
    Ok(poll(&mut fds, Some(&Timespec::default()))? > 0)
}

/// Until one more may have been answered, or the time is up.
fn wait(burst: &[Socket], time: Duration) -> io::Result<()> {
    let unanswered = burst.iter().filter(|socket| !answered(socket).unwrap_or(true));
    let mut fds: Vec<PollFd<'_>> = unanswered.map(|socket| PollFd::new(socket, PollFlags::OUT)).collect();
    let time = Timespec::try_from(time).map_err(io::Error::other)?;
    poll(&mut fds, Some(&time))?;
    Ok(())
}

/// An attempt without an answer was shed; one with an answer must be refused.
fn outcome(socket: Socket) -> io::Result<()> {
    if !answered(&socket)? {
        return Ok(());
    }
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(crate::bench::client::PATIENCE))?;
    knock::refusal(Listener::Tcp, Ok(TcpStream::from(socket)))
}

const THREADS: usize = 2;
const BURST: usize = 256;
/// On this machine every answer has come by then.
const UNANSWERED: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::Load;
    use std::{net::TcpListener, thread};

    #[test]
    fn silence_and_closing_count_and_an_answer_is_a_failure() {
        // A listener that accepts nobody: its queue is full after a few, and then the kernel drops what comes.
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        silent.bind(&SockAddr::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))).unwrap();
        silent.listen(0).unwrap();
        let port = silent.local_addr().unwrap().as_socket_ipv4().unwrap().port();
        let _queued: Vec<Socket> = (0..8).map(|_| attempt(port).unwrap()).collect();
        let unanswered = attempt(port).unwrap();
        assert!(!answered(&unanswered).unwrap());
        outcome(unanswered).unwrap();

        let closing = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = closing.local_addr().unwrap().port();
        thread::spawn(move || closing.incoming().for_each(drop));
        let crowd = start(port);
        while crowd.units() < 300 {
            thread::yield_now();
        }
        Box::new(crowd).finish().unwrap();
    }
}
