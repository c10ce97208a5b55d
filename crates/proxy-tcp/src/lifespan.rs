//! When a tunnel is over though neither of its sides says so.

use crate::Tick;
use conn_tracker::EventKind;
use std::time::{Duration, Instant};

/// How long a tunnel may live.
#[derive(Clone, Copy, Debug)]
pub struct Lifespan {
    /// Without a byte in either direction; `None` is as long as it likes.
    pub idle: Option<Duration>,
    /// The same once one side has said all it has to say.
    pub half_dead: Duration,
    /// The same while bytes of one side wait for the other, which takes none.
    pub stuck: Duration,
    /// At all.
    pub end: Option<Instant>,
}

/// What there is to see of a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct Signs {
    /// When the last byte moved.
    pub last: Tick,
    /// Whether one side has ended.
    pub half: bool,
    /// Whether bytes wait for a side that does not take them.
    pub waiting: bool,
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides are done.
    Closed,
    /// One side broke off.
    Reset,
    /// No byte for too long.
    Idle,
    /// One side has ended, and the other has not said a byte for too long.
    HalfDead,
    /// One side has not taken a byte of what waits for it for too long.
    Stuck,
    /// It became too old.
    Lifetime,
}

impl Default for Lifespan {
    /// As long as it likes, but no more than five minutes half dead or stuck.
    fn default() -> Self {
        Self { idle: None, half_dead: ABANDONED, stuck: ABANDONED, end: None }
    }
}

/// How long a tunnel may be half dead or stuck. Enough for whoever thinks about an answer or has paused a film.
const ABANDONED: Duration = Duration::from_secs(5 * 60);

impl Lifespan {
    /// Looks at a tunnel that is to end at `end`: when to look again.
    ///
    /// # Errors
    /// Why it is over, if it is.
    pub fn look(&self, now: Tick, signs: Signs, end: Option<Tick>) -> Result<Tick, End> {
        let since_last = |limit: Duration| signs.last.after(limit);
        let deadlines = [
            (end, End::Lifetime),
            (self.idle.and_then(since_last), End::Idle),
            (signs.half.then(|| since_last(self.half_dead)).flatten(), End::HalfDead),
            (signs.waiting.then(|| since_last(self.stuck)).flatten(), End::Stuck),
        ];
        let first = deadlines.into_iter().filter_map(|(at, why)| Some((at?, why))).min_by_key(|(at, _)| *at);
        match first {
            Some((at, why)) if at <= now => Err(why),
            Some((at, _)) => Ok(at),
            // Nothing ends it as it is; that may change.
            None => Ok(now.after(ABANDONED).unwrap_or(now)),
        }
    }
}

impl Signs {
    /// Whether it has less time than a tunnel on which merely nothing happens.
    #[must_use]
    pub const fn is_in_doubt(self) -> bool {
        self.half || self.waiting
    }
}

impl End {
    /// As what it is reported; `None` if one of its sides ended it.
    #[must_use]
    pub const fn kind(self) -> Option<EventKind> {
        match self {
            Self::Closed | Self::Reset => None,
            Self::Idle | Self::HalfDead | Self::Stuck => Some(EventKind::Swept),
            Self::Lifetime => Some(EventKind::Terminated),
        }
    }

    /// The name in logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Idle => "idle_timeout",
            Self::HalfDead => "half_dead",
            Self::Stuck => "stuck",
            Self::Lifetime => "lifetime",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_first_ends_it() {
        const SECOND: Duration = Duration::from_secs(1);
        let lifespan = Lifespan { idle: Some(100 * SECOND), half_dead: 10 * SECOND, stuck: 20 * SECOND, end: None };
        let immortal = Lifespan { idle: None, ..lifespan };
        let start = Tick::default();
        let at = |seconds: u32| start.after(seconds * SECOND).unwrap();
        for (lifespan, half, waiting, end, expected) in [
            (lifespan, false, false, None, Some((100, End::Idle))),
            (lifespan, true, false, None, Some((10, End::HalfDead))),
            (lifespan, false, true, None, Some((20, End::Stuck))),
            (lifespan, true, true, None, Some((10, End::HalfDead))),
            (lifespan, true, true, Some(5), Some((5, End::Lifetime))),
            (lifespan, false, false, Some(50), Some((50, End::Lifetime))),
            (lifespan, false, false, Some(150), Some((100, End::Idle))),
            (immortal, false, false, None, None),
            (immortal, false, false, Some(50), Some((50, End::Lifetime))),
            (immortal, false, true, None, Some((20, End::Stuck))),
        ] {
            let signs = Signs { last: start, half, waiting };
            let look = |now| lifespan.look(now, signs, end.map(at));
            match expected {
                Some((seconds, why)) => {
                    assert_eq!(look(at(seconds - 1)), Ok(at(seconds)), "{signs:?}");
                    assert_eq!(look(at(seconds)), Err(why), "{signs:?}");
                }
                None => assert!(look(at(1_000_000)).is_ok_and(|next| next > at(1_000_000)), "{signs:?}"),
            }
        }
    }
}
