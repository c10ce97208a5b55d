//! Where bytes are between two sockets: pipes of the kernel, or one buffer for all.

use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fmt, io};

/// What one worker moves bytes with. Shared by all its connections; none of them keeps any of it while it is idle.
pub(crate) struct Transport {
    spare: Mutex<Spare>,
    /// Pipes in use.
    leased: AtomicUsize,
    /// For what is too small to be worth a pipe, and for when there is none. Never locked across a wait.
    pub(crate) buffer: Mutex<Box<[u8]>>,
}

/// Pipes that are empty and not in use.
#[derive(Default)]
struct Spare {
    pipes: Vec<Pipe>,
    /// How many of them nobody has needed since the last [`Transport::trim`].
    unneeded: usize,
}

/// A pipe in use by one connection. Dropped empty it is kept for the next one, else it is closed.
pub(crate) struct PipeLease<'a> {
    transport: &'a Transport,
    pipe: Option<Pipe>,
    /// Bytes in it.
    filled: usize,
}

struct Pipe {
    input: OwnedFd,
    output: OwnedFd,
    size: usize,
}

/// What is read at once into the common buffer. A read that fills it means that more is waiting.
pub(crate) const BUFFER: usize = 64 * 1024;
/// What a pipe should hold: it takes a quarter of the system calls of the kernel's default.
const PIPE: usize = 256 * 1024;
/// Pipes in use at once. Clients that read slowly each hold one; beyond these they must not take the descriptors that new
/// connections need.
const LEASES: usize = 256;
/// Pipes kept while nobody uses them; two descriptors each.
const KEPT: usize = 32;

impl Transport {
    pub(crate) fn new() -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { spare: Mutex::default(), leased: AtomicUsize::new(0), buffer: Mutex::new(buffer) }
    }

    /// A pipe that is worth using, if there is one to be had.
    pub(crate) fn pipe(&self) -> Option<PipeLease<'_>> {
        // Ordering: a bound on how many; nothing else is read because of it.
        if self.leased.load(Ordering::Relaxed) >= LEASES {
            return None;
        }
        let kept = self.spare.lock().take();
        let pipe = kept.or_else(|| Pipe::new().ok()).filter(|pipe| pipe.size >= BUFFER)?;
        self.leased.fetch_add(1, Ordering::Relaxed);
        Some(PipeLease { transport: self, pipe: Some(pipe), filled: 0 })
    }

    /// Closes the pipes that nobody has needed since the last call: descriptors and kernel memory come back after a burst.
    pub(crate) fn trim(&self) {
        let mut spare = self.spare.lock();
        let needed = spare.pipes.len() - spare.unneeded;
        let unneeded = spare.pipes.split_off(needed);
        spare.unneeded = needed;
        drop(spare);
        drop(unneeded);
    }
}

impl Spare {
    fn take(&mut self) -> Option<Pipe> {
        let pipe = self.pipes.pop();
        self.unneeded = self.unneeded.min(self.pipes.len());
        pipe
    }
}

#[cfg(test)]
impl Transport {
    pub(crate) fn leased(&self) -> usize {
        self.leased.load(Ordering::Relaxed)
    }

    pub(crate) fn kept(&self) -> usize {
        self.spare.lock().pipes.len()
    }
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (output, input) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused beyond `pipe-user-pages-soft`: then it is as large as the kernel made it.
        let size = match fcntl_setpipe_size(&input, PIPE) {
            Ok(size) => size,
            Err(_) => fcntl_getpipe_size(&input)?,
        };
        Ok(Self { input, output, size })
    }
}

impl PipeLease<'_> {
    /// Bytes in it.
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    /// Fills the pipe, which is empty, from a socket. `Ok(0)` is the end of the stream.
    pub(crate) fn fill(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let pipe = self.pipe.as_ref().expect(LEASED);
        self.filled = splice(socket, None, &pipe.input, None, pipe.size, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?;
        Ok(self.filled)
    }

    /// Empties the pipe into a socket, as far as that takes it.
    pub(crate) fn empty(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let pipe = self.pipe.as_ref().expect(LEASED);
        let moved = splice(&pipe.output, None, socket, None, self.filled, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?;
        self.filled -= moved;
        Ok(moved)
    }
}

const LEASED: &str = "a lease has its pipe until it drops";

impl Drop for PipeLease<'_> {
    fn drop(&mut self) {
        // Ordering: see `Transport::pipe`.
        self.transport.leased.fetch_sub(1, Ordering::Relaxed);
        let empty = self.pipe.take().filter(|_| self.filled == 0);
        let mut spare = self.transport.spare.lock();
        if spare.pipes.len() < KEPT {
            spare.pipes.extend(empty);
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("spare", &self.spare.lock().pipes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_that_nobody_needs_are_closed() {
        let transport = Transport::new();
        let leases: Vec<_> = (0..3).map(|_| transport.pipe().expect("pipes are to be had")).collect();
        drop(leases);
        assert_eq!(transport.kept(), 3);
        transport.trim();
        assert_eq!(transport.kept(), 3, "all three were needed since the start");
        drop(transport.pipe());
        transport.trim();
        assert_eq!(transport.kept(), 1, "one was needed since the last time");
        transport.trim();
        assert_eq!(transport.kept(), 0);
    }
}
