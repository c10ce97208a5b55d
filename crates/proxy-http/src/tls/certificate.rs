//! Reading certificates and keys.

use crate::TlsError;
use proxy_route::{Certificate, PemSource};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A chain with its key, and the names it is for.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) key: Arc<CertifiedKey>,
    /// In lower case; the first label may be `*`.
    pub(super) names: Vec<String>,
}

/// Reads a chain and its key. `owner` begins the sentence of an error. The names are the configured ones, else `domains`,
/// else those in the certificate.
pub(super) fn load(
    certificate: &Certificate,
    domains: &[String],
    owner: &dyn fmt::Display,
    provider: &CryptoProvider,
) -> Result<Loaded, TlsError> {
    let (chain_text, key_text) = (Described(&certificate.chain), Described(&certificate.key));
    let chain = certificates(&certificate.chain).map_err(|problem| {
        TlsError::new(format!("{owner}: the certificate chain in {chain_text} cannot be read: {problem}"))
    })?;
    let key = private_key(&certificate.key).map_err(|problem| {
        TlsError::new(format!("{owner}: the private key in {key_text} cannot be read: {problem}"))
    })?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| {
        TlsError::new(format!(
            "{owner}: the private key in {key_text} cannot be used ({error}); give an RSA, ECDSA or Ed25519 key"
        ))
    })?;
    let key = CertifiedKey::new(chain, key);
    match key.keys_match() {
        // A key that cannot tell its public half cannot be compared; the handshake will.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => {
            return Err(TlsError::new(format!(
                "{owner}: the private key in {key_text} does not belong to the first certificate in {chain_text}; \
                 give the key that the certificate was made for, and put the leaf certificate first"
            )));
        }
        Err(error) => {
            return Err(TlsError::new(format!(
                "{owner}: the first certificate in {chain_text} cannot be used ({error}); give an X.509 version 3 certificate"
            )));
        }
    }
    let names = match (certificate.domains.is_empty(), domains.is_empty()) {
        (false, _) => certificate.domains.clone(),
        (true, false) => domains.to_vec(),
        (true, true) => names(&key),
    };
    let names = names.iter().map(|name| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()).collect();
    Ok(Loaded { key: Arc::new(key), names })
}

/// Every certificate of a PEM file, as roots; never none.
pub(super) fn roots_in(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&PemSource::File(path.to_owned()))? {
        roots.add(certificate).map_err(|error| format!("a certificate in it is no root ({error})"))?;
    }
    Ok(roots)
}

fn certificates(source: &PemSource) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(source)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| format!("it is no valid PEM ({error})"))?;
    if chain.is_empty() {
        return Err("it has no \"BEGIN CERTIFICATE\" section; convert it to PEM".to_owned());
    }
    Ok(chain)
}

fn private_key(source: &PemSource) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(source)?).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            "it has no \"BEGIN PRIVATE KEY\" section; convert it to PEM and take any passphrase off".to_owned()
        }
        error => format!("it is no valid PEM ({error})"),
    })
}

fn read(source: &PemSource) -> Result<Vec<u8>, String> {
    match source {
        PemSource::Inline(text) => Ok(text.clone().into_bytes()),
        PemSource::File(path) => {
            std::fs::read(path).map_err(|error| format!("{error}; check the path and the permissions"))
        }
    }
}

/// Whether a certificate is for a host.
pub(super) fn covers(key: &CertifiedKey, host: &str) -> bool {
    let leaf = key.end_entity_cert().ok().and_then(|leaf| webpki::EndEntityCert::try_from(leaf).ok());
    let name = ServerName::try_from(host).ok();
    leaf.zip(name).is_some_and(|(leaf, name)| leaf.verify_is_valid_for_subject_name(&name).is_ok())
}

fn names(key: &CertifiedKey) -> Vec<String> {
    let leaf = key.end_entity_cert().ok().and_then(|leaf| webpki::EndEntityCert::try_from(leaf).ok());
    leaf.map(|leaf| leaf.valid_dns_names().map(str::to_owned).collect()).unwrap_or_default()
}

/// Where PEM text comes from, for a sentence.
struct Described<'a>(&'a PemSource);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            PemSource::File(path) => path.display().fmt(f),
            PemSource::Inline(_) => f.write_str("the configuration"),
        }
    }
}
