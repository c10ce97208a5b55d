//! How many file descriptors there are, and how many connections that allows.

use proxy_route::ConnectionLimits;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::fmt;

/// More connections were asked for than descriptors allow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooFew {
    asked: u32,
    descriptors: u64,
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, descriptors } = self;
        let (fits, needed) = (fitting(*descriptors), needed(*asked));
        write!(
            f,
            "maxConnections is {asked}, which needs {needed} file descriptors, but the process may have {descriptors}; \
             set maxConnections to at most {fits}, or raise the limit (LimitNOFILE= of the service, or `ulimit -n`)"
        )
    }
}

/// What the descriptor limit did to the limit of connections.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Nothing.
    Unchanged,
    /// The default did not fit and was lowered to what does.
    Lowered {
        /// The limit in force.
        to: u32,
        /// Descriptors that the process may have.
        descriptors: u64,
    },
}

/// Raises the soft limit of descriptors to the hard one; how many there are then.
pub(crate) fn raise() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!("the soft limit of file descriptors stays: {error}");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Makes the limit of connections fit.
pub(crate) fn fit(limits: &mut ConnectionLimits, descriptors: u64) -> Result<Fit, TooFew> {
    if limits.max_connections == 0 || needed(limits.max_connections) <= descriptors {
        return Ok(Fit::Unchanged);
    }
    if limits.max_connections_explicit {
        return Err(TooFew { asked: limits.max_connections, descriptors });
    }
    let to = fitting(descriptors).max(1);
    limits.max_connections = to;
    limits.pending = limits.pending.map(|pending| pending.min(to));
    Ok(Fit::Lowered { to, descriptors })
}

/// A client and a backend socket each, and what the process needs for itself.
fn needed(connections: u32) -> u64 {
    u64::from(connections) * PER_CONNECTION + RESERVED
}

fn fitting(descriptors: u64) -> u32 {
    u32::try_from(descriptors.saturating_sub(RESERVED) / PER_CONNECTION).unwrap_or(u32::MAX)
}

const PER_CONNECTION: u64 = 2;
const RESERVED: u64 = 320;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_lowered_and_a_wish_is_refused() {
        let mut default = ConnectionLimits::default();
        assert_eq!(fit(&mut default, 20_320), Ok(Fit::Unchanged));
        assert_eq!(fit(&mut default, 20_000), Ok(Fit::Lowered { to: 9_840, descriptors: 20_000 }));
        assert_eq!(default.max_connections, 9_840);

        let mut wish = ConnectionLimits { max_connections_explicit: true, ..ConnectionLimits::default() };
        let error = fit(&mut wish, 1_024).unwrap_err();
        assert!(error.to_string().contains("at most 352"), "{error}");
        assert_eq!(wish.max_connections, 10_000);

        let mut unlimited = ConnectionLimits { max_connections: 0, ..wish };
        assert_eq!(fit(&mut unlimited, 1_024), Ok(Fit::Unchanged));
    }
}
