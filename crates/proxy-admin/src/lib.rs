//! Metrics, health and limits API of smartproxy.
