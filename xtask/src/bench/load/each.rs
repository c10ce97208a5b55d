//! A connection for each request.

use super::{Crowd, crowd::Member, first_in_line, this_thread};
use crate::bench::{
    client::{Client, LAST},
    peers::Listener,
};
use std::{
    io,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

/// Clients that connect, ask, wait for the close, and begin again at once.
pub(crate) fn start(listener: Listener, port: u16) -> Crowd {
    Crowd::start(CLIENTS, move |member| {
        while member.goes_on() {
            once(member, Ipv4Addr::LOCALHOST, listener, port)?;
        }
        Ok(())
    })
}

/// One client at an address that does the same at a steady pace. A unit that takes longer than the interval delays
/// the next, and is waited for from when it was due. It is never late because of other load.
pub(crate) fn paced(from: Ipv4Addr, listener: Listener, port: u16, interval: Duration) -> Crowd {
    Crowd::start(1, move |member| {
        let _at_once = first_in_line(this_thread());
        let mut due = Instant::now();
        while member.goes_on() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            exchange(from, listener, port)?;
            member.did(1);
            member.took(due.elapsed());
            due += interval;
        }
        Ok(())
    })
}

fn once(member: &mut Member, from: Ipv4Addr, listener: Listener, port: u16) -> io::Result<()> {
    let start = Instant::now();
    exchange(from, listener, port)?;
    member.took(start.elapsed());
    member.did(1);
    Ok(())
}

fn exchange(from: Ipv4Addr, listener: Listener, port: u16) -> io::Result<()> {
    let mut client = Client::connect(from, listener, port)?;
    match client.ask(LAST)?.status {
        200 => client.until_closed(),
        status => Err(io::Error::other(format!("answered with {status}"))),
    }
}

const CLIENTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{backend::Backend, load::Load};

    #[test]
    fn each_request_has_a_connection() {
        let backend = Backend::start().unwrap();
        let crowd = start(Listener::Tcp, backend.port());
        while crowd.units() < 100 {
            thread::yield_now();
        }
        let quantiles = Box::new(crowd).finish().unwrap().unwrap();
        assert!(quantiles.p50 <= quantiles.p999);
    }

    #[test]
    fn the_pace_is_kept() {
        let backend = Backend::start().unwrap();
        let begin = Instant::now();
        let crowd = paced(Ipv4Addr::new(127, 0, 0, 2), Listener::Http, backend.port(), Duration::from_millis(2));
        while crowd.units() < 20 {
            thread::yield_now();
        }
        assert!(begin.elapsed() >= Duration::from_millis(38), "too fast");
    }
}
