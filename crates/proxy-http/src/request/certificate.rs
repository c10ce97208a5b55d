//! Whether a client has shown what a route wants to see, and telling backends of it.

use crate::connection::ClientCertificate;
use crate::fields::Fields;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use conn_tracker::EventKind;
use http::{HeaderName, HeaderValue, StatusCode};
use proxy_route::{ClientAuth, ClientAuthMode};

/// The certificate of a client, as RFC 9440 has it.
pub(super) const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");

/// Judges what was `shown`, which is `None` where nothing was asked for.
///
/// # Errors
/// The status of the answer, and what to tell of it. A connection that was asked by other roots, or not at all,
/// because its hello named another host, is misdirected: on a new one the client would be asked.
pub(super) fn judge(
    auth: &ClientAuth,
    shown: Option<&ClientCertificate>,
) -> Result<(), (StatusCode, EventKind, &'static str)> {
    match shown {
        Some(shown) if shown.roots == auth.ca => match (&shown.leaf, auth.mode) {
            (Some(_), _) | (None, ClientAuthMode::Optional) => Ok(()),
            (None, ClientAuthMode::Require) => Err((StatusCode::FORBIDDEN, EventKind::Blocked, "client_certificate")),
        },
        _ => Err((StatusCode::MISDIRECTED_REQUEST, EventKind::BadRequest, "misdirected")),
    }
}

/// Tells a backend what was shown: base64 of the certificate in DER, between colons.
pub(super) fn tell(fields: &mut Fields, shown: Option<&ClientCertificate>) {
    if let Some(leaf) = shown.and_then(|shown| shown.leaf.as_ref())
        && let Ok(value) = HeaderValue::try_from(format!(":{}:", STANDARD.encode(leaf)))
    {
        fields.set(CLIENT_CERT, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls_pki_types::CertificateDer;

    #[test]
    fn what_was_shown_is_judged_by_what_the_route_wants() {
        let auth = |mode| ClientAuth { ca: "/a.pem".into(), mode };
        let shown = |roots: &str, leaf: bool| ClientCertificate {
            roots: roots.into(),
            leaf: leaf.then(|| CertificateDer::from(vec![1, 2, 3])),
        };
        for (mode, shown, status) in [
            (ClientAuthMode::Require, Some(shown("/a.pem", true)), None),
            (ClientAuthMode::Require, Some(shown("/a.pem", false)), Some(403)),
            (ClientAuthMode::Require, Some(shown("/b.pem", true)), Some(421)),
            (ClientAuthMode::Require, None, Some(421)),
            (ClientAuthMode::Optional, Some(shown("/a.pem", false)), None),
            (ClientAuthMode::Optional, Some(shown("/b.pem", true)), Some(421)),
            (ClientAuthMode::Optional, None, Some(421)),
        ] {
            let judged = judge(&auth(mode), shown.as_ref());
            assert_eq!(judged.err().map(|(status, ..)| status.as_u16()), status, "{mode:?} {shown:?}");
        }
        let mut fields = Fields::default();
        tell(&mut fields, Some(&shown("/a.pem", false)));
        assert_eq!(fields.len(), 0);
        tell(&mut fields, Some(&shown("/a.pem", true)));
        assert_eq!(fields.value(&CLIENT_CERT).unwrap(), ":AQID:");
    }
}
