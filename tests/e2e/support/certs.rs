//! A certificate authority of the tests' own.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::{Arc, OnceLock};

/// A certificate for every name that the tests use, signed by itself.
pub(crate) struct Identity {
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
    chain: CertificateDer<'static>,
    key: Vec<u8>,
}

const NAMES: [&str; 5] = ["pass.test", "end.test", "other.test", "*.wild.test", "localhost"];

pub(crate) fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let names: Vec<_> = NAMES.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate can be made");
        Identity {
            chain_pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
            chain: made.cert.der().clone(),
            key: made.signing_key.serialize_der(),
        }
    })
}

/// `certificate: …` of a route, in flow style.
pub(crate) fn inline() -> String {
    let identity = identity();
    format!("{{ cert: {:?}, key: {:?} }}", identity.chain_pem, identity.key_pem)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    static PROVIDER: OnceLock<Arc<rustls::crypto::CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// A TLS client that trusts the tests' certificate.
pub(crate) fn client(alpn: &[&str]) -> Arc<ClientConfig> {
    client_with(alpn, None)
}

/// A TLS client that speaks no other versions.
pub(crate) fn client_of(versions: &[&'static rustls::SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(identity().chain.clone()).expect("it is a certificate");
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(versions).expect("the provider has them");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The same, with a certificate of its own perhaps.
pub(crate) fn client_with(
    alpn: &[&str],
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(identity().chain.clone()).expect("it is a certificate");
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(roots);
    let mut config = match own {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).expect("the key is the certificate's"),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A TLS server with the tests' certificate.
pub(crate) fn server(alpn: &[&str]) -> Arc<ServerConfig> {
    let identity = identity();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.clone()));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(vec![identity.chain.clone()], key)
        .expect("the key is the certificate's");
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

pub(crate) fn name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).expect("a host name")
}
