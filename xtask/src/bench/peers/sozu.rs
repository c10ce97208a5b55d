//! Sōzu: a main process and its workers, with limits per client on each of its clusters.

use super::{GLOBAL_LIMIT, Listener, Need, Proxy, SERVER_NAME, Setup, first_line};
use crate::{Outcome, bench::process::Running};
use std::{path::Path, process::Command};

#[derive(Debug)]
pub(crate) struct Sozu;

impl Proxy for Sozu {
    fn name(&self) -> &'static str {
        "sozu"
    }

    fn install(&self) -> &'static str {
        "cargo install sozu"
    }

    fn version(&self) -> Option<String> {
        first_line(Command::new("sozu").arg("--version"))
    }

    fn can(&self, need: Need) -> bool {
        need != Need::ClientRate
    }

    fn files(&self, setup: &Setup) -> Vec<(&'static str, String)> {
        let parts = setup.listeners.iter().map(|(kind, port)| listener(*kind, *port) + &cluster(setup, *kind, *port));
        let (workers, parts) = (setup.workers, parts.collect::<String>());
        let socket = setup.file("sozu.sock");
        let text = format!(
            "\
command_socket = \"{socket}\"
log_level = \"error\"
worker_count = {workers}
worker_automatic_restart = false
handle_process_affinity = false
disable_cluster_metrics = true
activate_listeners = true
max_connections = {GLOBAL_LIMIT}
max_buffers = {BUFFERS}

{parts}"
        );
        vec![("sozu.toml", text)]
    }

    fn command(&self, _setup: &Setup, config: &Path) -> Command {
        let mut command = Command::new("sozu");
        command.arg("--config").arg(config).arg("start");
        command
    }

    fn reload(&self, _process: &Running, _setup: &Setup, config: &Path) -> Outcome {
        let mut command = Command::new("sozu");
        // Without a file it takes the one that it has in memory again.
        let output = command.arg("--config").arg(config).args(["reload", "--file"]).arg(config).output();
        let output = output.map_err(|error| format!("sozu cannot be started: {error}."))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("sozu did not reload: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

fn listener(kind: Listener, port: u16) -> String {
    let protocol = match kind {
        Listener::Http => "http",
        Listener::Tls | Listener::H2 => "https",
        Listener::Tcp | Listener::Sni => "tcp",
    };
    let mut text = format!(
        "\
[[listeners]]
protocol = \"{protocol}\"
address = \"127.0.0.1:{port}\"
front_timeout = 600
back_timeout = 600
"
    );
    if kind.is_http() {
        // The others are not asked to say where a request has come from.
        text += "request_timeout = 600\nforwarded_headers = \"none\"\n";
    }
    if kind.terminates() {
        let alpn = if kind == Listener::H2 { "\"h2\", \"http/1.1\"" } else { "\"http/1.1\"" };
        // Tickets that no load takes up: four by default, two from nginx and HAProxy, one from smartproxy.
        text += &format!("alpn_protocols = [{alpn}]\nsend_tls13_tickets = 1\n");
    }
    text + "\n"
}

fn cluster(setup: &Setup, kind: Listener, port: u16) -> String {
    let (backend, limit) = (setup.backend, setup.client_limit);
    let protocol = if kind.is_http() { "http" } else { "tcp" };
    let mut frontend = format!("address = \"127.0.0.1:{port}\"");
    if kind != Listener::Tcp {
        // That of the request, in TLS that of the hello too.
        frontend += &format!(", hostname = \"{SERVER_NAME}\"");
    }
    if kind.terminates() {
        frontend += &format!(", certificate = \"{}\", key = \"{}\"", setup.certificate(), setup.key());
    }
    format!(
        "\
[clusters.port-{port}]
protocol = \"{protocol}\"
load_balancing = \"ROUND_ROBIN\"
max_connections_per_ip = {limit}
frontends = [{{ {frontend} }}]
backends = [{{ address = \"127.0.0.1:{backend}\" }}]

"
    )
}

/// Two for each connection.
const BUFFERS: usize = 2 * GLOBAL_LIMIT;
