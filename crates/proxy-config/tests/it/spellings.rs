//! The three spellings mean the same, and every key lands in its field.

use crate::{CHAIN, KEY, read, yaml};
use proxy_config::Format;
use proxy_route::{
    AccessLogOutput, Action, Algorithm, BackendProtocol, ClientAuth, ClientAuthMode, Ejection, HeaderPattern,
    HealthCheck, KeepAliveTreatment, LogFolding, LogFormat, OnReject, PemSource, PortRange, Protocol, ProxyVersion,
    RateLimit, Target, TargetPort, TlsMode, TlsVersion,
};
use std::path::PathBuf;
use std::time::Duration;

const YAML: &str = include_str!("full.yaml");
const JSON: &str = include_str!("full.json");
const TOML: &str = include_str!("full.toml");

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[test]
fn the_three_spellings_mean_the_same() {
    let [a, b, c] = [(YAML, Format::Yaml), (JSON, Format::Json), (TOML, Format::Toml)].map(|(text, format)| {
        let loaded = read(text, format).unwrap_or_else(|found| panic!("{found}"));
        assert!(loaded.warnings.is_empty(), "{format:?}\n{}", loaded.warnings);
        format!("{:#?}", loaded.config)
    });
    assert_eq!(a, b, "YAML and JSON");
    assert_eq!(a, c, "YAML and TOML");
}

#[test]
fn every_key_of_the_process_lands_in_its_field() {
    let settings = yaml(YAML).config.settings;
    assert_eq!(settings.bind_unix, [PathBuf::from("/etc/{port}.sock")]);
    assert_eq!(settings.bind, ["127.0.0.1", "::1"].map(|ip| ip.parse::<std::net::IpAddr>().unwrap()));
    assert_eq!(settings.workers.map(std::num::NonZeroUsize::get), Some(3));
    let limits = settings.limits;
    assert_eq!((limits.max_connections, limits.max_connections_explicit), (20_000, true));
    assert_eq!((limits.per_client, limits.rate_per_minute, limits.rate_burst), (80, 240, Some(90)));
    assert_eq!((limits.pending, limits.handshakes, limits.tracked_clients), (Some(500), 70, 1_000_000));
    assert_eq!((limits.prefixes.v4(), limits.prefixes.v6()), (24, 48));
    let nets = |nets: &[ipnet::IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(nets(&settings.exempt), ["192.0.2.0/24", "10.9.9.9/32"]);
    assert_eq!(nets(&settings.accept_proxy.peers), ["10.0.0.5/32"]);
    assert_eq!(settings.accept_proxy.ports, Some(vec![443, 8443]));
    assert_eq!(nets(&settings.trusted_proxies), ["10.1.0.0/16"]);
    assert_eq!(settings.send_proxy, Some(ProxyVersion::V1));
    let refusal = |ip: &str| settings.access.refusal(ip.parse().unwrap());
    assert_eq!(refusal("203.0.113.7"), Some("block_list"));
    assert_eq!(refusal("192.0.2.15"), Some("block_list"), "from the file");
    assert_eq!(refusal("192.0.2.16"), None);
    let one = settings.client_overrides[0];
    assert_eq!(
        (one.network.to_string().as_str(), one.per_client, one.rate_per_minute),
        ("198.51.0.0/16", Some(1000), Some(0))
    );
    assert!(!settings.enforce);
    assert_eq!(settings.on_reject, OnReject::Reset);
    let times = settings.timeouts;
    assert_eq!((times.initial_data, times.connect, times.response), (seconds(11), seconds(12), seconds(13)));
    assert_eq!((times.request_header, times.request_body, times.lifetime), (seconds(14), seconds(15), seconds(86_400)));
    assert_eq!((times.response_body, times.graceful_shutdown), (seconds(45), None), "0 is never");
    assert_eq!(settings.dns_refresh, seconds(40));
    let keep = settings.keep_alive;
    assert_eq!((keep.tunnel_idle, keep.http_idle), (seconds(3600), seconds(3600)));
    assert_eq!((keep.treatment, keep.multiplier), (KeepAliveTreatment::Extended, 3));
    let probes = keep.tcp.unwrap();
    assert_eq!((Some(probes.idle), Some(probes.interval), probes.probes), (seconds(30), seconds(5), 2));
    assert_eq!(settings.max_request_header_bytes, 16_384);
    assert_eq!((settings.max_concurrent_streams, settings.min_request_body_rate), (64, 100));
    assert_eq!(settings.tls.certificates[0].domains, ["shop.test", "*.shop.test"]);
    assert_eq!(settings.tls.certificates[0].chain, PemSource::File(PathBuf::from("/etc/a.pem")));
    assert_eq!(settings.tls.certificates[0].key, PemSource::File(PathBuf::from("/etc/a.key")));
    assert_eq!((settings.tls.min_version, settings.tls.alpn), (TlsVersion::V1_3, vec!["http/1.1".to_owned()]));
    let logging = settings.logging;
    assert_eq!((logging.format, logging.level.as_str()), (LogFormat::Json, "warn,proxy_http=debug"));
    assert_eq!((Some(logging.folding.flush_interval), logging.folding.top_sources), (seconds(7), 4));
    assert_eq!((logging.max_keys, logging.folding.burst, logging.folding.rise_factor), (999, 8, 5));
    let refused = logging.kinds["refused"];
    assert_eq!((Some(refused.flush_interval), refused.top_sources), (seconds(1), 3));
    assert_eq!((refused.burst, refused.rise_factor), (2, 0));
    let swept = LogFolding { burst: 4, ..logging.folding };
    assert_eq!((logging.kinds["swept"], logging.kinds.len()), (swept, 12), "what is not said is as for all");
    let access = settings.access_log.unwrap();
    assert_eq!(access.output, AccessLogOutput::File(PathBuf::from("/etc/access.log")));
    assert_eq!((access.format, access.sample), (LogFormat::Json, 0.25));
    let admin = settings.admin.unwrap();
    assert_eq!(
        (admin.listen.to_string().as_str(), admin.token.as_deref()),
        ("0.0.0.0:9901", Some("from-the-environment"))
    );
}

#[test]
fn every_key_of_a_route_lands_in_its_field() {
    let routes = yaml(YAML).config.routes;
    assert_eq!(routes.len(), 5, "the disabled one is left out");
    let shop = &routes[0];
    assert_eq!((shop.name.as_str(), shop.id.as_deref()), ("shop", Some("shop-1")));
    assert_eq!((shop.enforce, shop.priority, shop.protocol), (false, 50, Protocol::Http));
    assert_eq!(shop.matching.ports, [PortRange::single(443), PortRange { from: 8000, to: 8010 }]);
    assert_eq!(shop.matching.domains.iter().map(ToString::to_string).collect::<Vec<_>>(), ["shop.test", "*.shop.test"]);
    assert_eq!(shop.matching.path, Some("/api/*".into()));
    assert!(shop.matching.client_ip.as_ref().unwrap().contains("10.1.1.1".parse().unwrap()));
    assert!(
        matches!(&shop.matching.headers[0], (name, HeaderPattern::Exact(value)) if name == "x-version" && value == "2")
    );
    assert!(
        matches!(&shop.matching.headers[1], (name, HeaderPattern::Regex(regex)) if name == "x-kind" && regex.as_str() == "^a+$")
    );
    assert_eq!(shop.matching.tls_versions, [TlsVersion::V1_3]);
    assert_eq!(shop.tls, Some(TlsMode::TerminateAndReencrypt));
    let auth = ClientAuth { ca: PathBuf::from("/etc/ca.pem"), mode: ClientAuthMode::Optional };
    assert_eq!(shop.client_auth, Some(auth));
    let certificate = shop.certificate.as_ref().unwrap();
    assert_eq!(certificate.domains, ["shop.test", "*.shop.test"]);
    assert_eq!(
        (&certificate.chain, &certificate.key),
        (&PemSource::Inline(CHAIN.into()), &PemSource::Inline(KEY.into()))
    );
    let Action::Forward(forward) = &shop.action else { panic!("{:?}", shop.action) };
    let target =
        |host: &str, port, send_proxy, max_connections| Target { host: host.into(), port, send_proxy, max_connections };
    assert_eq!(
        forward.targets,
        [
            target("10.1.0.11", TargetPort::Fixed(8080), Some(ProxyVersion::V2), 0),
            target("10.1.0.12", TargetPort::Fixed(8080), Some(ProxyVersion::V2), 0),
            target("backend.test", TargetPort::Preserve, None, 12),
            target("unix:/etc/app.sock", TargetPort::Fixed(0), Some(ProxyVersion::V2), 0),
        ]
    );
    let check = HealthCheck {
        path: Some("/up".to_owned()),
        host: Some("up.test".to_owned()),
        interval: Duration::from_secs(7),
        timeout: Duration::from_secs(2),
        unhealthy_threshold: 4,
        healthy_threshold: 5,
    };
    assert_eq!(forward.health_check, Some(check));
    let (hold, max_hold) = (Duration::from_secs(3), Duration::from_secs(9));
    assert_eq!(forward.ejection, Some(Ejection { after_failures: 6, hold, max_hold }));
    assert_eq!((forward.algorithm, forward.websocket), (Algorithm::LeastConnections, false));
    assert_eq!(forward.backend_tls.ca, Some(PathBuf::from("/etc/ca.pem")));
    assert_eq!(forward.backend_tls.server_name.as_deref(), Some("inside.test"));
    assert!(forward.backend_tls.insecure_skip_verify);
    assert_eq!((forward.backend_protocol, forward.half_close), (BackendProtocol::Http2, true), "one by default");
    let edits = [("X-Env".to_owned(), Some("prod".to_owned())), ("A-Secret".to_owned(), None)];
    assert_eq!(shop.headers.request.0, edits, "in the order of the file");
    assert_eq!(shop.headers.response.0, [("Server".to_owned(), None)]);
    assert_eq!((shop.security.limits.max_connections, shop.security.limits.per_client), (4000, 30));
    let limits = shop.security.limits;
    assert_eq!((limits.rate_per_minute, limits.max_requests, limits.max_requests_per_client), (90, 700, 70));
    assert_eq!(limits.rate_limit, Some(RateLimit { max_requests: 600, window: Duration::from_secs(30) }));
    assert_eq!(shop.security.too_fast.as_deref(), Some("slow down"));
    let auth = shop.security.basic_auth.as_ref().unwrap();
    assert!(auth.realm() == "the shop" && auth.admits(b"ann:from-the-environment") && !auth.admits(b"ann:"));
    assert_eq!(shop.security.access.refusal("203.0.113.9".parse().unwrap()), Some("block_list"));
    assert_eq!(shop.security.access.refusal("192.0.2.1".parse().unwrap()), None, "\"*\" beats the default's list");

    let Action::Redirect(redirect) = &routes[1].action else { panic!("{:?}", routes[1].action) };
    assert_eq!((redirect.to.as_str(), redirect.status), ("https://{domain}{path}", 301));
    assert_eq!((routes[1].protocol, routes[1].tls), (Protocol::Http, None), "\"tls\": false beats the default");
    let Action::Respond(respond) = &routes[2].action else { panic!("{:?}", routes[2].action) };
    assert_eq!((respond.status, respond.body.as_str()), (418, "tea"));
    assert_eq!(respond.headers, [("X-Pot".to_owned(), "yes".to_owned())]);
    assert!(matches!(routes[3].action, Action::Block));

    let mail = &routes[4];
    assert_eq!((mail.tls, mail.protocol), (Some(TlsMode::Passthrough), Protocol::Tcp));
    let Action::Forward(forward) = &mail.action else { panic!("{:?}", mail.action) };
    assert_eq!(
        (&forward.targets[0].host, forward.targets[0].port),
        (&"10.7.0.1".into(), TargetPort::Fixed(9000)),
        "the default target"
    );
    assert_eq!(forward.targets[0].send_proxy, Some(ProxyVersion::V1), "that of the process");
    assert!(!forward.half_close);
    assert_eq!(
        (mail.security.limits.max_connections, mail.security.limits.per_client),
        (0, 20),
        "never the process's limit"
    );
    assert_eq!(mail.security.access.refusal("192.0.2.1".parse().unwrap()), Some("allow_list"));
}

#[test]
fn secrets_come_from_the_file_the_environment_or_another_file() {
    for (token, secret) in [("plain", "plain"), ("${TOKEN}", "from-the-environment"), ("@token.txt", "from-a-file")] {
        let loaded = yaml(&format!("admin: {{ listen: \"[::1]:9901\", token: \"{token}\" }}"));
        assert_eq!(loaded.config.settings.admin.as_ref().unwrap().token.as_deref(), Some(secret));
        assert!(!format!("{loaded:?}").contains(secret), "no secret in debug output");
    }
}

#[test]
fn defaults_of_request_limits_reach_http_and_can_be_switched_off() {
    let text = "
defaults:
  security:
    maxRequests: 9
    maxRequestsPerIP: 3
    rateLimit: { maxRequests: 5, window: 500ms }
routes:
  - { name: a, match: { ports: 80, path: / }, action: { type: block } }
  - name: b
    match: { ports: 81, path: / }
    action: { type: block }
    security: { maxRequests: 0, maxRequestsPerIP: 4, rateLimit: false, basicAuth: { enabled: false, users: [{ username: a, password: b }] } }
  - { name: c, match: { ports: 82 }, action: { type: forward, targets: [{ host: a, port: 1 }] } }
";
    let routes = yaml(text).config.routes;
    let limits = |index: usize| {
        let limits = routes[index].security.limits;
        (limits.max_requests, limits.max_requests_per_client, limits.rate_limit)
    };
    let rate = RateLimit { max_requests: 5, window: Duration::from_millis(500) };
    assert_eq!(limits(0), (9, 3, Some(rate)));
    assert_eq!(limits(1), (0, 4, None));
    assert_eq!(limits(2), (0, 0, None), "there are no requests in bytes");
    assert!(routes.iter().all(|route| route.security.basic_auth.is_none()));
}

#[test]
fn the_least_configuration_is_all_defaults() {
    for (text, format) in [("", Format::Yaml), ("# nothing\n", Format::Yaml), ("{}", Format::Json), ("", Format::Toml)]
    {
        let loaded = read(text, format).unwrap_or_else(|found| panic!("{found}"));
        let settings = format!("{:?}", loaded.config.settings);
        assert_eq!(settings, format!("{:?}", proxy_route::Settings::default()), "{format:?}");
        assert_eq!(loaded.warnings.len(), 1, "no route");
    }
}

/// As pasted from `@push.rocks/smartproxy`, but for what is not built.
const PASTED: &str = r#"{
  "maxConnectionsPerIP": 80,
  "connectionRateLimitPerMinute": 240,
  "proxyIPs": ["10.0.0.5"],
  "acceptProxyProtocol": true,
  "sendProxyProtocol": false,
  "initialDataTimeout": 15000,
  "connectionTimeout": 8000,
  "inactivityTimeout": 14400000,
  "maxConnectionLifetime": 86400000,
  "gracefulShutdownTimeout": 20000,
  "keepAliveTreatment": "extended",
  "keepAliveInactivityMultiplier": 6,
  "defaults": { "security": { "maxConnections": 20000, "ipBlockList": ["198.51.100.0/24"] } },
  "routes": [
    {
      "name": "shop-tls",
      "priority": 50,
      "tags": ["x"],
      "description": "y",
      "match": { "ports": 443, "domains": ["shop.test", "*.shop.test"], "path": "/api/*" },
      "action": {
        "type": "forward",
        "targets": [{ "host": ["10.1.0.11", "10.1.0.12"], "port": 8080 }],
        "tls": { "mode": "terminate", "certificate": { "certFile": "a.pem", "keyFile": "a.key" } },
        "loadBalancing": { "algorithm": "least-connections" },
        "websocket": { "enabled": true }
      },
      "security": {
        "maxConnections": 4000,
        "maxConnectionsPerIP": 30,
        "ipAllowList": ["*"],
        "ipBlockList": ["203.0.113.7"],
        "rateLimit": {
          "enabled": true, "maxRequests": 600, "window": 60, "keyBy": "ip", "errorMessage": "slow down"
        },
        "basicAuth": { "enabled": true, "users": [{ "username": "ann", "password": "sesame" }], "realm": "shop" },
        "x-ipv6PrefixLength": 64
      }
    },
    {
      "name": "mail-passthrough",
      "match": { "ports": [{ "from": 993, "to": 995 }], "domains": "mail.shop.test" },
      "action": {
        "type": "forward",
        "targets": [{ "host": "10.1.0.30", "port": 993 }],
        "tls": { "mode": "passthrough" },
        "sendProxyProtocol": true
      },
      "security": { "maxConnections": 500, "ipAllowList": ["192.0.2.0/24"] }
    }
  ]
}"#;

#[test]
fn routes_of_the_original_load() {
    let loaded = read(PASTED, Format::Json).unwrap_or_else(|found| panic!("{found}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let config = loaded.config;
    assert_eq!(config.settings.limits.max_connections, 20_000, "the default of all routes is the process");
    assert_eq!((config.settings.limits.per_client, config.settings.limits.rate_per_minute), (80, 240));
    let [shop, mail] = config.routes.as_slice() else { panic!("{:?}", config.routes) };
    let limits = shop.security.limits;
    assert_eq!((limits.max_connections, limits.per_client), (4000, 30));
    assert_eq!(limits.rate_limit, Some(RateLimit { max_requests: 600, window: Duration::from_secs(60) }));
    assert!(shop.security.basic_auth.as_ref().unwrap().admits(b"ann:sesame"));
    assert_eq!(shop.security.access.refusal("203.0.113.7".parse().unwrap()), Some("block_list"));
    assert_eq!((mail.security.limits.max_connections, mail.tls), (500, Some(TlsMode::Passthrough)));
    assert_eq!(mail.security.access.refusal("198.51.100.1".parse().unwrap()), Some("block_list"), "of the defaults");
}

#[test]
fn yaml_has_anchors_merge_keys_and_core_scalars() {
    let text = "
x-base: &base { maxConnections: 7, maxConnectionsPerIP: 0x10 }
maxConnections: 0o17
logging: { level: !!str off }
routes:
  - name: on
    match: &on { ports: 80, domains: bücher.test }
    action: &act { type: forward, targets: [{ host: a, port: 010 }] }
    security: { <<: *base, maxConnections: 9 }
  - { name: twin, match: { <<: [*on], ports: 81 }, action: *act }
"
    .replace("bücher", "books");
    let config = yaml(&text).config;
    assert_eq!(config.settings.limits.max_connections, 15);
    assert_eq!(config.routes[0].name, "on", "a string in YAML 1.2");
    let limits = config.routes[0].security.limits;
    assert_eq!((limits.max_connections, limits.per_client), (9, 16));
    assert_eq!(config.routes[1].matching.ports, [PortRange::single(81)]);
    let Action::Forward(forward) = &config.routes[1].action else { panic!() };
    assert_eq!(forward.targets[0].port, TargetPort::Fixed(10));
}
