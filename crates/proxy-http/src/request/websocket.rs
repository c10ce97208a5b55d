//! The handshake of WebSocket towards a backend, for clients whose HTTP/2 has none.

use crate::fields::Fields;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::{HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use sha1::{Digest, Sha1};
use std::hash::{BuildHasher, RandomState};

/// One handshake: a key, and what a server makes of it.
#[derive(Clone, Debug)]
pub(super) struct Handshake {
    key: String,
}

/// What a server appends to the key before it hashes it (RFC 6455, 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

impl Handshake {
    /// The header that carries the answer.
    pub(super) const ANSWER: HeaderName = SEC_WEBSOCKET_ACCEPT;

    /// A handshake with a key of its own. The key keeps caches from answering; it is no secret.
    pub(super) fn new() -> Self {
        let state = RandomState::new();
        let bytes: Vec<u8> = [0_u8, 1].into_iter().flat_map(|half| state.hash_one(half).to_be_bytes()).collect();
        Self { key: STANDARD.encode(bytes) }
    }

    /// Adds the key to a request.
    pub(super) fn ask(&self, fields: &mut Fields) {
        let key = HeaderValue::from_str(&self.key).expect("base64 is text");
        fields.set(SEC_WEBSOCKET_KEY, key);
    }

    /// Whether a response was made for this handshake.
    pub(super) fn is_answered(&self, fields: &Fields) -> bool {
        let expected = STANDARD.encode(Sha1::digest(format!("{}{GUID}", self.key)));
        fields.get(&Self::ANSWER).is_some_and(|answer| answer == expected.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_that_of_the_standard() {
        let handshake = Handshake { key: "dGhlIHNhbXBsZSBub25jZQ==".into() };
        let mut fields = Fields::default();
        assert!(!handshake.is_answered(&fields));
        fields.set(Handshake::ANSWER, HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(handshake.is_answered(&fields));
        assert!(!Handshake::new().is_answered(&fields));
    }
}
