//! Routes that are wrong only beside each other.

use crate::mistakes;
use crate::mistakes::one;
use proxy_config::Format;

#[test]
fn routes_beside_each_other() {
    let two = |first: &str, second: &str| format!("routes:\n  - {{ {first} }}\n  - {{ {second} }}\n");
    let tcp = "match: { ports: [{ from: 79, to: 90 }] }, action: { type: forward, targets: [{ host: b, port: 1 }] }";
    let http = "match: { ports: [1, 80] }, action: { type: block }";
    let other = "match: { ports: 2 }, action: { type: block }";
    for (text, path, message) in [
        (
            two(&format!("name: a, {http}"), &format!("name: a, {other}")),
            "routes[1].name",
            "two routes are named \"a\"",
        ),
        (
            two(&format!("name: a, {http}"), &format!("name: b, id: a, {other}")),
            "routes[1].id",
            "two routes count as \"a\"",
        ),
        (
            two(&format!("name: a, {tcp}"), &format!("name: b, {http}")),
            "routes[1].match.ports",
            "port 80 has a plain tcp route and a plain http route",
        ),
        (
            two(&format!("name: a, {http}"), &format!("name: b, {tcp}")),
            "routes[1].match.ports",
            "port 80 has a plain tcp route and a plain http route",
        ),
        (
            two(&format!("name: a, {http}"), "name: b, match: { ports: 80 }, action: { type: block }"),
            "routes[1].name",
            "\"b\" matches exactly what \"a\" matches",
        ),
        (
            two(
                "name: a, priority: 1, match: { ports: 80, domains: \"*.test\" }, action: { type: block }",
                "name: b, match: { ports: 80, domains: a.test, path: /x }, action: { type: block }",
            ),
            "routes[1].name",
            "\"b\" is never reached: \"a\" takes all",
        ),
    ] {
        one(&text, path, message);
    }
    assert!(
        mistakes(&two(&format!("name: a, enabled: false, {tcp}"), &format!("name: b, {http}")), Format::Yaml)
            .is_empty()
    );
}

#[test]
fn routes_for_one_name_want_certificates_from_one_place() {
    let route = |name: &str, matched: &str, ca: &str| {
        format!(
            "  - name: {name}
    match: {{ {matched} }}
    action:
      type: forward
      targets: [{{ host: b, port: 1 }}]
      tls: {{ mode: terminate, certificate: {{ certFile: a.pem, keyFile: a.key }}, clientAuth: {{ ca: {ca} }} }}
"
        )
    };
    let text = |first: &str, second: &str, ca: &str| {
        format!("routes:\n{}{}", route("a", first, "a.pem"), route("b", second, ca))
    };
    let message = "\"a\" and \"b\" want certificates of clients that ask for";
    for (first, second) in [
        ("ports: 443, domains: a.test, path: /x", "ports: 443, domains: [b.test, a.test]"),
        ("ports: [{ from: 440, to: 450 }], domains: \"*.a.test\", path: /x", "ports: 443, domains: \"*.a.test\""),
        ("ports: 443, path: /x", "ports: 443"),
    ] {
        one(&text(first, second, "ca.pem"), "routes[1].name", message);
        assert_eq!(mistakes(&text(first, second, "a.pem"), Format::Yaml), [""; 0], "{first}");
    }
    for (first, second) in [
        ("ports: 443, domains: a.test", "ports: 444, domains: a.test"),
        ("ports: 443, domains: a.test", "ports: 443, domains: b.test"),
        ("ports: 443, domains: \"*.a.test\"", "ports: 443, domains: b.a.test"),
    ] {
        assert_eq!(mistakes(&text(first, second, "ca.pem"), Format::Yaml), [""; 0], "{second}");
    }
}
