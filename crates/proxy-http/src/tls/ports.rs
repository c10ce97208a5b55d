//! What TLS clients are offered, per port.

use crate::{TlsError, TlsShared};
use proxy_route::{RouteTable, Settings};
use rustls::ServerConfig;
use std::sync::Arc;

/// What TLS clients are offered on each port of one configuration. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct TlsPorts {}

impl TlsPorts {
    /// Reads every certificate of the routes that end TLS, and those of the settings.
    ///
    /// # Errors
    /// The first certificate, key or setting that cannot be used, as a sentence that names it and says what to do.
    pub fn new(settings: &Settings, table: &RouteTable, shared: &TlsShared) -> Result<Self, TlsError> {
        let _ = (settings, table, shared);
        todo!()
    }

    /// What clients of `port` are offered; `None` where no route ends TLS.
    #[must_use]
    pub fn config(&self, port: u16) -> Option<&Arc<ServerConfig>> {
        let _ = port;
        todo!()
    }
}
