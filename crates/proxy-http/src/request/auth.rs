//! Whether a request knows a name and its password.

use super::{Answer, answers};
use crate::fields::{Fields, Value, text};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use proxy_route::BasicAuth;

/// What a request says of who it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// Nothing.
    Missing,
    /// A user with the right password.
    Right,
    /// Something else.
    Wrong,
}

/// Holds a request against the users of its route.
pub(super) fn credentials(auth: &BasicAuth, fields: &Fields) -> Credentials {
    let mut given = fields.all(&AUTHORIZATION);
    match (given.next(), given.next()) {
        (None, _) => Credentials::Missing,
        (Some(one), None) if decoded(one).is_some_and(|credentials| auth.admits(&credentials)) => Credentials::Right,
        // Of several, the backend might believe another one.
        _ => Credentials::Wrong,
    }
}

/// The answer that asks for a name and a password.
pub(super) fn challenge(auth: &BasicAuth, id: &Value) -> Answer {
    let mut answer = answers::text(StatusCode::UNAUTHORIZED, id);
    let realm = auth.realm().replace('\\', "\\\\").replace('"', "\\\"");
    let value = HeaderValue::from_str(&format!("Basic realm=\"{realm}\", charset=\"UTF-8\""));
    answer.fields.set(WWW_AUTHENTICATE, value.unwrap_or(HeaderValue::from_static("Basic")));
    answer
}

fn decoded(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, text) = text(value)?.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    TOLERANT.decode(text.trim()).ok()
}

/// Some clients leave the padding out.
const TOLERANT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_held_against_the_users() {
        let mut auth = BasicAuth::new("the \"shop\"");
        auth.add("ann", "open sesame");
        let right = format!("Basic {}", TOLERANT.encode("ann:open sesame"));
        let cases: &[(&[&str], Credentials)] = &[
            (&[], Credentials::Missing),
            (&[&right], Credentials::Right),
            (&[&right.replace("Basic", "bASIC ")], Credentials::Right),
            (&[right.trim_end_matches('=')], Credentials::Right),
            (&[&right, &right], Credentials::Wrong),
            (&[&right.replace("Basic", "Bearer")], Credentials::Wrong),
            (&["Basic"], Credentials::Wrong),
            (&["Basic !!!"], Credentials::Wrong),
            (&["Basic YW5uOm9wZW4="], Credentials::Wrong),
        ];
        for (values, expected) in cases {
            let mut headers = Fields::default();
            for value in *values {
                headers.push(AUTHORIZATION, value.parse::<HeaderValue>().unwrap());
            }
            assert_eq!(credentials(&auth, &headers), *expected, "{values:?}");
        }
        let answer = challenge(&auth, &HeaderValue::from_static("1").into());
        assert_eq!(answer.status, 401);
        let value = answer.fields.value(&WWW_AUTHENTICATE).unwrap();
        assert_eq!(value, r#"Basic realm="the \"shop\"", charset="UTF-8""#);
    }
}
