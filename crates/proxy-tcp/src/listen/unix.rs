//! Listening on a Unix socket.

use super::BACKLOG;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The file of a Unix socket that we listen on. Removed when it drops, unless another one is in its place by then.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Option<Identity>,
}

/// Device, inode and time of birth: inodes are used again.
type Identity = (u64, u64, i64, i64);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(fs::symlink_metadata(&self.path)) == self.identity {
            // What cannot be removed is replaced by whoever listens there next.
            fs::remove_file(&self.path).unwrap_or_default();
        }
    }
}

/// Listens on the Unix socket of this path, without blocking. One that nobody listens on any more is replaced. With a `mode`
/// its file has these permissions before anybody can connect; without, those that the umask leaves.
///
/// # Errors
/// Somebody listens there (`AddrInUse`), there is a file that is no socket (`AlreadyExists`), or what the system says.
pub fn listen_unix(path: &Path, mode: Option<u32>) -> io::Result<(OwnedFd, SocketFile)> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(fs::symlink_metadata(path)) };
    if let Some(mode) = mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    socket.listen(BACKLOG)?;
    Ok((OwnedFd::from(socket), file))
}

/// The same for clients. It comes as a [`TcpListener`], which accepts, waits and closes alike; the addresses are missing.
pub(super) fn listen(path: &Path) -> io::Result<(TcpListener, SocketFile)> {
    listen_unix(path, None).map(|(socket, file)| (TcpListener::from(socket), file))
}

/// Removes a socket that a process has left behind.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn identity(found: io::Result<Metadata>) -> Option<Identity> {
    // Nothing is ever written to a socket's file, so that is when it was made.
    found.ok().map(|found| (found.dev(), found.ino(), found.mtime(), found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_left_behind_is_replaced_and_nothing_else_is() {
        let folder = std::env::temp_dir().join(format!("listen-unix-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("s");
        let (first, file) = listen(&path).unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse, "somebody listens");
        drop(first);
        let (second, other) = listen(&path).unwrap();
        drop(file);
        assert!(path.exists(), "the first one's file is gone already");
        drop((second, other));
        assert!(!path.exists());
        fs::write(&path, "mine").unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        fs::remove_dir_all(&folder).unwrap();
    }
}
