//! What is wrong with the TLS of a configuration.

use std::fmt;

/// What is wrong with the TLS of a configuration: a sentence that names the route or file and says what to do.
#[derive(Debug)]
pub struct TlsError {
    text: String,
}

impl TlsError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for TlsError {}
