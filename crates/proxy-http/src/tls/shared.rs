//! What all TLS of the process shares.

use crate::{Handshakes, TlsError};
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ProducesTickets;
use std::sync::{Arc, OnceLock};

/// What all TLS of the process shares, over reloads, ports and workers: the cryptography, the keys of session tickets,
/// the handshakes and the roots of the system. The default provider of the process is neither used nor set.
#[derive(Debug)]
pub struct TlsShared {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) ticketer: Arc<dyn ProducesTickets>,
    pub(super) handshakes: Arc<Handshakes>,
    native_roots: OnceLock<Arc<RootCertStore>>,
}

impl TlsShared {
    /// Fresh ticket keys; they rotate by themselves.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn new() -> Result<Self, TlsError> {
        let ticketer = aws_lc_rs::Ticketer::new()
            .map_err(|error| TlsError::new(format!("keys for TLS session tickets could not be made: {error}")))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        Ok(Self { provider, ticketer, handshakes: Arc::default(), native_roots: OnceLock::new() })
    }

    /// The handshakes of the process.
    #[must_use]
    pub fn handshakes(&self) -> &Arc<Handshakes> {
        &self.handshakes
    }

    /// The roots that the system trusts, read at the first call that finds any.
    pub(super) fn native_roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        if let Some(roots) = self.native_roots.get() {
            return Ok(Arc::clone(roots));
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
            return Err(TlsError::new(format!(
                "the system has no root certificates{why}; install its CA bundle or give the route a backendTls.ca"
            )));
        }
        Ok(Arc::clone(self.native_roots.get_or_init(|| Arc::new(roots))))
    }
}
