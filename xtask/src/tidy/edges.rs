//! Who may depend on whom.
//!
//! The arrows are the architecture: counting knows no socket, the data plane knows no counting, and the binary alone
//! knows all. Only what ends up in a user's build counts; tests may depend on anything.

use super::Finding;
use crate::Outcome;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
    process::Command,
};

/// What cargo knows about the packages, for the machine we run on.
pub(crate) fn metadata(root: &Path) -> Outcome<Value> {
    let rustc = output(root, "rustc", &["-vV"])?;
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("`rustc -vV` names no host.")?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let text = output(root, &cargo, &["metadata", "--format-version=1", "--filter-platform", host])?;
    serde_json::from_str(&text).map_err(|error| format!("`cargo metadata` printed no JSON: {error}."))
}

/// Edges between our crates that are not allowed, and outside crates that must not be reached.
pub(crate) fn check(metadata: &Value) -> Vec<Finding> {
    let graph = Graph::read(metadata);
    let mut findings = Vec::new();
    for (name, edges) in &graph.ours {
        match ALLOWED.iter().find(|(from, _)| from == name) {
            None => {
                findings.push(Finding::file(RULES, format!("the crate {name} is not in the table of allowed edges")));
            }
            Some((_, allowed)) => {
                for to in edges.iter().filter(|to| graph.ours.contains_key(**to) && !allowed.contains(to)) {
                    let rule = if allowed.is_empty() { "none of our crates".to_owned() } else { allowed.join(", ") };
                    findings.push(Finding::file(
                        RULES,
                        format!("{name} → {to} is not allowed: {name} may depend on {rule}"),
                    ));
                }
            }
        }
    }
    for edge in graph.ours.get(ALONE).into_iter().flatten() {
        findings.push(Finding::file(RULES, format!("{ALONE} → {edge} is not allowed: {ALONE} has no dependencies")));
    }
    for (from, forbidden) in OUT_OF_REACH {
        for path in forbidden.iter().filter_map(|to| graph.path(from, to)) {
            findings
                .push(Finding::file(RULES, format!("{} is not allowed: {from} stays free of it", path.join(" → "))));
        }
    }
    findings
}

/// Normal and build dependencies; those of tests left out.
struct Graph<'a> {
    /// Our crates and what their manifests name.
    ours: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// Every package id and the ids it was resolved to.
    resolved: BTreeMap<&'a str, Vec<&'a str>>,
    names: BTreeMap<&'a str, &'a str>,
}

impl<'a> Graph<'a> {
    fn read(metadata: &'a Value) -> Self {
        let members: Vec<&str> = list(&metadata["workspace_members"]).filter_map(Value::as_str).collect();
        let mut graph = Self { ours: BTreeMap::new(), resolved: BTreeMap::new(), names: BTreeMap::new() };
        for package in list(&metadata["packages"]) {
            let (id, name) = (text(&package["id"]), text(&package["name"]));
            graph.names.insert(id, name);
            if members.contains(&id) {
                let shipped = list(&package["dependencies"]).filter(|edge| edge["kind"] != "dev");
                graph.ours.insert(name, shipped.map(|edge| text(&edge["name"])).collect());
            }
        }
        for node in list(&metadata["resolve"]["nodes"]) {
            let shipped = list(&node["deps"]).filter(|edge| list(&edge["dep_kinds"]).any(|kind| kind["kind"] != "dev"));
            graph.resolved.insert(text(&node["id"]), shipped.map(|edge| text(&edge["pkg"])).collect());
        }
        graph
    }

    /// The names on a shortest way between two packages, if there is one.
    fn path(&self, from: &str, to: &str) -> Option<Vec<&'a str>> {
        let start = self.names.iter().find(|(id, name)| **name == from && self.resolved.contains_key(*id))?.0;
        let mut reached_from: BTreeMap<&str, Option<&str>> = BTreeMap::from([(*start, None)]);
        let mut queue = VecDeque::from([*start]);
        while let Some(id) = queue.pop_front() {
            if self.names.get(id).is_some_and(|name| *name == to) {
                let way = std::iter::successors(Some(id), |id| reached_from.get(id).copied().flatten());
                let mut names: Vec<&str> = way.filter_map(|id| self.names.get(id).copied()).collect();
                names.reverse();
                return Some(names);
            }
            for next in self.resolved.get(id).into_iter().flatten() {
                if !reached_from.contains_key(next) {
                    reached_from.insert(next, Some(id));
                    queue.push_back(next);
                }
            }
        }
        None
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn output(root: &Path, program: &str, arguments: &[&str]) -> Outcome<String> {
    let line = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).current_dir(root).output();
    let output = output.map_err(|error| format!("`{line}` could not be started: {error}."))?;
    if !output.status.success() {
        return Err(format!("`{line}` failed:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("`{line}` printed no text: {error}."))
}

const RULES: &str = "xtask/src/tidy/edges.rs";

const ALLOWED: [(&str, &[&str]); 12] = [
    ("conn-tracker", &[]),
    ("log-dedup", &[]),
    ("limits-core", &["conn-tracker"]),
    ("proxy-route", &["conn-tracker"]),
    ("proxy-tcp", &["conn-tracker", "proxy-route"]),
    ("proxy-http", &["proxy-tcp", "proxy-route", "conn-tracker"]),
    ("proxy-config", &["proxy-route"]),
    ("proxy-admin", &["conn-tracker", "log-dedup"]),
    ("smartproxy-fuzz", &["conn-tracker", "limits-core", "proxy-config", "proxy-http", "proxy-route", "proxy-tcp"]),
    (
        "smartproxy-bin",
        &[
            "conn-tracker",
            "limits-core",
            "log-dedup",
            "proxy-admin",
            "proxy-config",
            "proxy-http",
            "proxy-route",
            "proxy-tcp",
        ],
    ),
    ("xtask", &[]),
    ("rivals", &["conn-tracker", "limits-core"]),
];

/// The crate everybody depends on brings nothing along.
const ALONE: &str = "conn-tracker";

/// What a crate must not reach, however long the way.
const OUT_OF_REACH: [(&str, &[&str]); 3] = [
    ("conn-tracker", &["tokio", "mio", "hyper", "rustls", "socket2", "serde"]),
    ("limits-core", &["tokio", "mio", "hyper", "rustls", "socket2", "serde"]),
    ("proxy-route", &["tokio", "mio", "hyper", "rustls", "socket2", "serde"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Metadata of our crates and of outside ones, from `(from, kind, to)`.
    fn workspace(ours: &[&str], edges: &[(&str, Option<&str>, &str)]) -> Value {
        let mut names: BTreeSet<&str> = ours.iter().copied().collect();
        names.extend(edges.iter().map(|(_, _, to)| *to));
        let of = |name: &str| edges.iter().filter(move |(from, ..)| *from == name).copied().collect::<Vec<_>>();
        let package = |name: &&str| {
            let edges: Vec<Value> = of(name).iter().map(|(_, kind, to)| json!({"name": to, "kind": kind})).collect();
            json!({"id": format!("{name} 1.0"), "name": name, "dependencies": edges})
        };
        let node = |name: &&str| {
            let edges = of(name);
            let edges =
                edges.iter().map(|(_, kind, to)| json!({"pkg": format!("{to} 1.0"), "dep_kinds": [{"kind": kind}]}));
            json!({"id": format!("{name} 1.0"), "deps": edges.collect::<Vec<_>>()})
        };
        json!({
            "workspace_members": ours.iter().map(|name| format!("{name} 1.0")).collect::<Vec<_>>(),
            "packages": names.iter().map(package).collect::<Vec<_>>(),
            "resolve": {"nodes": names.iter().map(node).collect::<Vec<_>>()},
        })
    }

    fn messages(ours: &[&str], edges: &[(&str, Option<&str>, &str)]) -> Vec<String> {
        check(&workspace(ours, edges)).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn allowed_edges_and_those_of_tests_pass() {
        let edges = [
            ("limits-core", None, "conn-tracker"),
            ("limits-core", None, "ahash"),
            ("limits-core", Some("dev"), "tokio"),
            ("proxy-tcp", Some("dev"), "limits-core"),
            ("proxy-tcp", None, "tokio"),
            ("conn-tracker", Some("dev"), "proptest"),
        ];
        assert_eq!(messages(&["conn-tracker", "limits-core", "proxy-tcp"], &edges), [""; 0]);
    }

    #[test]
    fn a_wrong_edge_is_named_with_its_rule() {
        assert_eq!(
            messages(&["proxy-route", "limits-core"], &[("proxy-route", None, "limits-core")]),
            ["proxy-route → limits-core is not allowed: proxy-route may depend on conn-tracker"]
        );
        assert_eq!(
            messages(&["log-dedup", "proxy-route"], &[("log-dedup", Some("build"), "proxy-route")]),
            ["log-dedup → proxy-route is not allowed: log-dedup may depend on none of our crates"]
        );
        assert_eq!(messages(&["newcomer"], &[]), ["the crate newcomer is not in the table of allowed edges"]);
        assert_eq!(
            messages(&["conn-tracker"], &[("conn-tracker", None, "ahash")]),
            ["conn-tracker → ahash is not allowed: conn-tracker has no dependencies"]
        );
    }

    #[test]
    fn a_long_way_to_a_socket_is_shown() {
        let edges = [("limits-core", None, "a"), ("a", None, "b"), ("b", None, "tokio"), ("b", Some("dev"), "mio")];
        assert_eq!(
            messages(&["limits-core"], &edges),
            ["limits-core → a → b → tokio is not allowed: limits-core stays free of it"]
        );
    }
}
