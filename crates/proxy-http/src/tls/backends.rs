//! How backends are spoken to in TLS, per route.

use crate::{TlsError, TlsShared};
use proxy_route::RouteTable;

/// How the backends of each route that encrypts again are spoken to. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct TlsBackends {}

impl TlsBackends {
    /// Reads the roots that the routes of `table` trust.
    ///
    /// # Errors
    /// The first root file or name that cannot be used, as a sentence that names it and says what to do.
    pub fn new(table: &RouteTable, shared: &TlsShared) -> Result<Self, TlsError> {
        let _ = (table, shared);
        todo!()
    }
}
