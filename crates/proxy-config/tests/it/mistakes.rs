//! Each kind of mistake once, with its place.

use crate::mistakes;
use proxy_config::Format;

/// A route on port 80 that forwards; `parts` are its other keys.
fn route(parts: &str) -> String {
    format!(
        "routes: [{{ name: a, match: {{ ports: 80 }}, action: {{ type: forward, targets: [{{ host: b, port: 1 }}] }}, {parts} }}]"
    )
}

/// A route with this `match` and this `action`.
pub(crate) fn with(matching: &str, action: &str) -> String {
    format!("routes: [{{ name: a, match: {{ {matching} }}, action: {{ {action} }} }}]")
}

/// Whether the YAML has exactly the one mistake, at this path, that says this.
#[track_caller]
pub(crate) fn one(text: &str, path: &str, message: &str) {
    let found: Vec<_> = mistakes(text, Format::Yaml);
    let found: Vec<_> = found.iter().filter(|one| !one.contains("no route is enabled")).collect();
    let [only] = found.as_slice() else { panic!("{text}\n{found:#?}") };
    let (place, said) = only.split_once(": ").expect("place: message");
    assert_eq!(place.split_once(' ').expect("line:column path").1, path, "{text}\n{only}");
    assert!(said.contains(message), "{text}\n{only}");
}

#[test]
fn several_mistakes_of_one_file_are_all_placed() {
    let yaml = "maxKonnections: 5\nworkers: 0\nroutes:\n  - name: a\n    match: { ports: 99999 }\n    action: { type: block }\n";
    let json = "{ \"maxKonnections\": 5,\n  \"workers\": 0,\n  \"routes\": [\n    { \"name\": \"a\",\n      \"match\": { \"ports\": 99999 },\n      \"action\": { \"type\": \"block\" } } ] }";
    let toml = "maxKonnections = 5\nworkers = 0\n\n[[routes]]\nname = \"a\"\nmatch = { ports = 99999 }\naction = { type = \"block\" }\n";
    for (text, format, places) in [
        (yaml, Format::Yaml, ["1:1", "2:10", "5:21"]),
        (json, Format::Json, ["1:3", "2:14", "5:27"]),
        (toml, Format::Toml, ["1:1", "2:11", "6:19"]),
    ] {
        let expected = [
            format!("{} maxKonnections: \"maxKonnections\" is no key that is known here", places[0]),
            format!("{} workers: 0 makes no sense here", places[1]),
            format!("{} routes[0].match.ports: 99999 is not within 1 to 65535", places[2]),
        ];
        assert_eq!(mistakes(text, format), expected, "{format:?}");
    }
}

#[test]
fn what_is_not_of_its_format_is_one_mistake() {
    let deep = "[".repeat(100_000);
    for (text, format, expected) in [
        ("a: [1,", Format::Yaml, "this is no YAML"),
        ("a:\n\tb: 1", Format::Yaml, "this is no YAML"),
        ("a: 1\n---\nb: 2", Format::Yaml, "2:1 : a configuration is one YAML document"),
        ("a: !secret b", Format::Yaml, "1:12 : the tag !secret means nothing here"),
        ("x-a: &a [*a]", Format::Yaml, "this alias is inside of what it stands for"),
        ("x-a:\n  <<: 5", Format::Yaml, "\"<<\" merges tables"),
        ("[1]: 2", Format::Yaml, "a key is a string"),
        ("[]", Format::Yaml, "this should be a table of keys, not a list"),
        (deep.as_str(), Format::Yaml, ""),
        ("", Format::Json, "the file is empty"),
        ("{ // note\n}", Format::Json, "1:3 : JSON has no comments"),
        ("{ \"x-a\": [1,] }", Format::Json, "1:12 : JSON has no comma after the last entry"),
        ("{ \"x-a\": [1 2] }", Format::Json, "1:13 : a comma is missing before this"),
        ("{ \"x-a\": 1 \"x-b\": 2 }", Format::Json, "a comma is missing before this"),
        ("{ 'x-a': 1 }", Format::Json, "JSON strings are in double quotes"),
        ("{ x: 1 }", Format::Json, "this is no JSON"),
        ("{ \"x-a\": \"1\n2\" }", Format::Json, "a JSON string has no line break"),
        (r#"{ "x-a": "\ud83d\ude00" }"#, Format::Json, "this escape is half a character"),
        (deep.as_str(), Format::Json, "this is nested too deeply"),
        ("a = ", Format::Toml, "this is no TOML"),
        (&format!("a = {deep}"), Format::Toml, "this is no TOML"),
    ] {
        let found = mistakes(text, format);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains(expected), "{:.40} {format:?}: {}", text, found[0]);
    }
}

#[test]
fn one_mistake_does_not_hide_or_make_another() {
    let text = "routes:\n  - name: a\n    match: { ports: 80, path: nope }\n    headers: { request: { a: b } }\n    \
        action: { type: forward, targets: [{ host: b }], tls: { mode: terminate } }\n";
    let found = mistakes(text, Format::Yaml);
    let messages = ["a path begins with", "\"port\" is missing", "no certificate to terminate"];
    assert_eq!(found.len(), messages.len(), "{found:#?}");
    for (one, message) in found.iter().zip(messages) {
        assert!(one.contains(message), "{one}");
    }
    let plain = mistakes(&text.replace(", tls: { mode: terminate }", ""), Format::Yaml);
    assert_eq!(plain.len(), 2, "a wrong path is still about requests: {plain:#?}");
}

#[test]
fn keys_given_twice_are_placed_in_every_spelling() {
    for (text, format, place) in [
        ("enforce: true\nenforce: false\n", Format::Yaml, "2:1 "),
        ("{ \"enforce\": true,\n  \"enforce\": false }", Format::Json, "2:3 "),
        ("enforce = true\nenforce = false\n", Format::Toml, "2:1 "),
    ] {
        let found = mistakes(text, format);
        let twice = found.iter().find(|one| one.contains("given twice")).unwrap_or_else(|| panic!("{found:?}"));
        assert!(twice.starts_with(place), "{format:?} {twice}");
    }
}

#[test]
fn places_are_right_after_other_characters() {
    for (text, format) in [
        ("x-a: \"äöü €\"\nx-b: {ü: 🙂}\nenforce: 5\n", Format::Yaml),
        ("\u{feff}{ \"x-a\": \"ä€🙂\",\n\n\"enforce\": 5 }", Format::Json),
        ("x-a = \"ä€🙂\"\r\n\r\nenforce=5\r\n", Format::Toml),
    ] {
        let found = mistakes(text, format);
        assert!(
            found.iter().any(|one| one.starts_with("3:") && one.contains("enforce: this should be true or false")),
            "{format:?} {found:?}"
        );
    }
    let found = mistakes("x-a: 🙂 # ä\nenforce: 5 # ü", Format::Yaml);
    assert!(found.iter().any(|one| one.starts_with("2:10 ")), "{found:?}");
}

#[test]
fn values_of_the_process() {
    for (text, path, message) in [
        ("workers: 1.5", "workers", "whole number"),
        ("workers: \"4\"", "workers", "a number, not a string"),
        ("maxConnections: -1", "maxConnections", "not within 0 to"),
        ("maxConnections: ", "maxConnections", "a number, not nothing"),
        ("maxTrackedClients: 0", "maxTrackedClients", "0 makes no sense"),
        ("connectionRateBurst: 0", "connectionRateBurst", "0 makes no sense"),
        ("connectionRateBurst: 50", "connectionRateBurst", "a client may have 100 connections, but only 50"),
        ("ipv4PrefixLength: 0", "ipv4PrefixLength", "an IPv4 prefix length is 1 to 32"),
        ("ipv6PrefixLength: 65", "ipv6PrefixLength", "an IPv6 prefix length is 1 to 64, not 65"),
        ("ipv6PrefixLength: 1000", "ipv6PrefixLength", "an IPv6 prefix length is 1 to 64"),
        ("maxPendingConnections: 10001", "maxPendingConnections", "more than the 10000 connections"),
        (
            "maxConnections: 5\ndefaults: { security: { maxConnections: 6 } }",
            "maxConnections",
            "5 here and 6 in defaults",
        ),
        ("enforce: yes", "enforce", "a truth value, not a string"),
        ("initialDataTimeout: 15", "", ""),
        ("initialDataTimeout: \"15\"", "initialDataTimeout", "this is no time"),
        ("initialDataTimeout: -1", "initialDataTimeout", "this is no time"),
        ("initialDataTimeout: 900years", "initialDataTimeout", "longer than ten years"),
        ("tcpKeepAlive: { idle: 0 }", "tcpKeepAlive.idle", "0 makes no sense"),
        ("tcpKeepAlive: { idle: 1500 }", "tcpKeepAlive.idle", "whole seconds"),
        ("keepAliveTreatment: imortal", "keepAliveTreatment", "is none of"),
        ("maxRequestHeaderBytes: 100", "maxRequestHeaderBytes", "not within 8192"),
        ("maxConcurrentStreams: 0", "maxConcurrentStreams", "makes no sense here"),
        ("bind: localhost", "bind", "is no address"),
        ("bind: []", "bind", "without an address"),
        ("bind: [\"::\", \"::\"]", "bind[1]", "given twice"),
        ("bind: [\"unix:/run/x\", \"unix:/run/x\"]", "bind[1]", "given twice"),
        ("bind: \"unix:\"", "bind", "the path of the Unix socket is missing"),
        ("exempt: [10.0.0.0/33]", "exempt[0]", "neither an address nor a CIDR"),
        ("exempt: [10.0.0.1/8]", "exempt[0]", "means the whole network 10.0.0.0/8"),
        ("security: { ipBlockList: [\"10.*.1\"] }", "security.ipBlockList[0]", "is no address"),
        ("security: { ipBlockList: \"9.0.0.0-8.0.0.0\" }", "security.ipBlockList", "is no address"),
        ("security: { ipBlockList: \"@none.txt\" }", "security.ipBlockList", "/etc/none.txt cannot be read"),
        ("security: { ipAllowList: \"@empty.txt\" }", "security.ipAllowList", "has no address"),
        (
            "security: { ipAllowList: \"@broken.txt\" }",
            "security.ipAllowList",
            "\"nonsense\" in line 2 of /etc/broken.txt",
        ),
        ("security: { blockedIps: [] }", "security.blockedIps", "the old name of \"ipBlockList\""),
        ("security: { blockedIps: [], ipBlockList: [] }", "security.blockedIps", "both are given"),
        ("clientOverrides: [{ cidr: 10.0.0.0/8 }]", "clientOverrides[0]", "changes no limit"),
        (
            "clientOverrides: [{ cidr: \"2001:db8::/65\", maxConnectionsPerIP: 1 }]",
            "clientOverrides[0].cidr",
            "narrower than a client",
        ),
        ("clientOverrides: [{ maxConnectionsPerIP: 1 }]", "clientOverrides[0]", "\"cidr\" is missing"),
        ("acceptProxyProtocol: true", "acceptProxyProtocol", "none is named"),
        ("acceptProxyProtocol: 443\nproxyIPs: [10.0.0.1]", "acceptProxyProtocol", "true, false or a list of ports"),
        ("proxyIPs: [10.0.0.1]", "proxyIPs", "not used"),
        ("trustedProxies: [0.0.0.0/0]", "trustedProxies[0]", "everybody is trusted"),
        ("sendProxyProtocol: v3", "sendProxyProtocol", "is none of"),
        ("logging: { level: inof }", "logging.level", "is no level"),
        ("logging: { dedup: { flushInterval: 0 } }", "logging.dedup.flushInterval", "0 makes no sense"),
        (
            "logging: { dedup: { kinds: { refused: { burst: 0 } } } }",
            "logging.dedup.kinds.refused.burst",
            "0 makes no sense",
        ),
        ("logging: { dedup: { kinds: { refusd: {} } } }", "logging.dedup.kinds.refusd", "is no key that is known here"),
        ("admin: { listen: localhost:1 }", "admin.listen", "no address with a port"),
        ("admin: { listen: \"0.0.0.0:1\" }", "admin.listen", "there is no token"),
        ("admin: { listen: \"unix:\" }", "admin.listen", "the path of the Unix socket is missing"),
        ("admin: { listen: \"0.0.0.0:1\", token: \"${NONE}\" }", "admin.token", "\"NONE\" is not set"),
        ("admin: {}", "admin", "\"listen\" is missing"),
        ("tls: { alpn: [h3] }", "tls.alpn[0]", "not supported yet"),
        ("tls: { alpn: [spdy] }", "tls.alpn[0]", "is none of"),
        ("tls: { minVersion: TLSv1.1 }", "tls.minVersion", "not terminated"),
        (
            "tls: { certificates: [{ certFile: no.pem, keyFile: a.key }] }",
            "tls.certificates[0].certFile",
            "cannot be read",
        ),
        (
            "tls: { certificates: [{ certFile: a.key, keyFile: a.key }] }",
            "tls.certificates[0].certFile",
            "no certificate in PEM form",
        ),
        ("tls: { certificates: [{ certFile: a.pem }] }", "tls.certificates[0]", "the private key is missing"),
        (
            "tls: { certificates: [{ certFile: a.pem, cert: x, keyFile: a.key }] }",
            "tls.certificates[0].cert",
            "keep one",
        ),
        ("routes: {}", "routes", "a list of routes"),
    ] {
        if path.is_empty() {
            assert_eq!(mistakes(text, Format::Yaml).len(), 1, "{text}");
        } else {
            one(text, path, message);
        }
    }
}

#[test]
fn parts_of_a_route() {
    let forward = "type: forward, targets: [{ host: b, port: 1 }]";
    for (text, path, message) in [
        ("routes: [{ match: { ports: 80 }, action: { type: block } }]".to_owned(), "routes[0]", "\"name\" is missing"),
        (
            "routes: [{ name: \"\", match: { ports: 80 }, action: { type: block } }]".to_owned(),
            "routes[0].name",
            "at least one character",
        ),
        ("routes: [{ name: a, action: { type: block } }]".to_owned(), "routes[0]", "\"match\" is missing"),
        ("routes: [{ name: a, match: { ports: 80 } }]".to_owned(), "routes[0]", "\"action\" is missing"),
        (route("priority: 1.5"), "routes[0].priority", "whole number"),
        (route("security: { maxConnection: 5 }"), "routes[0].security.maxConnection", "no key that is known"),
        (
            route("security: { maxRequests: 5 }"),
            "routes[0].security.maxRequests",
            "is about requests, and this route carries bytes",
        ),
        (route("security: { rateLimit: { maxRequests: 5 } }"), "routes[0].security.rateLimit", "is about requests"),
        (route("security: { rateLimit: { window: 5 } }"), "routes[0].security.rateLimit", "\"maxRequests\" is missing"),
        (
            route("security: { rateLimit: { maxRequests: 5, window: 2days } }"),
            "routes[0].security.rateLimit.window",
            "a millisecond to a day",
        ),
        (
            route("security: { rateLimit: { maxRequests: 5, window: 0 } }"),
            "routes[0].security.rateLimit.window",
            "0 makes no sense",
        ),
        (
            route("security: { rateLimit: { maxRequests: 5000000, window: 1 } }"),
            "routes[0].security.rateLimit.maxRequests",
            "at most 1000000 requests",
        ),
        (
            route("security: { basicAuth: { users: [{ username: a, password: b }] } }"),
            "routes[0].security.basicAuth",
            "is about requests",
        ),
        (
            "routes: [{ name: a, match: { ports: 80 }, action: { type: block }, security: { basicAuth: { users: [] } } }]"
                .to_owned(),
            "routes[0].security.basicAuth.users",
            "nobody could come in",
        ),
        (
            with("ports: 80, path: /", "type: block").replace(
                "action:",
                "security: { basicAuth: { users: [{ username: \"a:b\", password: c }] } }, action:",
            ),
            "routes[0].security.basicAuth.users[0].username",
            "no colon",
        ),
        (
            format!(
                "defaults: {{ security: {{ basicAuth: {{ users: [{{ username: a, password: b }}] }} }} }}\n{}",
                route("")
            ),
            "routes[0].name",
            "the \"basicAuth\" of the defaults",
        ),
        (with("domains: a", "type: block"), "routes[0].match", "\"ports\" is missing"),
        (with("ports: []", "type: block"), "routes[0].match.ports", "never used"),
        (with("ports: { from: 9, to: 8 }", "type: block"), "routes[0].match.ports", "ends before it begins"),
        (with("ports: 80, domains: \"*a.test\"", "type: block"), "routes[0].match.domains", "whole first label"),
        (with("ports: 80, path: api", "type: block"), "routes[0].match.path", "begins with"),
        (with("ports: 80, clientIp: []", "type: block"), "routes[0].match.clientIp", "matches nobody"),
        (with("ports: 80, headers: { \"a b\": c }", "type: block"), "routes[0].match.headers.a b", "no header name"),
        (with("ports: 80, headers: { a: /(/ }", "type: block"), "routes[0].match.headers.a", "no regular expression"),
        (with("ports: 80, headers: { a: 2 }", "type: block"), "routes[0].match.headers.a", "a string, not a number"),
        (with("ports: 80, tlsVersion: TLSv1.3", "type: block"), "routes[0].match.tlsVersion", "has no TLS version"),
        (with("ports: 80, protocol: udp", "type: block"), "routes[0].match.protocol", "not supported yet"),
        (with("ports: 80", "type: fordward"), "routes[0].action.type", "is none of"),
        (with("ports: 80", "type: forward"), "routes[0].action", "\"targets\" is missing"),
        (with("ports: 80", "type: forward, targets: []"), "routes[0].action.targets", "nothing to forward to"),
        (
            with("ports: 80", "type: forward, targets: [{ host: b }]"),
            "routes[0].action.targets[0]",
            "\"port\" is missing",
        ),
        (
            with("ports: 80", "type: forward, targets: [{ port: 1 }]"),
            "routes[0].action.targets[0]",
            "\"host\" is missing",
        ),
        (
            with("ports: 80", "type: forward, targets: [{ host: \"http://b\", port: 1 }]"),
            "routes[0].action.targets[0].host",
            "neither a host name",
        ),
        (
            with("ports: 80", "type: forward, targets: [{ host: b, port: preserved }]"),
            "routes[0].action.targets[0].port",
            "is none of",
        ),
        (with("ports: 80", "type: redirect"), "routes[0].action", "\"redirect\" is missing"),
        (
            with("ports: 80", "type: redirect, redirect: { to: x, status: 200 }"),
            "routes[0].action.redirect.status",
            "does not redirect",
        ),
        (
            with("ports: 80", "type: redirect, redirect: { to: \"{host}\" }"),
            "routes[0].action.redirect.to",
            "nothing is known to put in",
        ),
        (with("ports: 80", "type: static"), "routes[0].action", "\"static\" is missing"),
        (with("ports: 80", "type: static, static: { status: 99 }"), "routes[0].action.static.status", "not within 200"),
        (
            with("ports: 80", "type: static, static: { status: 204, body: x }"),
            "routes[0].action.static.body",
            "has no body",
        ),
        (
            with("ports: 80", "type: static, static: { headers: { Content-Length: \"5\" } }"),
            "routes[0].action.static.headers.Content-Length",
            "the proxy's own",
        ),
        (
            with("ports: 80", "type: static, static: { headers: { a: \"b\\n\" } }"),
            "routes[0].action.static.headers.a",
            "no line breaks",
        ),
        (
            with("ports: 80", "type: block, redirect: { to: x }"),
            "routes[0].action.redirect",
            "for actions of type \"redirect\"",
        ),
        (
            with("ports: 80", "type: block, websocket: {}"),
            "routes[0].action.websocket",
            "for actions of type \"forward\"",
        ),
        (with("ports: 80", &format!("{forward}, tls: {{}}")), "routes[0].action.tls", "\"mode\" is missing"),
        (
            with("ports: 80", &format!("{forward}, tls: {{ mode: terminate }}")),
            "routes[0].action.tls",
            "no certificate to terminate",
        ),
        (
            with("ports: 80, domains: a.test, protocol: tcp", forward),
            "routes[0].match.domains",
            "needs tls.mode: passthrough",
        ),
        (with("ports: 80, path: /, protocol: tcp", forward), "routes[0].match.path", "this route carries bytes"),
        (
            with("ports: 80, protocol: tcp", "type: static, static: {}"),
            "routes[0].action.type",
            "only http can be answered",
        ),
        (
            with("ports: 80, path: /", &format!("{forward}, tls: {{ mode: passthrough }}")),
            "routes[0].match.path",
            "this route carries bytes",
        ),
        (
            with("ports: 80, protocol: http", &format!("{forward}, tls: {{ mode: passthrough }}")),
            "routes[0].match.protocol",
            "not looked into",
        ),
        (
            with(
                "ports: 80",
                &format!("{forward}, tls: {{ mode: passthrough, certificate: {{ certFile: a.pem, keyFile: a.key }} }}"),
            ),
            "routes[0].action.tls.certificate",
            "needs no certificate",
        ),
        (route("headers: { request: { a: b } }"), "routes[0].headers", "this route carries bytes"),
        (
            route("headers: { request: { a: \"{clientIp}\" } }, x-n: 1")
                .replace("ports: 80", "ports: 80, protocol: http"),
            "routes[0].headers.request.a",
            "in a header is not supported yet",
        ),
        (
            with("ports: 80", &format!("{forward}, backendTls: {{ insecureSkipVerify: true }}")),
            "routes[0].action.backendTls",
            "not spoken to in TLS",
        ),
        (
            with("ports: 80", &format!("{forward}, websocket: {{ enabled: false }}")),
            "routes[0].action.websocket",
            "carries bytes",
        ),
        (
            with("ports: 80", &format!("{forward}, backendProtocol: http2")),
            "routes[0].action.backendProtocol",
            "carries bytes",
        ),
        (
            with("ports: 80, path: /", &format!("{forward}, halfClose: false")),
            "routes[0].action.halfClose",
            "carries requests",
        ),
        (
            with("ports: 80", "type: forward, target: { host: b, port: 1 }"),
            "routes[0].action.target",
            "the old name of \"targets\"",
        ),
        (format!("onReject: respond\n{}", route("")), "onReject", "no port has plain HTTP alone"),
        (
            format!("onReject: respond\n{}", with("ports: [80, 81], path: /", "type: block"))
                .replace("}]", "}, { name: b, match: { ports: 82, protocol: tcp }, action: { type: block } }]"),
            "onReject",
            "refusals on 82 are closed",
        ),
        (format!("admin: {{ listen: \"127.0.0.1:80\" }}\n{}", route("")), "admin.listen", "a route's port too"),
        (
            format!("maxConnectionsPerIP: 50\nconnectionRateBurst: 49\n{}", route("")),
            "connectionRateBurst",
            "may have 50 connections, but only 49 of them at once",
        ),
        (
            format!("connectionRateLimitPerMinute: 0\nconnectionRateBurst: 500\n{}", route("")),
            "connectionRateBurst",
            "without a rate there is no burst",
        ),
        (
            format!("acceptProxyProtocol: [81]\nproxyIPs: 10.0.0.1\n{}", route("")),
            "acceptProxyProtocol",
            "no route is on port 81",
        ),
    ] {
        one(&text, path, message);
    }
}

#[test]
fn files_are_loaded_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    write("list.txt", b"192.0.2.1\n");
    let good = write("good.toml", b"[security]\nipBlockList = [\"@list.txt\"]\n");
    let config = proxy_config::load(&good).unwrap_or_else(|found| panic!("{found}")).config;
    assert!(!config.settings.access.admits("192.0.2.1".parse().unwrap()));
    for (path, line, message) in [
        (write("bad.yaml", b"a: 1\nb: \xff\n"), 2, "this is no UTF-8"),
        (write("bad.ini", b""), 1, "the ending of the file"),
        (folder.path().join("none.json"), 1, "the file cannot be read"),
    ] {
        let found = proxy_config::load(&path).unwrap_err();
        let one = found.iter().next().unwrap();
        assert_eq!((found.len(), one.line), (1, line));
        assert!(one.message.contains(message) && found.to_string().contains(path.to_str().unwrap()), "{found}");
    }
}
