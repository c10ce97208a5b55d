//! Ours.

use super::{GLOBAL_LIMIT, Listener, Need, Proxy, SERVER_NAME, Setup, first_line};
use crate::{Outcome, bench::process::Running};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// smartproxy, at this path.
#[derive(Debug)]
pub(crate) struct Smartproxy(pub(crate) PathBuf);

impl Proxy for Smartproxy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn install(&self) -> &'static str {
        "cargo build --release"
    }

    fn version(&self) -> Option<String> {
        first_line(Command::new(&self.0).arg("--version"))
    }

    fn can(&self, _need: Need) -> bool {
        true
    }

    fn files(&self, setup: &Setup) -> Vec<(&'static str, String)> {
        let routes: Vec<Value> =
            setup.listeners.iter().map(|(listener, port)| route(setup, *listener, *port)).collect();
        let alpn: &[&str] = if setup.listeners.iter().any(|(listener, _)| *listener == Listener::H2) {
            &["h2", "http/1.1"]
        } else {
            &["http/1.1"]
        };
        let mut config = json!({
            "bind": ["127.0.0.1"],
            "workers": setup.workers,
            "maxConnections": GLOBAL_LIMIT,
            "maxConnectionsPerIP": setup.client_limit,
            "maxPendingConnections": GLOBAL_LIMIT,
            "connectionRateLimitPerMinute": setup.client_rate,
            "connectionRateBurst": BURST,
            "tls": {"alpn": alpn},
            "logging": {"level": "warn"},
            "routes": routes,
        });
        if setup.sheds {
            config["shed"] = json!({});
        }
        vec![("smartproxy.json", format!("{config:#}\n"))]
    }

    fn command(&self, _setup: &Setup, config: &Path) -> Command {
        let mut command = Command::new(&self.0);
        command.arg("run").arg("-c").arg(config);
        command
    }

    fn reload(&self, process: &Running, _setup: &Setup, _config: &Path) -> Outcome {
        process.signal(Signal::HUP);
        Ok(())
    }
}

fn route(setup: &Setup, listener: Listener, port: u16) -> Value {
    let mut action = json!({"type": "forward", "targets": [{"host": "127.0.0.1", "port": setup.backend}]});
    let mut matching = json!({"ports": port, "protocol": if listener.is_http() { "http" } else { "tcp" }});
    if listener.terminates() {
        let files = json!({"certFile": setup.certificate(), "keyFile": setup.key()});
        action["tls"] = json!({"mode": "terminate", "certificate": files});
    }
    if listener == Listener::Tcp {
        // As nginx does by default.
        action["halfClose"] = json!(false);
    }
    if listener == Listener::Sni {
        action["tls"] = json!({"mode": "passthrough"});
        matching["domains"] = json!([SERVER_NAME]);
    }
    json!({"name": format!("port-{port}"), "match": matching, "action": action})
}

/// What the table compares the others with.
pub(crate) const NAME: &str = "smartproxy";
/// Connections that a client may open at once where its rate is limited.
const BURST: u32 = 10;
