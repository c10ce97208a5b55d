//! Opening the admin endpoint.

use proxy_admin::AdminListener;
use proxy_route::Endpoint;
use proxy_tcp::{SocketFile, listen_unix};
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

/// Where operators connect.
pub(crate) struct Opened {
    pub(crate) listener: AdminListener,
    /// Where that is.
    pub(crate) place: Endpoint,
    /// Removed when it drops.
    pub(crate) file: Option<SocketFile>,
}

/// Listens for operators. A Unix socket is for the user of the process alone.
///
/// # Errors
/// What stands in the way, as a sentence.
pub(crate) fn open(listen: &Endpoint) -> Result<Opened, String> {
    let opened = || -> io::Result<Opened> {
        Ok(match listen {
            Endpoint::Tcp(address) => {
                let listener = TcpListener::bind(address)?;
                let place = Endpoint::Tcp(listener.local_addr()?);
                Opened { listener: listener.into(), place, file: None }
            }
            Endpoint::Unix(path) => {
                let (socket, file) = listen_unix(path, Some(OWNER_ONLY))?;
                Opened { listener: UnixListener::from(socket).into(), place: listen.clone(), file: Some(file) }
            }
        })
    };
    opened().map_err(|error| format!("admin.listen: {listen} cannot be opened: {error}"))
}

const OWNER_ONLY: u32 = 0o600;
