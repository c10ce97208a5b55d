//! The proxies, each with its fastest documented settings, one worker and the same limits in force.

use super::{
    process::{Running, free_port},
    scenarios::{GLOBAL_LIMIT, Listener, Scenario},
};
use crate::Outcome;
use serde_json::json;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A program that is measured.
#[derive(Debug)]
pub(crate) enum Proxy {
    /// Ours, at this path.
    Smartproxy(PathBuf),
    Haproxy,
    Nginx,
}

/// A proxy that runs; it ends when this drops.
#[derive(Debug)]
pub(crate) struct Started {
    process: Running,
    pub(crate) port: u16,
}

impl Started {
    /// The id of the process; its children work for it.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

impl Proxy {
    /// The name in the tables.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Smartproxy(_) => "smartproxy",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// The Debian packages that have it.
    pub(crate) fn packages(&self) -> &'static str {
        match self {
            Self::Smartproxy(_) => "(built here)",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx libnginx-mod-stream",
        }
    }

    /// What it says about its version; none if it is not installed.
    pub(crate) fn version(&self) -> Option<String> {
        match self {
            Self::Smartproxy(path) => first_line(Command::new(path).arg("--version")),
            Self::Haproxy => first_line(Command::new("haproxy").arg("-v")),
            Self::Nginx => first_line(Command::new("nginx").arg("-v")),
        }
    }

    /// Starts it on the core that we are on, and waits until it listens.
    pub(crate) fn start(&self, scenario: &Scenario, backend: u16, folder: &Path) -> Outcome<Started> {
        let name = self.name();
        let fail = |error: String| format!("{} with {name}: {error}", scenario.name);
        let port = free_port()?;
        let (config, log) = (folder.join(self.config_name()), folder.join(format!("{name}.log")));
        fs::write(&config, self.config(scenario, port, backend, folder)).map_err(|error| fail(error.to_string()))?;
        let log_file = File::create(&log).map_err(|error| fail(error.to_string()))?;
        let mut command = self.command(&config, folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(log_file));
        let mut process = Running::start(&mut command)?;
        process.wait_for(port).map_err(|error| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            fail(format!("{error}\nIts config is {}. It said:\n{said}", config.display()))
        })?;
        Ok(Started { process, port })
    }

    fn command(&self, config: &Path, folder: &Path) -> Command {
        let mut command = match self {
            Self::Smartproxy(path) => Command::new(path),
            other => Command::new(other.name()),
        };
        match self {
            Self::Smartproxy(_) => command.arg("run").arg("-c"),
            Self::Haproxy => command.arg("-db").arg("-f"),
            Self::Nginx => command.arg("-e").arg("stderr").arg("-p").arg(folder).arg("-c"),
        };
        command.arg(config);
        command
    }

    /// The file's ending tells smartproxy what it is written in.
    fn config_name(&self) -> &'static str {
        match self {
            Self::Smartproxy(_) => "smartproxy.json",
            Self::Haproxy => "haproxy.cfg",
            Self::Nginx => "nginx.conf",
        }
    }

    fn config(&self, scenario: &Scenario, port: u16, backend: u16, folder: &Path) -> String {
        match self {
            Self::Smartproxy(_) => smartproxy(scenario, port, backend, folder),
            Self::Haproxy => haproxy(scenario, port, backend, folder),
            Self::Nginx => nginx(scenario, port, backend, folder),
        }
    }
}

/// Makes the certificate that every TLS listener shows: P-256, for this machine, in `folder`.
pub(crate) fn write_certificate(folder: &Path) -> Outcome {
    let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
    command.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    let output = command.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output();
    let output = output.map_err(|error| format!("openssl cannot be started ({error}): apt-get install openssl"))?;
    if !output.status.success() {
        return Err(format!("openssl made no certificate:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    // HAProxy wants both in one file.
    let both = fs::read(&certificate).and_then(|mut pem| {
        pem.extend(fs::read(&key)?);
        fs::write(folder.join(BOTH), pem)
    });
    both.map_err(|error| format!("The certificate cannot be written: {error}."))
}

fn smartproxy(scenario: &Scenario, port: u16, backend: u16, folder: &Path) -> String {
    let mut action = json!({"type": "forward", "targets": [{"host": "127.0.0.1", "port": backend}]});
    if scenario.listener == Listener::Tls {
        let files = json!({"certFile": folder.join(CERTIFICATE), "keyFile": folder.join(KEY)});
        action["tls"] = json!({"mode": "terminate", "certificate": files});
    }
    let protocol = if scenario.listener == Listener::Tcp { "tcp" } else { "http" };
    let config = json!({
        "bind": ["127.0.0.1"],
        "workers": 1,
        "maxConnections": GLOBAL_LIMIT,
        "maxConnectionsPerIP": scenario.client_limit,
        "connectionRateLimitPerMinute": 0,
        "logging": {"level": "warn"},
        "routes": [{"name": "bench", "match": {"ports": port, "protocol": protocol}, "action": action}],
    });
    format!("{config:#}\n")
}

fn haproxy(scenario: &Scenario, port: u16, backend: u16, folder: &Path) -> String {
    let mode = if scenario.listener == Listener::Tcp { "tcp" } else { "http" };
    let tls = match scenario.listener {
        Listener::Tls => format!(" ssl crt {} alpn http/1.1", folder.join(BOTH).display()),
        Listener::Http | Listener::Tcp => String::new(),
    };
    let client_limit = scenario.client_limit;
    format!(
        "\
global
    nbthread 1
    maxconn {GLOBAL_LIMIT}

defaults
    mode {mode}
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
    option splice-auto

frontend bench
    bind 127.0.0.1:{port}{tls}
    tcp-request connection track-sc0 src table clients
    tcp-request connection reject if {{ sc0_conn_cur(clients) gt {client_limit} }}
    default_backend app

backend app
    server app 127.0.0.1:{backend}

backend clients
    stick-table type ip size 100k expire 10m store conn_cur
"
    )
}

fn nginx(scenario: &Scenario, port: u16, backend: u16, folder: &Path) -> String {
    let client_limit = scenario.client_limit;
    let limits =
        format!("limit_conn clients {client_limit}; limit_conn all {GLOBAL_LIMIT}; limit_conn_log_level info;");
    let tls = match scenario.listener {
        Listener::Tls => format!(
            "ssl_certificate {}; ssl_certificate_key {};",
            folder.join(CERTIFICATE).display(),
            folder.join(KEY).display()
        ),
        Listener::Http | Listener::Tcp => String::new(),
    };
    let listen = if scenario.listener == Listener::Tls { "ssl" } else { "" };
    let body = match scenario.listener {
        Listener::Http | Listener::Tls => format!(
            "\
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    limit_conn_zone $binary_remote_addr zone=clients:10m;
    limit_conn_zone $server_port zone=all:1m;
    keepalive_requests 1000000000;
    upstream app {{ server 127.0.0.1:{backend}; keepalive 128; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} {listen};
        {tls}
        {limits}
        location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
    }}
}}
"
        ),
        Listener::Tcp => format!(
            "\
stream {{
    limit_conn_zone $binary_remote_addr zone=clients:10m;
    limit_conn_zone $server_port zone=all:1m;
    server {{ listen 127.0.0.1:{port}; {limits} proxy_pass 127.0.0.1:{backend}; }}
}}
"
        ),
    };
    // Debian builds the stream module as a file of its own.
    let module =
        if Path::new(STREAM_MODULE).exists() { format!("load_module {STREAM_MODULE};\n") } else { String::new() };
    format!(
        "{module}daemon off;\nworker_processes 1;\npid nginx.pid;\nerror_log stderr crit;\n\
         events {{ worker_connections 8192; multi_accept on; }}\n{body}"
    )
}

/// The first line that a program prints to either output.
pub(crate) fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().map(|line| line.trim().to_owned())
}

const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
const BOTH: &str = "certificate-and-key.pem";
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

#[cfg(test)]
mod tests {
    use super::super::scenarios::SCENARIOS;
    use super::*;

    #[test]
    fn every_config_has_the_limits_the_ports_and_the_certificate() {
        for scenario in &SCENARIOS {
            for proxy in [Proxy::Smartproxy(PathBuf::from("smartproxy")), Proxy::Haproxy, Proxy::Nginx] {
                let config = proxy.config(scenario, 4001, 4002, Path::new("target/bench"));
                let limit = scenario.client_limit.to_string();
                for needed in ["4001", "4002", &limit, &GLOBAL_LIMIT.to_string()] {
                    assert!(config.contains(needed), "{} with {}: {needed}", scenario.name, proxy.name());
                }
                assert_eq!(config.contains("target/bench/certificate"), scenario.listener == Listener::Tls);
            }
        }
    }
}
