//! Reads smartproxy's YAML, JSON and TOML configuration and reports all mistakes at once.
