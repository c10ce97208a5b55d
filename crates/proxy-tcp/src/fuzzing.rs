//! Targets for fuzzers: functions of bytes that panic where a promise is broken. Not for anything else.

use crate::proxy_header::{NoHeader, parse};
use crate::{HelloProgress, HelloReader};

/// Reads a PROXY header as it would come, byte by byte.
///
/// # Panics
/// If the verdict on a beginning is not kept once more has come, or a header is longer than what is there.
pub fn proxy_header(bytes: &[u8]) {
    let mut before = Ok(None);
    for end in 0..=bytes.len().min(crate::proxy_header::LIMIT) {
        let verdict = parse(&bytes[..end]);
        match before {
            Err(NoHeader) | Ok(Some(_)) => assert_eq!(verdict, before, "the verdict on {end} bytes is another one"),
            Ok(None) => {}
        }
        if let Ok(Some(named)) = verdict {
            assert!(named.length <= end, "{} of {end} bytes", named.length);
        }
        before = verdict;
    }
}

/// Reads a TLS hello whole, and in two pieces.
///
/// # Panics
/// If the pieces give something else than the whole.
pub fn hello(bytes: &[u8]) {
    let whole = HelloReader::new().read(bytes);
    // Every split is too many for long texts; these are spread over all of it.
    for cut in (0..=bytes.len()).step_by(bytes.len() / 16 + 1) {
        let mut reader = HelloReader::new();
        let first = reader.read(&bytes[..cut]);
        if first == HelloProgress::Partial {
            assert_eq!(reader.read(bytes), whole, "cut at {cut}");
        } else {
            assert_eq!(first, whole, "cut at {cut}");
        }
    }
}
