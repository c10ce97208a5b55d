//! Why a slot was refused.

use std::fmt;
use std::time::Duration;

/// One thing that is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// One client, over all routes.
    Client,
    /// Connections that no limit refuses.
    Exempt,
    /// The whole process.
    Global,
    /// Accepted connections whose route is not known yet.
    Pending,
    /// Requests in flight of one route.
    Requests,
    /// Requests in flight of one client on one route.
    RequestsClient,
    /// One route.
    Route,
    /// One client on one route.
    RouteClient,
}

impl Scope {
    /// The name in metrics, logs and the API.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Exempt => "exempt",
            Self::Global => "global",
            Self::Pending => "pending",
            Self::Requests => "requests",
            Self::RequestsClient => "requests_client",
            Self::Route => "route",
            Self::RouteClient => "route_client",
        }
    }
}

/// Why a tracker refused.
// As wide as what is beside it in a `Rejection`: else a permit, which is answered in the same place, is copied in odd pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
#[non_exhaustive]
pub enum Reason {
    /// The client holds as many connections as it may.
    ClientLimit,
    /// The client opens connections faster than it may.
    ClientRate,
    /// The process holds as many connections as it may.
    GlobalLimit,
    /// Too many connections have not said yet where they want to go.
    PendingLimit,
    /// The client has as many requests in flight on this route as it may.
    RequestClientLimit,
    /// The route has as many requests in flight as it may.
    RequestLimit,
    /// The client sends requests to this route faster than it may.
    RequestRate,
    /// The client holds as many connections on this route as it may.
    RouteClientLimit,
    /// The client opens connections to this route faster than it may.
    RouteClientRate,
    /// The route holds as many connections as it may.
    RouteLimit,
    /// The address table is full of clients in use.
    TableFull,
}

impl Reason {
    /// Every reason, in the order of [`Reason::index`].
    pub const ALL: [Self; 11] = [
        Self::ClientLimit,
        Self::ClientRate,
        Self::GlobalLimit,
        Self::PendingLimit,
        Self::RequestClientLimit,
        Self::RequestLimit,
        Self::RequestRate,
        Self::RouteClientLimit,
        Self::RouteClientRate,
        Self::RouteLimit,
        Self::TableFull,
    ];

    /// The place of the reason in [`Reason::ALL`], for arrays of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in metrics, logs and the API.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ClientLimit => "client_limit",
            Self::ClientRate => "client_rate",
            Self::GlobalLimit => "global_limit",
            Self::PendingLimit => "pending_limit",
            Self::RequestClientLimit => "request_client_limit",
            Self::RequestLimit => "request_limit",
            Self::RequestRate => "request_rate",
            Self::RouteClientLimit => "route_client_limit",
            Self::RouteClientRate => "route_client_rate",
            Self::RouteLimit => "route_limit",
            Self::TableFull => "table_full",
        }
    }

    /// Whether the client itself is over a limit of its own (HTTP 429), rather than the service being full (503).
    #[must_use]
    pub const fn is_clients_own(self) -> bool {
        matches!(
            self,
            Self::ClientLimit
                | Self::ClientRate
                | Self::RequestClientLimit
                | Self::RequestRate
                | Self::RouteClientLimit
                | Self::RouteClientRate
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A refusal: what was full, how much it takes, when to come back. Two numbers, so that it is answered in registers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// The first limit, in the fixed order of the decision, that refused.
    pub reason: Reason,
    /// The limit in the lower half, the wait in the upper one.
    figures: u64,
}

const _: () = assert!(size_of::<Result<(), Rejection>>() == 16, "what is answered in registers");

/// A wait that is kept in milliseconds. Others are in microseconds: up to half an hour.
const IN_MILLIS: u64 = 1 << 31;

impl Rejection {
    /// A refusal by a limit on how many.
    #[must_use]
    #[inline]
    pub const fn full(reason: Reason, limit: u32) -> Self {
        Self { reason, figures: limit as u64 }
    }

    /// A refusal by a limit on how often. The wait is rounded up to a microsecond, from half an hour on to a millisecond, and
    /// ends at 24 days.
    #[must_use]
    pub fn too_fast(reason: Reason, limit: u32, retry_after: Duration) -> Self {
        let wait = match retry_after.as_nanos().div_ceil(1_000).max(1) {
            micros if micros < u128::from(IN_MILLIS) => micros as u64,
            micros => micros.div_ceil(1_000).min(u128::from(IN_MILLIS) - 1) as u64 | IN_MILLIS,
        };
        Self { reason, figures: wait << 32 | u64::from(limit) }
    }

    /// The limit in force, in connections, requests or connections per minute.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.figures as u32
    }

    /// For rates: how long until the next one is admitted, if nothing else arrives.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.figures >> 32 {
            0 => None,
            micros if micros < IN_MILLIS => Some(Duration::from_micros(micros)),
            millis => Some(Duration::from_millis(millis - IN_MILLIS)),
        }
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejection")
            .field("reason", &self.reason)
            .field("limit", &self.limit())
            .field("retry_after", &self.retry_after())
            .finish()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (limit {})", self.reason, self.limit())
    }
}

impl std::error::Error for Rejection {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up_and_touches_nothing_else() {
        const HOUR: u64 = 3_600_000_000_000;
        for (nanos, kept) in [
            (0, 1_000),
            (1_000, 1_000),
            (1_001, 2_000),
            (HOUR / 2, HOUR / 2),
            (HOUR + 1, HOUR + 1_000_000),
            (24 * HOUR, 24 * HOUR),
            (u64::MAX, 0x7fff_ffff * 1_000_000),
        ] {
            for limit in [0, 1, u32::MAX] {
                let rejection = Rejection::too_fast(Reason::ClientRate, limit, Duration::from_nanos(nanos));
                assert_eq!(rejection.retry_after(), Some(Duration::from_nanos(kept)), "{nanos}");
                assert_eq!((rejection.reason, rejection.limit()), (Reason::ClientRate, limit));
            }
        }
        let full = Rejection::full(Reason::ClientLimit, u32::MAX);
        assert_eq!((full.limit(), full.retry_after()), (u32::MAX, None));
    }

    #[test]
    fn indexes_and_labels_are_distinct() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert_eq!(Reason::ALL.iter().filter(|other| other.label() == reason.label()).count(), 1);
        }
    }
}
