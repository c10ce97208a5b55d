//! Ports for proxies to listen on.
//!
//! A port that the kernel hands out is one that it hands out again as soon as it is closed: to another test, or to an
//! outgoing connection. So these lie below the range of such ports, in blocks; whoever listens on the first port of a
//! block owns the others, and keeps them until the process ends.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::sync::Mutex;

/// A port that nobody listens on, and that is given out once in the life of this process.
pub(crate) fn free_port() -> u16 {
    static OWNED: Mutex<Owned> = Mutex::new(Owned { guards: Vec::new(), left: 0..0 });
    let mut owned = OWNED.lock().expect("nobody panics with the ports");
    loop {
        match owned.left.next() {
            // Somebody who does not know of blocks may be there.
            Some(port) if TcpListener::bind(("0.0.0.0", port)).is_ok() => return port,
            Some(_) => {}
            None => owned.take_block(),
        }
    }
}

/// Where clients on this machine find it.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

struct Owned {
    /// The first ports of the blocks taken, listened on.
    guards: Vec<TcpListener>,
    left: Range<u16>,
}

impl Owned {
    fn take_block(&mut self) {
        let (first, guard) = (10_000..32_000)
            .step_by(BLOCK.into())
            .find_map(|first| TcpListener::bind(("127.0.0.1", first)).ok().map(|guard| (first, guard)))
            .expect("a block of ports below 32000 is free");
        self.guards.push(guard);
        self.left = first + 1..first + BLOCK;
    }
}

const BLOCK: u16 = 50;
