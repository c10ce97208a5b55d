//! nginx: the modules `http` and `stream`, each with zones of its own.

use super::{GLOBAL_LIMIT, Listener, Need, Proxy, SERVER_NAME, Setup, first_line};
use crate::{Outcome, bench::process::Running};
use rustix::process::Signal;
use std::{path::Path, process::Command};

#[derive(Debug)]
pub(crate) struct Nginx;

impl Proxy for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn install(&self) -> &'static str {
        "apt-get install nginx libnginx-mod-stream"
    }

    fn version(&self) -> Option<String> {
        first_line(Command::new("nginx").arg("-v"))
    }

    fn can(&self, _need: Need) -> bool {
        true
    }

    fn files(&self, setup: &Setup) -> Vec<(&'static str, String)> {
        let part = |http: bool| -> String {
            let listeners = setup.listeners.iter().filter(|(listener, _)| listener.is_http() == http);
            listeners.map(|(listener, port)| server(setup, *listener, *port)).collect()
        };
        let (http, stream) = (part(true), part(false));
        // Debian builds the stream module as a file of its own.
        let mut text =
            if Path::new(STREAM_MODULE).exists() { format!("load_module {STREAM_MODULE};\n") } else { String::new() };
        text += &format!(
            "daemon off;\nworker_processes {};\npid nginx.pid;\nerror_log stderr crit;\n\
             events {{ worker_connections 18000; multi_accept on; }}\n",
            setup.workers
        );
        let backend = setup.backend;
        if !http.is_empty() {
            let rate = match setup.client_rate {
                0 => String::new(),
                rate => format!("limit_req_zone $binary_remote_addr zone=rates:64m rate={rate}r/m;"),
            };
            text += &format!(
                "\
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    limit_conn_zone $binary_remote_addr zone=http_clients:10m;
    limit_conn_zone $server_addr zone=http_all:1m;
    {rate}
    limit_conn_log_level info; limit_req_log_level info;
    keepalive_requests 1000000000;
    proxy_read_timeout 10m; send_timeout 10m;
    upstream app {{ server 127.0.0.1:{backend}; keepalive 1024; keepalive_requests 1000000000; }}
{http}}}
"
            );
        }
        if !stream.is_empty() {
            text += &format!(
                "\
stream {{
    limit_conn_zone $binary_remote_addr zone=stream_clients:10m;
    limit_conn_zone $server_addr zone=stream_all:1m;
    limit_conn_log_level info;
    map $ssl_preread_server_name $named {{ {SERVER_NAME} 127.0.0.1:{backend}; }}
{stream}}}
"
            );
        }
        vec![("nginx.conf", text)]
    }

    fn command(&self, setup: &Setup, config: &Path) -> Command {
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-p"]).arg(&setup.folder).arg("-c").arg(config);
        command
    }

    fn reload(&self, process: &Running, _setup: &Setup, _config: &Path) -> Outcome {
        process.signal(Signal::HUP);
        Ok(())
    }
}

fn server(setup: &Setup, listener: Listener, port: u16) -> String {
    let listen = match listener {
        Listener::Tls => " ssl",
        Listener::H2 => " ssl http2",
        Listener::Http | Listener::Tcp | Listener::Sni => "",
    };
    let tls = if listener.terminates() {
        // Its default ends with TLS 1.2, unlike that of the others.
        let protocols = "ssl_protocols TLSv1.2 TLSv1.3;";
        format!("{protocols} ssl_certificate {}; ssl_certificate_key {};", setup.certificate(), setup.key())
    } else {
        String::new()
    };
    let module = if listener.is_http() { "http" } else { "stream" };
    let limit = setup.client_limit;
    let mut limits = format!("limit_conn {module}_clients {limit}; limit_conn {module}_all {GLOBAL_LIMIT};");
    if listener.is_http() && setup.client_rate > 0 {
        limits += " limit_req zone=rates burst=10 nodelay;";
    }
    let forward = match listener {
        Listener::Sni => "ssl_preread on; proxy_pass $named;".to_owned(),
        Listener::Tcp => format!("proxy_pass 127.0.0.1:{};", setup.backend),
        _ => {
            "location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\"; }".to_owned()
        }
    };
    format!("    server {{ listen 127.0.0.1:{port}{listen}; {tls} {limits} {forward} }}\n")
}

const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
