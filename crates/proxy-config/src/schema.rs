//! The JSON Schema of a configuration, for editors and other tools.

/// A JSON Schema (2020-12) of the configuration, with a description of every key.
///
/// What it refuses is a mistake. What it accepts may still be one: it knows nothing of what keys mean together, nor of the
/// old names that are accepted with a warning.
///
/// ```
/// assert!(proxy_config::SCHEMA.contains("\"maxConnectionsPerIP\""));
/// ```
pub const SCHEMA: &str = include_str!("schema.json");

#[cfg(test)]
mod tests;
