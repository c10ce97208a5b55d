//! The filter of one listening socket.

use super::Shed;
use super::program::{Instruction, Program};
use rustix::io::Errno;
use socket2::{SockFilter, SockRef};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use tokio::sync::watch;

/// What is attached to one listening socket.
#[derive(Debug)]
pub(crate) struct Gate {
    shed: Arc<Shed>,
    programs: watch::Receiver<Arc<Program>>,
    attached: bool,
    /// Whether sockets that are accepted may have a filter. They inherit that of their listener when the handshake ends,
    /// so some in the queue still have one after it is gone.
    inherited: bool,
}

impl Gate {
    pub(crate) fn new(shed: Arc<Shed>) -> Self {
        let mut programs = shed.programs.subscribe();
        // The one in force is news to a new listener.
        programs.mark_changed();
        Self { shed, programs, attached: false, inherited: false }
    }

    /// Waits until there is another program. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        if self.programs.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Attaches the program in force.
    pub(crate) fn attach(&mut self, listener: impl AsFd) {
        let program = Arc::clone(&self.programs.borrow_and_update());
        if program.instructions.is_empty() {
            return self.open(listener);
        }
        let attached = attach(&listener, &program.instructions).or_else(|_| {
            // The kernel charges the new filter before it forgets the old one. And without the new one, the old one must
            // not stay: it may drop clients that have been lifted.
            detach(&listener);
            attach(&listener, &program.instructions)
        });
        self.attached = attached.is_ok();
        self.inherited |= self.attached;
        match attached.map_err(|error| Errno::from_io_error(&error)) {
            Ok(()) => {}
            Err(Some(Errno::NOMEM)) => self.shed.does_not_fit(program.clients, "raise net.core.optmem_max for more"),
            // Not allowed, most likely: then nobody is to be told that clients are shed.
            Err(_) => self.shed.does_not_fit(0, "SO_ATTACH_FILTER is not allowed"),
        }
    }

    /// Detaches whatever is attached.
    pub(crate) fn open(&mut self, listener: impl AsFd) {
        if std::mem::take(&mut self.attached) {
            detach(listener);
        }
    }

    /// Takes the filter that a connection may have inherited from it. Filters are large, and would live as long as any
    /// connection that came while they were attached.
    pub(crate) fn free(&self, accepted: impl AsFd) {
        if self.inherited {
            detach(accepted);
        }
    }

    /// Takes note that nobody is waiting in the queue of the listener.
    pub(crate) fn queue_is_empty(&mut self) {
        self.inherited = self.attached;
    }
}

fn attach(socket: &impl AsFd, program: &[Instruction]) -> io::Result<()> {
    let filter: Vec<_> =
        program.iter().map(|&Instruction { code, jt, jf, k }| SockFilter::new(code, jt, jf, k)).collect();
    SockRef::from(socket).attach_filter(&filter)
}

/// Detaches the filter of a socket, if it has one.
pub(crate) fn detach(socket: impl AsFd) {
    SockRef::from(&socket).detach_filter().unwrap_or_default();
}
