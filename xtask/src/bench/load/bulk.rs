//! Bytes from a backend through the proxy, as many as fit.

use super::Crowd;
use crate::{
    Outcome,
    bench::client::{PATIENCE, connect, hello, reset_on_close},
};
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
};

/// Downloads over connections that begin with a TLS hello.
pub(crate) fn start(port: u16) -> Crowd {
    Crowd::start(CONNECTIONS, move |member| {
        let mut stream = connect(Ipv4Addr::LOCALHOST, port)?;
        reset_on_close(&stream)?;
        stream.write_all(&hello()?)?;
        let mut bytes = vec![0; CHUNK];
        while member.goes_on() {
            match stream.read(&mut bytes)? {
                0 => return Err(io::Error::other("the download ended")),
                length => member.did(length as u64),
            }
        }
        Ok(())
    })
}

/// A backend that answers the first bytes of a connection without an end. Returns its port.
pub(crate) fn source() -> Outcome<u16> {
    let bound =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
    let (port, listener) = bound.map_err(|error| format!("The backend cannot listen: {error}."))?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // It ends when the proxy closes, which is an error here and none of ours.
            thread::spawn(move || pour(stream).unwrap_or(()));
        }
    });
    Ok(port)
}

fn pour(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = vec![0; CHUNK];
    if stream.read(&mut bytes)? == 0 {
        return Ok(());
    }
    loop {
        stream.write_all(&bytes)?;
    }
}

const CONNECTIONS: usize = 4;
const CHUNK: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::Load;

    #[test]
    fn bytes_are_counted() {
        let crowd = start(source().unwrap());
        while crowd.units() < 8 << 20 {
            thread::yield_now();
        }
        assert!(Box::new(crowd).finish().unwrap().is_none());
    }
}
