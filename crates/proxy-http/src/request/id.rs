//! The id of a request: in the request to the backend, in the answer, and in the access log.

use crate::fields::{self, Fields, Value};
use crate::headers::X_REQUEST_ID;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest id that is taken over, in bytes.
const LONGEST: usize = 128;

/// Makes the ids of one worker: a random half that is its own, and a count. They tell requests apart and are no secret.
#[derive(Debug)]
pub(crate) struct Ids {
    prefix: [u8; 16],
    count: AtomicU64,
}

impl Ids {
    pub(crate) fn new() -> Self {
        Self { prefix: digits(RandomState::new().hash_one(0)), count: AtomicU64::new(0) }
    }

    /// The id of a request: the one that it brings, if its peer is trusted and the id is one, else a new one.
    pub(super) fn id(&self, fields: &Fields, trusted: impl FnOnce() -> bool) -> Value {
        if fields.may_be_special()
            && fields.get(&X_REQUEST_ID).is_some_and(is_id)
            && trusted()
            && let Some(mut brought) = fields.value(&X_REQUEST_ID)
        {
            // As with those of our own.
            brought.set_sensitive(true);
            return brought.into();
        }
        self.next()
    }

    fn next(&self) -> Value {
        // Ordering: only that the numbers differ matters.
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mut id = [0; 32];
        id[..16].copy_from_slice(&self.prefix);
        id[16..].copy_from_slice(&digits(count));
        Value::Id(id)
    }
}

/// A number as text, without the machinery of formatting: this is done for every request.
fn digits(number: u64) -> [u8; 16] {
    std::array::from_fn(|place| DIGITS[(number >> (60 - 4 * place)) as usize & 15])
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The text of an id that [`Ids`] gave.
pub(super) fn text(id: &Value) -> &str {
    fields::text(id.as_bytes()).unwrap_or("-")
}

fn is_id(text: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=:".contains(byte);
    (1..=LONGEST).contains(&text.len()) && text.iter().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn every_request_has_another_id() {
        let (one, other) = (Ids::new(), Ids::new());
        let ids = [one.next(), one.next(), other.next(), other.next()];
        for (index, id) in ids.iter().enumerate() {
            assert!(text(id).len() == 32 && is_id(id.as_bytes()), "{id:?}");
            assert!(!ids[..index].contains(id), "{ids:?}");
        }
        let ids = Ids { prefix: digits(0x0123_4567_89ab_cdef), count: AtomicU64::new(0xfedc_ba98_7654_3210) };
        assert_eq!(text(&ids.next()), "0123456789abcdeffedcba9876543210");
    }

    #[test]
    fn only_ids_of_trusted_peers_are_taken_over() {
        let ids = Ids::new();
        let (long, longer) = ("x".repeat(LONGEST), "x".repeat(LONGEST + 1));
        let cases = [
            ("0b9f-7", true, true),
            ("0b9f-7", false, false),
            (long.as_str(), true, true),
            (longer.as_str(), true, false),
            ("", true, false),
            ("a b", true, false),
            ("a\"b", true, false),
            ("a\tb", true, false),
        ];
        for (brought, trusted, taken) in cases {
            let fields = Fields::from_iter([(X_REQUEST_ID, HeaderValue::from_str(brought).unwrap())]);
            let id = ids.id(&fields, || trusted);
            assert_eq!(id.as_bytes() == brought.as_bytes(), taken, "{brought:?} {trusted}");
            assert!(id.shared().unwrap().is_sensitive(), "HPACK remembers {brought:?}");
        }
    }
}
