//! TLS: modes, certificates, versions.

use crate::cursor::{Cursor, Table};
use crate::value::{choice, file, secret, string};
use proxy_route::{
    Certificate, ClientAuth, ClientAuthMode, DomainPattern, PemSource, TlsMode, TlsSettings, TlsVersion,
};

/// What a route's `tls` says; what it does not say is `None`.
#[derive(Clone, Default)]
pub(crate) struct TlsKeys {
    pub(crate) mode: Option<TlsMode>,
    pub(crate) certificate: Option<Certificate>,
    /// `Some(None)` is none: `false`.
    pub(crate) client_auth: Option<Option<ClientAuth>>,
}

impl TlsKeys {
    pub(crate) fn or(self, defaults: &Self) -> Self {
        let certificate = self.certificate.or_else(|| defaults.certificate.clone());
        let client_auth = self.client_auth.or_else(|| defaults.client_auth.clone());
        Self { mode: self.mode.or(defaults.mode), certificate, client_auth }
    }
}

/// The `tls` of a route or of the defaults; `None` if something in it is wrong.
pub(crate) fn tls_keys(at: &Cursor<'_>) -> Option<TlsKeys> {
    let before = at.sink.errors();
    let table = at.table()?;
    let modes = [
        ("passthrough", TlsMode::Passthrough),
        ("terminate", TlsMode::Terminate),
        ("terminate-and-reencrypt", TlsMode::TerminateAndReencrypt),
    ];
    let mode = table.get("mode", |at| choice(at, &modes, &[]));
    let certificate = table.get("certificate", |at| match string_value(at) {
        Some("auto") => {
            let help = "name files: \"certFile\" and \"keyFile\"";
            at.error_help("\"certificate\": \"auto\" is not supported yet", help);
            None
        }
        _ => certificate(at, false),
    });
    let client_auth = table.get("clientAuth", client_auth);
    table.unsupported(&["acme", "versions", "ciphers", "honorCipherOrder", "sessionTimeout"]);
    table.finish();
    (at.sink.errors() == before).then_some(TlsKeys { mode, certificate, client_auth })
}

/// Certificates of clients; `Some(None)` is none: `false`.
fn client_auth(at: &Cursor<'_>) -> Option<Option<ClientAuth>> {
    if at.is_none() {
        return Some(None);
    }
    let table = at.table()?;
    let ca = table.require("ca", "a file with the roots of clients' certificates");
    let ca = ca.and_then(|at| {
        let (path, text) = file(&at, string(&at)?)?;
        is_pem(&at, &text, "CERTIFICATE-----", "certificate").then_some(path)
    });
    let mut mode = ClientAuthMode::default();
    let modes = [("require", ClientAuthMode::Require), ("optional", ClientAuthMode::Optional)];
    table.read("mode", |at| choice(at, &modes, &[]), &mut mode);
    table.finish();
    Some(Some(ClientAuth { ca: ca?, mode }))
}

/// The `tls` of the process.
pub(crate) fn tls_settings(at: &Cursor<'_>) -> Option<TlsSettings> {
    let table = at.table()?;
    let mut tls = TlsSettings::default();
    if let Some(items) = table.get("certificates", |at| at.list("a list of certificates")) {
        tls.certificates = items.iter().filter_map(|item| certificate(item, true)).collect();
    }
    table.read("minVersion", min_version, &mut tls.min_version);
    table.read("alpn", alpn, &mut tls.alpn);
    table.finish();
    Some(tls)
}

/// A TLS version by its name.
pub(crate) fn version(at: &Cursor<'_>) -> Option<TlsVersion> {
    let versions = [
        ("TLSv1.3", TlsVersion::V1_3),
        ("TLSv1.2", TlsVersion::V1_2),
        ("TLSv1.1", TlsVersion::V1_1),
        ("TLSv1.0", TlsVersion::V1_0),
        ("TLSv1", TlsVersion::V1_0),
    ];
    choice(at, &versions, &[])
}

fn min_version(at: &Cursor<'_>) -> Option<TlsVersion> {
    let version = version(at)?;
    if version < TlsVersion::V1_2 {
        at.error_help("TLS before 1.2 can be passed through, but not terminated", "write \"TLSv1.2\"");
        return None;
    }
    Some(version)
}

fn alpn(at: &Cursor<'_>) -> Option<Vec<String>> {
    let items = at.list("a list of \"h2\" and \"http/1.1\"")?;
    if items.is_empty() {
        at.error_help("no protocol is left to offer", "name \"http/1.1\", \"h2\" or both");
    }
    let mut protocols: Vec<String> = Vec::new();
    for item in items {
        let Some(name) = choice(&item, &[("h2", "h2"), ("http/1.1", "http/1.1")], &["h3"]) else { continue };
        if protocols.iter().any(|other| other == name) {
            item.error(format!("{name:?} is given twice"));
        }
        protocols.push(name.to_owned());
    }
    Some(protocols)
}

/// A certificate and its key, by file or inline.
fn certificate(at: &Cursor<'_>, named: bool) -> Option<Certificate> {
    let table = at.table()?;
    let domains = if named { table.get("domains", domain_names) } else { None };
    let chain = pem(&table, "certFile", "cert", "CERTIFICATE-----", "certificate");
    let key = pem(&table, "keyFile", "key", "PRIVATE KEY-----", "private key");
    table.unsupported(&["ca", "passphrase"]);
    table.finish();
    Some(Certificate { domains: domains.unwrap_or_default(), chain: chain?, key: key? })
}

fn domain_names(at: &Cursor<'_>) -> Option<Vec<String>> {
    let domains = at.one_or_many().into_iter().filter_map(|item| {
        let pattern: Result<DomainPattern, _> = string(&item)?.parse();
        pattern.map_err(|error| item.error(error.to_string())).ok().map(|pattern| pattern.to_string())
    });
    Some(domains.collect())
}

/// PEM text with a block that ends in `marker`, from the key for a file or the one for text.
fn pem(table: &Table<'_>, by_file: &'static str, inline: &'static str, marker: &str, what: &str) -> Option<PemSource> {
    let check = |at: &Cursor<'_>, text: &str| is_pem(at, text, marker, what);
    match (table.take(by_file), table.take(inline)) {
        (Some(_), Some(second)) => {
            second.error(format!("{by_file:?} and {inline:?} are two ways to say the same; keep one"));
            None
        }
        (Some(at), None) => {
            let (path, text) = file(&at, string(&at)?)?;
            check(&at, &text).then_some(PemSource::File(path))
        }
        (None, Some(at)) => {
            let text = secret(&at)?;
            check(&at, &text).then_some(PemSource::Inline(text))
        }
        (None, None) => {
            table.cursor.error_help(format!("the {what} is missing"), format!("add {by_file:?} or {inline:?}"));
            None
        }
    }
}

/// Whether a text has a block that ends in `marker`; a mistake if not.
fn is_pem(at: &Cursor<'_>, text: &str, marker: &str, what: &str) -> bool {
    let fits = text.lines().any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(marker));
    if !fits {
        at.error_help(
            format!("there is no {what} in PEM form in it"),
            format!("PEM has a line \"-----BEGIN … {marker}\""),
        );
    }
    fits
}

fn string_value<'a>(at: &Cursor<'a>) -> Option<&'a str> {
    match &at.node.value {
        crate::tree::Value::String(text) => Some(text),
        _ => None,
    }
}
