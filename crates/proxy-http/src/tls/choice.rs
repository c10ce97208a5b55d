//! Choosing a certificate by the name that a client asks for.

use super::certificate::Loaded;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// The certificates of one port: exact name, then wildcard of one label, then the first.
#[derive(Debug)]
pub(super) struct Choice {
    first: Arc<CertifiedKey>,
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By the part after `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
}

impl Choice {
    /// Earlier certificates win where names are equal. `None` without any.
    pub(super) fn new<'a>(certificates: impl IntoIterator<Item = &'a Loaded>) -> Option<Self> {
        let mut certificates = certificates.into_iter().peekable();
        let first = Arc::clone(&certificates.peek()?.key);
        let mut choice = Self { first, exact: HashMap::new(), wildcard: HashMap::new() };
        for Loaded { key, names } in certificates {
            for name in names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut choice.wildcard, parent),
                    None => (&mut choice.exact, name.as_str()),
                };
                names.entry(name.to_owned()).or_insert_with(|| Arc::clone(key));
            }
        }
        Some(choice)
    }

    /// The certificate for a client that asks for `name`.
    pub(super) fn by_name(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let Some(name) = name else { return &self.first };
        // rustls keeps the spelling of the client.
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let wildcard = || self.wildcard.get(name.split_once('.')?.1);
        self.exact.get(&name).or_else(wildcard).unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.by_name(hello.server_name())))
    }
}
