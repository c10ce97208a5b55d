//! What all TLS of the process shares.

use crate::TlsError;

/// What all TLS of the process shares, over reloads, ports and workers: the cryptography, the keys of session tickets
/// and the roots of the system. The default provider of the process is neither used nor set.
#[derive(Debug)]
pub struct TlsShared {}

impl TlsShared {
    /// Fresh ticket keys; they rotate by themselves.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn new() -> Result<Self, TlsError> {
        todo!()
    }
}
