//! The readers.

use crate::http2;
use proxy_config::{Format, Surroundings, parse};
use std::io;
use std::path::{Path, PathBuf};

/// A reader of what strangers send.
pub(crate) struct Target {
    /// The folder of its corpus.
    pub(crate) name: &'static str,
    /// Reads bytes; panics if it reads them wrong.
    pub(crate) read: fn(&[u8]),
}

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "proxy-header", read: proxy_tcp::fuzzing::proxy_header },
    Target { name: "hello", read: proxy_tcp::fuzzing::hello },
    Target { name: "config", read: config },
    Target { name: "headers", read: proxy_http::fuzzing::headers },
    Target { name: "requests", read: proxy_http::fuzzing::requests },
    Target { name: "frames", read: proxy_http::fuzzing::frames },
    Target { name: "http2", read: http2::serve },
];

/// Reads a configuration in each spelling, and shows the mistakes.
fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for format in [Format::Json, Format::Toml, Format::Yaml] {
        if let Err(mistakes) = parse("fuzz", &text, format, &Nothing) {
            assert!(!mistakes.to_string().is_empty(), "a refusal says why");
        }
    }
}

/// No variables and no files.
struct Nothing;

impl Surroundings for Nothing {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}
