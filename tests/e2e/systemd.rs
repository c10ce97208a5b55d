//! What a service manager is told and hands over.

use crate::support::ports::free_port;
use crate::support::proxy::{Proxy, binary};
use crate::support::{admin, on_eight_threads};
use rustix::process::Signal;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

fn routes(port: u16) -> String {
    format!(
        "bind: [\"127.0.0.1\"]
routes:
  - name: web
    match: {{ ports: {port} }}
    action: {{ type: static, static: {{ status: 200, body: ok }} }}
"
    )
}

/// The next message that begins like this; others may come before it.
fn told(socket: &UnixDatagram, start: &str) -> String {
    loop {
        let mut space = [0; 256];
        let length = socket.recv(&mut space).unwrap_or_else(|error| panic!("nobody says {start}: {error}"));
        let message = String::from_utf8_lossy(&space[..length]).into_owned();
        if message.starts_with(start) {
            return message;
        }
    }
}

#[test]
fn the_service_manager_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    let mut command = Command::new(binary());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    let mut proxy = Proxy::start_by(command, "workers: 2\n", &routes(free_port()));
    told(&socket, "READY=1");
    told(&socket, "WATCHDOG=1");
    told(&socket, "WATCHDOG=1");
    proxy.signal(Signal::HUP);
    assert!(told(&socket, "RELOADING=1").contains("MONOTONIC_USEC="));
    told(&socket, "READY=1");
    proxy.signal(Signal::TERM);
    told(&socket, "STOPPING=1");
    assert_eq!(proxy.wait(), Some(0));
}

#[test]
fn sockets_that_are_handed_over_are_used() {
    on_eight_threads(async {
        // Not reusable: the proxy could not open the port itself.
        let socket = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
        let address = socket.local_addr().expect("it is bound");
        let mut command = Command::new("sh");
        let script = "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\"";
        command.args(["-c", script]).arg(binary()).stdin(Stdio::from(std::os::fd::OwnedFd::from(socket)));
        let mut proxy = Proxy::start_by(command, "workers: 3\n", &routes(address.port()));
        for _ in 0..20 {
            assert_eq!(admin::get(address, "/"), (200, "ok".to_owned()));
        }
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait(), Some(0));
    });
}
