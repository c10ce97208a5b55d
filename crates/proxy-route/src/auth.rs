//! Names and passwords.

use sha2::{Digest, Sha256};
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// Who may use a route by name and password (RFC 7617).
///
/// Keeps no password, only what tells it again. Asking takes the same time whatever is asked, so that nothing can be
/// learnt from it.
///
/// ```
/// use proxy_route::BasicAuth;
///
/// let mut auth = BasicAuth::new("shop");
/// auth.add("ann", "open sesame");
/// assert!(auth.admits(b"ann:open sesame"));
/// assert!(!auth.admits(b"ann:open"));
/// ```
#[derive(Clone)]
pub struct BasicAuth {
    realm: String,
    users: Vec<[u8; 32]>,
}

impl BasicAuth {
    /// Nobody yet. `realm` is what clients are told it is for.
    #[must_use]
    pub fn new(realm: impl Into<String>) -> Self {
        Self { realm: realm.into(), users: Vec::new() }
    }

    /// Lets in whoever knows this. A name has no colon.
    pub fn add(&mut self, name: &str, password: &str) {
        self.users.push(digest(format!("{name}:{password}").as_bytes()));
    }

    /// What clients are told it is for.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// Whether `credentials`, a name, a colon and a password, are those of a user.
    #[must_use]
    pub fn admits(&self, credentials: &[u8]) -> bool {
        let asked = digest(credentials);
        let found = self.users.iter().fold(Choice::from(0), |found, user| found | user.ct_eq(&asked));
        found.into()
    }
}

impl fmt::Debug for BasicAuth {
    /// Shows how many users there are, and nothing of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicAuth").field("realm", &self.realm).field("users", &self.users.len()).finish()
    }
}

/// Of one length for all, so that comparing tells nothing of the length either.
fn digest(credentials: &[u8]) -> [u8; 32] {
    Sha256::digest(credentials).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_name_with_its_own_password_is_admitted() {
        let mut auth = BasicAuth::new("shop");
        assert!(!auth.admits(b"") && !auth.admits(b":"), "nobody is a user yet");
        for (name, password) in [("ann", "a:b"), ("bob", "\u{fc}ber"), ("ann", "second")] {
            auth.add(name, password);
        }
        for (credentials, admitted) in [
            ("ann:a:b", true),
            ("bob:\u{fc}ber", true),
            ("ann:second", true),
            ("bob:a:b", false),
            ("ann:a:b ", false),
            ("Ann:a:b", false),
            ("ann", false),
            ("", false),
        ] {
            assert_eq!(auth.admits(credentials.as_bytes()), admitted, "{credentials:?}");
        }
        assert_eq!(format!("{auth:?}"), "BasicAuth { realm: \"shop\", users: 3 }");
    }
}
