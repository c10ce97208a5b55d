//! HAProxy: one table for all frontends.

use super::{BOTH, GLOBAL_LIMIT, Listener, Need, Proxy, SERVER_NAME, Setup, first_line};
use crate::{Outcome, bench::process::Running};
use rustix::process::Signal;
use std::{fmt::Write, path::Path, process::Command};

#[derive(Debug)]
pub(crate) struct Haproxy;

impl Proxy for Haproxy {
    fn name(&self) -> &'static str {
        "haproxy"
    }

    fn install(&self) -> &'static str {
        "apt-get install haproxy"
    }

    fn version(&self) -> Option<String> {
        first_line(Command::new("haproxy").arg("-v"))
    }

    fn can(&self, _need: Need) -> bool {
        true
    }

    fn files(&self, setup: &Setup) -> Vec<(&'static str, String)> {
        let frontends: String =
            setup.listeners.iter().map(|(listener, port)| frontend(setup, *listener, *port)).collect();
        let (workers, backend) = (setup.workers, setup.backend);
        let rate = if setup.client_rate > 0 { ",conn_rate(60s)" } else { "" };
        let text = format!(
            "\
global
    nbthread {workers}
    maxconn {GLOBAL_LIMIT}

defaults
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    timeout tunnel 1h
    http-reuse always
    option splice-auto

{frontends}backend http
    mode http
    server app 127.0.0.1:{backend}

backend tcp
    mode tcp
    server app 127.0.0.1:{backend}

backend clients
    stick-table type ip size 1m expire 10m store conn_cur{rate}
"
        );
        vec![("haproxy.cfg", text)]
    }

    fn command(&self, _setup: &Setup, config: &Path) -> Command {
        let mut command = Command::new("haproxy");
        // A master that reloads, in the foreground.
        command.args(["-W", "-db", "-f"]).arg(config);
        command
    }

    fn reload(&self, process: &Running, _setup: &Setup, _config: &Path) -> Outcome {
        process.signal(Signal::USR2);
        Ok(())
    }
}

fn frontend(setup: &Setup, listener: Listener, port: u16) -> String {
    let tls = match listener {
        Listener::Tls => format!(" ssl crt {} alpn http/1.1", setup.file(BOTH)),
        Listener::H2 => format!(" ssl crt {} alpn h2,http/1.1", setup.file(BOTH)),
        Listener::Http | Listener::Tcp | Listener::Sni => String::new(),
    };
    let mode = if listener.is_http() { "http" } else { "tcp" };
    let limit = setup.client_limit;
    let mut text = format!(
        "\
frontend port-{port}
    mode {mode}
    bind 127.0.0.1:{port}{tls}
    tcp-request connection track-sc0 src table clients
    tcp-request connection reject if {{ sc0_conn_cur(clients) gt {limit} }}
"
    );
    if setup.client_rate > 0 {
        // One a minute, but ten at once.
        text += "    tcp-request connection reject if { sc0_conn_rate(clients) gt 10 }\n";
    }
    let uses = match listener {
        Listener::Sni => format!(
            "    tcp-request inspect-delay 5s\n    tcp-request content accept if {{ req_ssl_hello_type 1 }}\n    \
             use_backend tcp if {{ req_ssl_sni -i {SERVER_NAME} }}\n\n"
        ),
        _ => format!("    default_backend {mode}\n\n"),
    };
    write!(text, "{uses}").expect("a String takes everything");
    text
}
