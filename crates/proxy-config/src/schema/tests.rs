use super::SCHEMA;
use crate::cursor::{Cursor, Sink};
use crate::tree::{Node, Value};
use crate::{Format, Surroundings, decode, json, yaml};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

const FULL: [(&str, Format); 3] = [
    (include_str!("../../tests/it/full.yaml"), Format::Yaml),
    (include_str!("../../tests/it/full.json"), Format::Json),
    (include_str!("../../tests/it/full.toml"), Format::Toml),
];

/// Every variable and file there can be.
struct Everything;

impl Surroundings for Everything {
    fn variable(&self, _name: &str) -> Option<String> {
        Some("text".to_owned())
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Ok("192.0.2.1".to_owned())
    }
}

fn parse(text: &str, format: Format) -> Node {
    match format {
        Format::Json => json::parse(text).expect("JSON"),
        Format::Toml => crate::toml::parse(text).expect("TOML").0,
        Format::Yaml => yaml::parse(text).expect("YAML"),
    }
}

/// A JSON Schema, as far as the one of the configuration needs it. A keyword that it does not know is a panic.
struct Schema(Node);

impl Schema {
    fn new() -> Self {
        Self(json::parse(SCHEMA).expect("the schema is JSON"))
    }

    /// What is wrong with `value`, as paths.
    fn mistakes(&self, value: &Node) -> Vec<String> {
        let mut found = Vec::new();
        self.check(&self.0, value, "", &mut found);
        found
    }

    fn check(&self, schema: &Node, value: &Node, path: &str, found: &mut Vec<String>) {
        if let Value::Bool(anything) = schema.value {
            assert!(anything, "nothing is forbidden by `false` but keys");
            return;
        }
        let mut wrong = |fits: bool| {
            if !fits {
                found.push(path.to_owned());
            }
        };
        match (get(schema, "minimum"), get(schema, "maximum"), &value.value) {
            (low, high, Value::Integer(number)) => {
                wrong(
                    low.is_none_or(|low| integer(low) <= *number) && high.is_none_or(|high| *number <= integer(high)),
                );
            }
            (low, high, Value::Float(number)) => {
                let within = |bound: &Node, order: fn(&f64, &f64) -> bool| order(&(integer(bound) as f64), number);
                wrong(low.is_none_or(|low| within(low, f64::le)) && high.is_none_or(|high| within(high, f64::ge)));
            }
            (None, None, _) => {}
            _ => wrong(false),
        }
        for (keyword, argument) in entries(schema) {
            match (keyword, &value.value) {
                ("$schema" | "$defs" | "title" | "description" | "default" | "minimum" | "maximum", _) => {}
                ("properties" | "patternProperties" | "additionalProperties", _) => {}
                ("$ref", _) => self.check(self.definition(argument), value, path, found),
                ("anyOf", _) => {
                    let fits = |one: &&Node| {
                        let mut wrong = Vec::new();
                        self.check(one, value, path, &mut wrong);
                        wrong.is_empty()
                    };
                    if items(argument).iter().find(fits).is_none() {
                        found.push(path.to_owned());
                    }
                }
                ("type", value) => {
                    let name = match value {
                        Value::Bool(_) => "boolean",
                        Value::Integer(_) => "integer",
                        Value::String(_) => "string",
                        Value::List(_) => "array",
                        Value::Table(_) => "object",
                        Value::Float(_) => "number",
                        Value::Null | Value::Date => "none of them",
                    };
                    if text(argument) != name && (text(argument), name) != ("number", "integer") {
                        found.push(path.to_owned());
                    }
                }
                ("enum", _) => {
                    if !items(argument).iter().any(|one| one.value == value.value) {
                        found.push(path.to_owned());
                    }
                }
                ("const", _) => {
                    if argument.value != value.value {
                        found.push(path.to_owned());
                    }
                }
                ("items", Value::List(list)) => {
                    for (index, item) in list.iter().enumerate() {
                        self.check(argument, item, &format!("{path}[{index}]"), found);
                    }
                }
                ("minItems", Value::List(list)) => {
                    if (list.len() as i64) < integer(argument) {
                        found.push(path.to_owned());
                    }
                }
                ("required", Value::Table(_)) => {
                    for key in items(argument).iter().filter(|key| get(value, text(key)).is_none()) {
                        found.push(format!("{path}.{} is missing", text(key)));
                    }
                }
                ("items" | "minItems" | "required", _) => {}
                (unknown, _) => panic!("the test does not know {unknown:?}"),
            }
        }
        if let Value::Table(_) = value.value {
            for (key, entry) in entries(value) {
                let own = get(schema, "properties").and_then(|known| get(known, key));
                let note = key.starts_with("x-") && get(schema, "patternProperties").is_some();
                let at = format!("{path}.{key}");
                match (own, get(schema, "additionalProperties")) {
                    (Some(own), _) => self.check(own, entry, &at, found),
                    (None, _) if note => {}
                    (None, Some(Node { value: Value::Bool(false), .. })) => found.push(at),
                    (None, Some(other)) => self.check(other, entry, &at, found),
                    (None, None) => {}
                }
            }
        }
    }

    fn definition(&self, reference: &Node) -> &Node {
        let name = text(reference).strip_prefix("#/$defs/").expect("a definition of this schema");
        get(get(&self.0, "$defs").expect("there are definitions"), name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The keys of every table, by its path.
    fn tables(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut tables = BTreeMap::new();
        self.collect(&self.0, "", &mut tables);
        tables
    }

    fn collect(&self, schema: &Node, path: &str, tables: &mut BTreeMap<String, BTreeSet<String>>) {
        for (keyword, argument) in entries(schema) {
            match keyword {
                "$ref" => self.collect(self.definition(argument), path, tables),
                "anyOf" => items(argument).iter().for_each(|one| self.collect(one, path, tables)),
                "items" => self.collect(argument, path, tables),
                "properties" => {
                    for (key, inner) in entries(argument) {
                        if !["$schema", "description", "tags"].contains(&key) {
                            tables.entry(path.to_owned()).or_default().insert(key.to_owned());
                            let below = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                            self.collect(inner, &below, tables);
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

fn entries(node: &Node) -> impl Iterator<Item = (&str, &Node)> {
    let entries = match &node.value {
        Value::Table(entries) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().map(|entry| (entry.key.as_str(), &entry.node))
}

fn get<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    entries(node).find(|(name, _)| *name == key).map(|(_, value)| value)
}

fn items(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        _ => panic!("a list, not {node:?}"),
    }
}

fn text(node: &Node) -> &str {
    match &node.value {
        Value::String(text) => text,
        _ => panic!("a string, not {node:?}"),
    }
}

fn integer(node: &Node) -> i64 {
    match node.value {
        Value::Integer(number) => number,
        _ => panic!("a number, not {node:?}"),
    }
}

/// What the full example does not say, because it says something else there.
const REST: &str = "
defaults:
  tls: { certificate: { certFile: a, keyFile: b }, clientAuth: { ca: a } }
  security:
    rateLimit: { maxRequests: 1 }
    basicAuth: { users: [{ username: a, password: b }] }
logging:
  dedup:
    kinds:
      accept_failed: { burst: 2 }
      backend_failed: { burst: 2 }
      bad_request: { burst: 2 }
      blocked: { burst: 2 }
      library: { burst: 2 }
      shed: { burst: 2 }
      terminated: { burst: 2 }
      tls_failed: { burst: 2 }
      would_refuse: { burst: 2 }
";

#[test]
fn the_decoder_and_the_schema_know_the_same_keys() {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for text in [FULL[0].0, REST] {
        let root = parse(text, Format::Yaml);
        let sink = Sink::new(&Everything);
        decode::config(&Cursor::root(&root, &sink));
        for (path, keys) in sink.tables.into_inner() {
            known.entry(path).or_default().extend(keys);
        }
    }
    let schema = Schema::new().tables();
    for (path, keys) in &known {
        assert_eq!(Some(keys), schema.get(path), "the keys of {path:?}: decoded, and in schema.json");
    }
    assert_eq!(
        known.keys().collect::<Vec<_>>(),
        schema.keys().collect::<Vec<_>>(),
        "tables decoded, and in schema.json"
    );
    assert!(known.len() > 30, "{} tables", known.len());
}

#[test]
fn every_example_is_of_the_schema() {
    let schema = Schema::new();
    let mut examples: Vec<_> = FULL.iter().map(|&(text, format)| (text.to_owned(), format)).collect();
    for page in [include_str!("../../../../docs/CONFIG.md"), include_str!("../../../../README.md")] {
        for (fence, format) in [("yaml", Format::Yaml), ("json", Format::Json), ("toml", Format::Toml)] {
            let fence = format!("```{fence}\n");
            examples
                .extend(page.split(&fence).skip(1).map(|rest| (rest.split("```").next().unwrap().to_owned(), format)));
        }
    }
    assert!(examples.len() >= 7, "{} examples", examples.len());
    for (text, format) in examples {
        let found = schema.mistakes(&parse(&text, format));
        assert_eq!(found, [""; 0], "{text}");
    }
}

#[test]
fn mistakes_are_not_of_the_schema() {
    let schema = Schema::new();
    for (text, expected) in [
        ("maxKonnections: 5", &[".maxKonnections"][..]),
        ("x-note: 5\ndescription: a\ntags: []\n$schema: here", &[]),
        ("workers: 0", &[".workers"]),
        ("workers: many", &[".workers", ".workers"]),
        ("onReject: drop", &[".onReject"]),
        ("initialDataTimeout: -1", &[".initialDataTimeout"]),
        ("routes: {}", &[".routes"]),
        ("routes: [{ name: a, match: { ports: 80 } }]", &[".routes[0].action is missing"]),
        ("routes: [{ name: a, match: { ports: 99999 }, action: { type: block } }]", &[".routes[0].match.ports"]),
        ("routes: [{ name: a, match: { ports: [] }, action: { type: block } }]", &[".routes[0].match.ports"]),
        ("routes: [{ name: a, match: { ports: 80 }, action: { type: block, x: 1 } }]", &[".routes[0].action.x"]),
        ("tcpKeepAlive: true", &[".tcpKeepAlive"]),
        ("tcpKeepAlive: false", &[]),
    ] {
        assert_eq!(schema.mistakes(&parse(text, Format::Yaml)), expected, "{text}");
    }
}
