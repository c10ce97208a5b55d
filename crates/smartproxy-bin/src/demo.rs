//! `smartproxy demo`: everything in one command.

mod backend;
mod narrate;

use crate::logging::Log;
use crate::process::Process;
use crate::run::Signals;
use proxy_config::{Format, System};
use std::error::Error;
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;

/// Runs the proxy with backends of its own, a certificate made on the spot and small limits, until Ctrl-C.
pub(crate) fn demo() -> ExitCode {
    let run = || -> Result<ExitCode, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut signals = Signals::new()?;
            let ports = Ports::choose()?;
            let config = configuration(&ports, &backend::start()?)?;
            let loaded = proxy_config::parse("demo.yaml", &config, Format::Yaml, &System { folder: ".".into() })
                .map_err(|mistakes| mistakes.to_string())?;
            let log = Log::start(&loaded.config.settings.logging)?;
            let process = Process::start(loaded.config, None, &log)?;
            print!("{}", invitation(&ports));
            tokio::spawn(narrate::narrate(std::sync::Arc::clone(&process.status)));
            Ok(signals.until_the_end(process).await)
        })
    };
    run().unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// Where the demo listens: the usual ports where they are free.
struct Ports {
    http: u16,
    https: u16,
    tcp: u16,
    admin: u16,
}

impl Ports {
    fn choose() -> std::io::Result<Self> {
        Ok(Self { http: free(8080)?, https: free(8443)?, tcp: free(9000)?, admin: free(9901)? })
    }
}

/// `wish`, or another free port if it is taken.
fn free(wish: u16) -> std::io::Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, wish)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(listener.local_addr()?.port())
}

/// The configuration of the demo, with limits small enough to be met by hand.
fn configuration(ports: &Ports, backends: &backend::Backends) -> Result<String, Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "demo.test".to_owned()])?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let Ports { http, https, tcp, admin } = ports;
    let backend::Backends { http: site, tcp: line } = backends;
    Ok(format!(
        "bind: [\"127.0.0.1\"]
maxConnections: 200
maxConnectionsPerIP: 5
connectionRateLimitPerMinute: 120
logging: {{ level: \"warn\", dedup: {{ flushInterval: 2s }} }}
admin: {{ listen: \"127.0.0.1:{admin}\" }}
routes:
  - name: web
    match: {{ ports: {http}, path: \"/*\" }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {site} }}] }}
  - name: secure-web
    match: {{ ports: {https} }}
    action:
      type: forward
      targets: [{{ host: 127.0.0.1, port: {site} }}]
      tls: {{ mode: terminate, certificate: {{ cert: {certificate:?}, key: {key:?} }} }}
    security: {{ maxConnectionsPerIP: 3 }}
  - name: raw
    match: {{ ports: {tcp} }}
    action: {{ type: forward, targets: [{{ host: 127.0.0.1, port: {line} }}] }}
"
    ))
}

fn invitation(ports: &Ports) -> String {
    let Ports { http, https, tcp, admin } = ports;
    format!(
        "smartproxy demo: one client may hold 5 connections over everything, 3 of them on the HTTPS route.

  http://127.0.0.1:{http}/     plain HTTP
  https://127.0.0.1:{https}/    TLS ends here (the certificate is made for this run, hence -k below)
  127.0.0.1:{tcp}             plain TCP: greets, then echoes
  http://127.0.0.1:{admin}/metrics and http://127.0.0.1:{admin}/api/v1/limits

Try
  curl http://127.0.0.1:{http}/
  curl -k https://127.0.0.1:{https}/
and then hold eight connections for ten seconds each; five are served, three are refused:
  for i in 1 2 3 4 5 6 7 8; do curl -s http://127.0.0.1:{http}/slow & done; wait
the HTTPS route lets one client have three, and tells the others why (429):
  for i in 1 2 3 4 5; do curl -sk -w '%{{http_code}}\\n' https://127.0.0.1:{https}/slow & done; wait
and both share one count: with five held on TCP, HTTP is refused as well:
  for i in 1 2 3 4 5; do sleep 10 | curl -s telnet://127.0.0.1:{tcp} & done; sleep 1; curl http://127.0.0.1:{http}/

Ctrl-C ends it. What happens, as it happens:
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_the_demo_has_no_mistake() {
        let ports = Ports { http: 8080, https: 8443, tcp: 9000, admin: 9901 };
        let config = configuration(&ports, &backend::Backends { http: 1, tcp: 2 }).expect("a certificate");
        let loaded = proxy_config::parse("demo.yaml", &config, Format::Yaml, &System { folder: ".".into() });
        let loaded = loaded.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(loaded.warnings.iter().count(), 0, "{}", loaded.warnings);
        assert_eq!(loaded.config.routes.len(), 3);
    }
}
