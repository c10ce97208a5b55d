//! A connection for each request.

use super::{Crowd, crowd::Member, first_in_line, this_thread};
use crate::bench::{
    client::{Client, LAST},
    peers::Listener,
};
use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
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

/// Clients that do the same at a steady pace, each from an address of its own and at other times than the others. A unit that
/// takes longer than the interval delays the next of its client, and is waited for from when it was due. They are never late
/// because of other load.
pub(crate) fn paced(clients: u8, listener: Listener, port: u16, interval: Duration) -> Crowd {
    let next = Arc::new(AtomicU8::new(0));
    Crowd::start(clients.into(), move |member| {
        // Relaxed: only that each has a number of its own matters.
        let number = next.fetch_add(1, Ordering::Relaxed);
        let from = Ipv4Addr::new(127, 0, 0, FIRST_PACED + number);
        let _at_once = first_in_line(this_thread());
        let mut due = Instant::now() + interval * u32::from(number) / u32::from(clients);
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
/// The last part of the address of the first client that keeps a pace.
const FIRST_PACED: u8 = 2;

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
        let crowd = paced(2, Listener::Http, backend.port(), Duration::from_millis(2));
        while crowd.units() < 40 {
            thread::yield_now();
        }
        // One of them has done twenty, the last of which was due after nineteen intervals.
        assert!(begin.elapsed() >= Duration::from_millis(38), "too fast");
    }
}
