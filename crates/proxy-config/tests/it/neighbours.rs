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
