//! Times to come, for durations that a configuration may make as long as it likes.

use std::time::Duration;
use tokio::time::Instant;

/// Longer than a process lives, and within what a clock can tell.
pub(crate) const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// The time `by` after `from`, or one that never comes.
pub(crate) fn later(from: Instant, by: Duration) -> Instant {
    from + by.min(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_duration_is_too_long() {
        let now = Instant::now();
        assert_eq!(later(now, Duration::from_secs(1)), now + Duration::from_secs(1));
        assert_eq!(later(now, Duration::MAX), now + NEVER);
    }
}
