//! The proxies, each with its fastest documented settings and the same limits in force.

use super::process::{Running, free_port};
use crate::Outcome;
use rustix::process::Signal;
use std::{
    fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

mod caddy;
mod envoy;
mod haproxy;
mod nginx;
mod smartproxy;
mod sozu;

pub(crate) use smartproxy::{NAME as OURS, Smartproxy};

/// The proxies that smartproxy is compared with.
pub(crate) fn others() -> Vec<Box<dyn Proxy>> {
    vec![
        Box::new(haproxy::Haproxy),
        Box::new(nginx::Nginx),
        Box::new(envoy::Envoy),
        Box::new(caddy::Caddy),
        Box::new(sozu::Sozu),
    ]
}

/// A program that is measured: how to configure, start and reload it.
pub(crate) trait Proxy: fmt::Debug {
    /// The name in the tables.
    fn name(&self) -> &'static str;

    /// The command that installs it.
    fn install(&self) -> &'static str;

    /// What it says about its version; none if it is not installed.
    fn version(&self) -> Option<String>;

    /// Whether it can do something that not all can.
    fn can(&self, need: Need) -> bool;

    /// Its files: name and content, the one that it is started with first.
    fn files(&self, setup: &Setup) -> Vec<(&'static str, String)>;

    /// What starts it, in the foreground, with its first file at `config`. Called after the files are written.
    fn command(&self, setup: &Setup, config: &Path) -> Command;

    /// Makes it take its files again, which have been replaced, and returns once it has or will soon.
    fn reload(&self, process: &Running, setup: &Setup, config: &Path) -> Outcome;
}

/// What not every proxy can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Passing TCP and undecrypted TLS on.
    Streams,
    /// Any limit of connections.
    Limit,
    /// A limit of connections per client.
    ClientLimit,
    /// A limit of the rate per client.
    ClientRate,
}

impl Need {
    /// What a proxy that cannot do it lacks, for the table.
    pub(crate) fn lacking(self) -> &'static str {
        match self {
            Self::Streams => "passes no TCP on",
            Self::Limit => "has no limit of connections",
            Self::ClientLimit => "has no limit of connections per client",
            Self::ClientRate => "has no rate per client that it remembers",
        }
    }
}

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    /// Plain HTTP/1.1, forwarded as HTTP/1.1 over kept connections.
    Http,
    /// HTTP/1.1 inside TLS that the proxy terminates; the backend is plain.
    Tls,
    /// The same with HTTP/2 offered.
    H2,
    /// Bytes, forwarded as they are.
    Tcp,
    /// TLS for `localhost` by its SNI, forwarded as it is.
    Sni,
}

impl Listener {
    /// Whether the proxy decrypts.
    pub(crate) fn terminates(self) -> bool {
        matches!(self, Self::Tls | Self::H2)
    }

    /// Whether the proxy reads requests.
    pub(crate) fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Tls | Self::H2)
    }
}

/// What a proxy is to do.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// What it listens for, and where.
    pub(crate) listeners: Vec<(Listener, u16)>,
    /// The port of the backend, on this machine.
    pub(crate) backend: u16,
    /// Concurrent connections of one client.
    pub(crate) client_limit: usize,
    /// New connections of one client per minute, ten at once; 0 is no such limit.
    pub(crate) client_rate: u32,
    pub(crate) workers: usize,
    /// Whether clients that keep knocking are dropped in the kernel, by those who can.
    pub(crate) sheds: bool,
    /// Whether it will be reloaded, with other limits.
    pub(crate) reloads: bool,
    /// For proxies that need one to be reloaded.
    pub(crate) admin: u16,
    /// Where its files and the certificate are.
    pub(crate) folder: PathBuf,
}

impl Setup {
    /// One worker, listeners on free ports, and a limit per client that is in force but out of reach.
    pub(crate) fn new(folder: &Path, listeners: &[Listener], backend: u16) -> Outcome<Self> {
        let listeners = listeners.iter().map(|listener| Ok((*listener, free_port()?))).collect::<Outcome<_>>()?;
        let (admin, folder) = (free_port()?, folder.to_owned());
        let (client_limit, client_rate) = (GLOBAL_LIMIT - 1, 0);
        Ok(Self {
            listeners,
            backend,
            client_limit,
            client_rate,
            workers: 1,
            sheds: false,
            reloads: false,
            admin,
            folder,
        })
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn certificate(&self) -> String {
        self.file(CERTIFICATE)
    }

    fn key(&self) -> String {
        self.file(KEY)
    }
}

/// A proxy that runs; it ends when this drops.
#[derive(Debug)]
pub(crate) struct Started {
    process: Running,
    config: PathBuf,
    setup: Setup,
}

impl Started {
    /// Starts a proxy on the cores that we are on, and waits until it listens on all its ports.
    pub(crate) fn start(proxy: &dyn Proxy, setup: Setup) -> Outcome<Self> {
        Self::under(proxy, setup, |command| command)
    }

    /// The same, by a command made of the proxy's own.
    pub(crate) fn under(proxy: &dyn Proxy, setup: Setup, wrap: impl FnOnce(Command) -> Command) -> Outcome<Self> {
        let config = write_files(proxy, &setup)?;
        let log = setup.folder.join(format!("{}.log", proxy.name()));
        let log_file = File::create(&log).map_err(|error| format!("{} cannot be made: {error}.", log.display()))?;
        let mut command = wrap(proxy.command(&setup, &config));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(log_file));
        let mut process = Running::start(&mut command)?;
        for (_, port) in &setup.listeners {
            process.wait_for(*port).map_err(|error| {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let config = fs::read_to_string(&config).unwrap_or_default();
                format!("{error} It said:\n{said}\nIts configuration:\n{config}")
            })?;
        }
        Ok(Self { process, config, setup })
    }

    /// The id of the process; those below it work for it.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The port of its first listener of a kind.
    pub(crate) fn port(&self, listener: Listener) -> u16 {
        let mut listeners = self.setup.listeners.iter();
        let found = listeners.find(|(kind, _)| *kind == listener);
        found.expect("scenarios ask for the listeners that they have set up").1
    }

    /// Has it end as it does when an operator asks for it, and waits for that.
    pub(crate) fn drain(&mut self) -> Outcome {
        self.process.signal(Signal::TERM);
        self.process.output().map(drop)
    }

    /// Has it read a changed configuration.
    pub(crate) fn reload(&mut self, proxy: &dyn Proxy, change: impl FnOnce(&mut Setup)) -> Outcome {
        change(&mut self.setup);
        write_files(proxy, &self.setup)?;
        proxy.reload(&self.process, &self.setup, &self.config)
    }
}

/// Writes the files of a proxy and returns where the first one is.
fn write_files(proxy: &dyn Proxy, setup: &Setup) -> Outcome<PathBuf> {
    let files = proxy.files(setup);
    for (name, text) in &files {
        let (path, new) = (setup.folder.join(name), setup.folder.join("new"));
        // Renamed, because some watch for that, and nobody then reads half a file.
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
        written.map_err(|error| format!("{} cannot be written: {error}.", path.display()))?;
    }
    Ok(setup.folder.join(files[0].0))
}

/// Makes the certificate that every TLS listener shows: P-256, for this machine, in `folder`.
pub(crate) fn write_certificate(folder: &Path) -> Outcome {
    let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned(), "127.0.0.1".to_owned()]);
    let made = made.map_err(|error| format!("No certificate can be made: {error}."))?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    // HAProxy wants both in one file.
    let both = format!("{certificate}{key}");
    for (name, text) in [(CERTIFICATE, certificate), (KEY, key), (BOTH, both)] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| format!("{} cannot be written: {error}.", path.display()))?;
    }
    Ok(())
}

/// The first line that a program prints to either output; none if it cannot be run.
pub(crate) fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

/// Concurrent connections of the whole proxy, in force in every scenario.
pub(crate) const GLOBAL_LIMIT: usize = 6000;
/// The name in the TLS hellos of the load.
pub(crate) const SERVER_NAME: &str = "localhost";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
const BOTH: &str = "certificate-and-key.pem";

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Listener; 5] = [Listener::Http, Listener::Tls, Listener::H2, Listener::Tcp, Listener::Sni];

    fn all() -> Vec<Box<dyn Proxy>> {
        let mut all = others();
        all.push(Box::new(Smartproxy(PathBuf::from("smartproxy"))));
        all
    }

    fn config(proxy: &dyn Proxy, setup: &Setup) -> String {
        proxy.files(setup).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn every_config_has_the_limits_the_ports_and_the_certificate() {
        for (proxy, listener) in all().iter().flat_map(|proxy| ALL.map(|listener| (proxy, listener))) {
            if !listener.is_http() && !proxy.can(Need::Streams) {
                continue;
            }
            let mut setup = Setup::new(Path::new("target/bench"), &[listener], 4002).unwrap();
            setup.client_limit = 77;
            let config = config(proxy.as_ref(), &setup);
            let mut needed = vec![setup.listeners[0].1.to_string(), "4002".to_owned()];
            if proxy.can(Need::Limit) {
                needed.extend([GLOBAL_LIMIT.to_string(), "77".to_owned()]);
            }
            for needed in needed {
                assert!(config.contains(&needed), "{} on {listener:?}: {needed} in\n{config}", proxy.name());
            }
            assert_eq!(config.contains("target/bench/certificate"), listener.terminates(), "{}", proxy.name());
        }
    }

    #[test]
    fn several_listeners_share_one_process() {
        for proxy in all().iter().filter(|proxy| proxy.can(Need::Streams)) {
            let setup = Setup::new(Path::new("target/bench"), &ALL, 4002).unwrap();
            let config = config(proxy.as_ref(), &setup);
            for (_, port) in &setup.listeners {
                assert!(config.contains(&port.to_string()), "{}: {port} in\n{config}", proxy.name());
            }
        }
    }

    #[test]
    fn rates_are_where_they_can_be() {
        for proxy in all() {
            let mut setup = Setup::new(Path::new("target/bench"), &[Listener::Http], 4002).unwrap();
            let without = config(proxy.as_ref(), &setup);
            setup.client_rate = 1;
            assert_eq!(config(proxy.as_ref(), &setup) != without, proxy.can(Need::ClientRate), "{}", proxy.name());
        }
    }

    #[test]
    fn the_first_line_with_words_is_the_version() {
        assert_eq!(first_line(Command::new("printf").arg("\n  one \ntwo\n")).as_deref(), Some("one"));
        assert_eq!(first_line(&mut Command::new("no-such-program-here")), None);
    }
}
