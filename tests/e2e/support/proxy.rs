//! The real binary as a process of its own.

use super::admin;
use super::ports::free_port;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// A running proxy; killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) admin: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    /// Ends when the process has nothing more to say.
    reader: Option<JoinHandle<()>>,
    folder: tempfile::TempDir,
    head: String,
}

impl Proxy {
    /// Starts the proxy on a YAML configuration with four workers and an admin endpoint, and waits until it is ready.
    pub(crate) fn start(routes_and_settings: &str) -> Self {
        Self::start_with("workers: 4\n", routes_and_settings)
    }

    /// The same with other first lines than `workers: 4`.
    pub(crate) fn start_with(head: &str, routes_and_settings: &str) -> Self {
        Self::start_by(Command::new(binary()), head, routes_and_settings)
    }

    /// The same by a command that is given the arguments, with more arguments after them if it has some of its own.
    pub(crate) fn start_by(mut command: Command, head: &str, routes_and_settings: &str) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let head = format!("{head}admin: {{ listen: \"{admin}\" }}\n");
        let config = format!("{head}{routes_and_settings}");
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = folder.path().join("proxy.yaml");
        std::fs::write(&file, &config).expect("the configuration can be written");
        if command.get_args().len() == 0 {
            command.stdin(Stdio::null());
        }
        let mut child = command
            .args(["run", "-c"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (ready, reader) = follow(child.stderr.take().expect("it is piped"), Arc::clone(&log));
        if ready.recv_timeout(Duration::from_secs(20)).is_err() {
            let _ = child.kill();
            panic!("the proxy is not ready:\n{config}\n{}", log.lock().expect("nobody panics with the log").join("\n"));
        }
        Self { child, admin, log, reader: Some(reader), folder, head }
    }

    /// Writes another configuration with the same first lines, not read yet: beside the file, then in its place.
    pub(crate) fn write(&self, routes_and_settings: &str) {
        let beside = self.folder.path().join("next");
        std::fs::write(&beside, format!("{}{routes_and_settings}", self.head)).expect("it can be written");
        std::fs::rename(beside, self.folder.path().join("proxy.yaml")).expect("it can be renamed");
    }

    /// Puts another configuration with the same first lines in force; what is told of it.
    pub(crate) fn reload(&self, routes_and_settings: &str) -> String {
        self.write(routes_and_settings);
        let (status, told) = admin::post(self.admin, "/api/v1/reload");
        assert_eq!(status, 200, "{told}");
        told
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("nobody panics with the log").join("\n")
    }

    /// Everything that was logged, once the process has ended.
    pub(crate) fn whole_log(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        self.log()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the process is ours");
    }

    /// Waits for the end; the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("the process is ours").code()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the proxy ---\n{}\n---", self.log());
        }
    }
}

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_smartproxy"))
}

/// Collects lines; says once when the line `ready` was among them.
fn follow(
    output: impl std::io::Read + Send + 'static,
    log: Arc<Mutex<Vec<String>>>,
) -> (mpsc::Receiver<()>, JoinHandle<()>) {
    let (sender, ready) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let is_ready = line.contains(" ready") || line.contains("\"ready\"");
            log.lock().expect("nobody panics with the log").push(line);
            if is_ready {
                let _ = sender.send(());
            }
        }
    });
    (ready, reader)
}
