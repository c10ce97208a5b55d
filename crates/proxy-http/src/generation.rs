//! One configuration in force, as HTTP needs it.

use crate::{TlsBackends, TlsError, TlsPorts, TlsShared};
use proxy_tcp::Generation;
use std::sync::Arc;

/// One configuration in force, with its TLS. Immutable, shared by all workers; a reload makes a new one.
#[derive(Debug)]
pub struct HttpGeneration {
    /// Settings, routes and backends.
    pub generation: Arc<Generation>,
    /// What TLS clients are offered.
    pub ports: TlsPorts,
    /// How TLS backends are spoken to, by the routes of `generation`.
    pub backends: TlsBackends,
}

impl HttpGeneration {
    /// Reads the certificates and roots of `generation`.
    ///
    /// # Errors
    /// The first of them that cannot be used; the configuration in force stays.
    pub fn new(generation: Arc<Generation>, shared: &TlsShared) -> Result<Self, TlsError> {
        let ports = TlsPorts::new(&generation.settings, &generation.table, shared)?;
        let backends = TlsBackends::new(&generation.table, shared)?;
        Ok(Self::with_tls(generation, ports, backends))
    }

    /// With TLS that was read before the routes had their numbers: `ports` and `backends` are of the same routes.
    #[must_use]
    pub fn with_tls(generation: Arc<Generation>, ports: TlsPorts, backends: TlsBackends) -> Self {
        Self { generation, ports, backends }
    }
}
