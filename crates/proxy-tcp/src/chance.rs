//! Chance that is good enough to spread things in time.

use std::hash::{BuildHasher, RandomState};

/// A number from 0 to 1, different each time. Not for secrets.
#[must_use]
pub fn chance() -> f64 {
    // Each state of the hasher has keys of its own.
    let bits = RandomState::new().hash_one(0) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_within_bounds_and_not_always_the_same() {
        let drawn: Vec<_> = (0..100).map(|_| super::chance()).collect();
        assert!(drawn.iter().all(|one| (0.0..1.0).contains(one)));
        assert!(drawn.iter().any(|one| *one < 0.5) && drawn.iter().any(|one| *one >= 0.5));
    }
}
