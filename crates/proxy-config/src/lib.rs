//! Reads smartproxy's YAML, JSON and TOML configuration and reports all mistakes at once.
//!
//! [`load`] reads a file, [`parse`] a text. Both give a [`Loaded`] configuration with its warnings, or all
//! [`Diagnostics`], each with its place, the line it is in and what to do about it.
//!
//! ```
//! use proxy_config::{Format, parse};
//!
//! let text = "\
//! maxConnections: 500
//! routes:
//!   - name: hello
//!     match: { ports: 8080 }
//!     action: { type: static, static: { body: hi } }
//! ";
//! let loaded = parse("proxy.yaml", text, Format::Yaml, &()).unwrap();
//! assert_eq!(loaded.config.settings.limits.max_connections, 500);
//! assert_eq!(loaded.config.routes[0].name, "hello");
//!
//! let mistakes = parse("proxy.yaml", &text.replace("maxC", "maxK"), Format::Yaml, &()).unwrap_err();
//! let mistake = mistakes.iter().next().unwrap();
//! assert_eq!((mistake.line, mistake.column), (1, 1));
//! assert_eq!(mistake.help.as_deref(), Some("did you mean \"maxConnections\"?"));
//! ```
#![forbid(unsafe_code)]

mod checks;
mod cursor;
mod decode;
mod diagnostic;
mod json;
mod network;
mod schema;
mod surroundings;
mod toml;
mod tree;
mod value;
mod yaml;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use schema::SCHEMA;
pub use surroundings::{Surroundings, System};

use cursor::{Cursor, Sink};
use diagnostic::Mistake;
use proxy_route::Config;
use std::path::Path;
use tree::{Node, Span, SyntaxError};

/// How a configuration is spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON: `.json`.
    Json,
    /// TOML: `.toml`.
    Toml,
    /// YAML 1.2: `.yaml`, `.yml`.
    Yaml,
}

impl Format {
    /// The format by the ending of a file's name.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "json" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What is probably not meant.
    pub warnings: Diagnostics,
}

/// Reads a file. `${VARIABLE}` is from the environment of the process, paths are relative to the folder of the file.
///
/// # Errors
/// Everything that is wrong with it, warnings included.
pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
    let name = path.display().to_string();
    let whole = |message: String, help: Option<&str>| {
        Err(failed(&name, "", SyntaxError { span: Span::default(), message, help: help.map(ToOwned::to_owned) }))
    };
    let Some(format) = Format::of(path) else {
        let help = "name it .yaml, .yml, .json or .toml";
        return whole("the ending of the file does not say how it is written".to_owned(), Some(help));
    };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return whole(format!("the file cannot be read: {error}"), None),
    };
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    match String::from_utf8(bytes) {
        Ok(text) => parse(&name, &text, format, &System { folder }),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let span = Span::new(at, at + char::REPLACEMENT_CHARACTER.len_utf8());
            Err(failed(&name, &text, SyntaxError::new(span, "this is no UTF-8").help("save the file as UTF-8")))
        }
    }
}

/// Reads a text; `name` is how diagnostics call it. Whatever it refers to comes from `surroundings`.
///
/// # Errors
/// Everything that is wrong with it, warnings included.
pub fn parse(name: &str, text: &str, format: Format, surroundings: &dyn Surroundings) -> Result<Loaded, Diagnostics> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let tree: Result<(Node, Vec<SyntaxError>), SyntaxError> = match format {
        Format::Json => json::parse(text).map(|node| (node, Vec::new())),
        Format::Toml => toml::parse(text),
        Format::Yaml => yaml::parse(text).map(|node| (node, Vec::new())),
    };
    let (root, tolerable) = tree.map_err(|error| failed(name, text, error))?;
    let sink = Sink::new(surroundings);
    let config = decode::config(&Cursor::root(&root, &sink));
    let mistakes = sink.into_mistakes().into_iter().chain(tolerable.into_iter().map(Mistake::from)).collect();
    let diagnostics = Diagnostics::new(name, text, mistakes);
    if diagnostics.has_errors() { Err(diagnostics) } else { Ok(Loaded { config, warnings: diagnostics }) }
}

fn failed(name: &str, text: &str, error: SyntaxError) -> Diagnostics {
    Diagnostics::new(name, text, vec![error.into()])
}
