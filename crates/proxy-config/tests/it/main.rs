//! Configurations as users write them: right ones, wrong ones, nonsense.

mod backends;
mod keys;
mod mistakes;
mod neighbours;
mod nonsense;
mod rendering;
mod spellings;

use proxy_config::{Diagnostics, Format, Loaded, Surroundings, parse};
use proxy_route::RouteTable;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

const CHAIN: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";

/// Files and variables of a test.
struct Fake(HashMap<PathBuf, String>);

impl Fake {
    fn new() -> Self {
        let files = [
            ("a.pem", CHAIN),
            ("a.key", KEY),
            ("ca.pem", CHAIN),
            ("token.txt", "from-a-file\n"),
            ("empty.txt", "# nobody\n"),
            ("office.txt", "192.0.2.0/28 # first floor\n\n198.51.100.7\n"),
            ("broken.txt", "192.0.2.1\nnonsense\n"),
        ];
        Self(files.iter().map(|(name, text)| (Path::new("/etc").join(name), (*text).to_owned())).collect())
    }
}

impl Surroundings for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "TOKEN").then(|| "from-the-environment".to_owned())
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        Path::new("/etc").join(path)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn read(text: &str, format: Format) -> Result<Loaded, Diagnostics> {
    let loaded = parse("proxy", text, format, &Fake::new())?;
    // What passes here is a route table.
    let ids = (0..).filter_map(conn_tracker::RouteId::new);
    RouteTable::new(ids.zip(loaded.config.routes.iter().cloned())).expect("what was accepted is a table");
    Ok(loaded)
}

fn yaml(text: &str) -> Loaded {
    read(text, Format::Yaml).unwrap_or_else(|found| panic!("{found}"))
}

/// The mistakes of a text, as `line:column path: message`.
fn mistakes(text: &str, format: Format) -> Vec<String> {
    let found = match read(text, format) {
        Ok(loaded) => loaded.warnings,
        Err(found) => found,
    };
    // Whatever is found can be shown.
    assert_eq!(found.to_string().is_empty(), found.is_empty());
    found.iter().map(|one| format!("{}:{} {}: {}", one.line, one.column, one.path, one.message)).collect()
}
