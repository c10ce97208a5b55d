//! From what a configuration says to what the table counts by.

use limits_core::{ClientOverride, Limits, RequestRate, RouteLimits};
use proxy_route::{Config, RateLimit, Route, Settings};

/// The limits of a configuration.
pub(crate) fn of(config: &Config) -> Limits {
    let Settings { limits, exempt, client_overrides, enforce, .. } = &config.settings;
    Limits {
        max_connections: limits.max_connections,
        per_client: limits.per_client,
        rate_per_minute: limits.rate_per_minute,
        rate_burst: limits.rate_burst,
        pending: limits.pending_or_default(),
        exempt: exempt.clone(),
        overrides: client_overrides
            .iter()
            .map(|one| ClientOverride {
                network: one.network,
                per_client: one.per_client,
                rate_per_minute: one.rate_per_minute,
            })
            .collect(),
        enforce: *enforce,
        routes: config.routes.iter().map(route).collect(),
        ..Limits::default()
    }
}

fn route(route: &Route) -> RouteLimits {
    let limits = &route.security.limits;
    let rate = |rate: RateLimit| RequestRate { requests: rate.max_requests, window: rate.window };
    RouteLimits {
        key: route.count_key().to_owned(),
        max_connections: limits.max_connections,
        per_client: limits.per_client,
        rate_per_minute: limits.rate_per_minute,
        max_requests: limits.max_requests,
        max_requests_per_client: limits.max_requests_per_client,
        request_rate: limits.rate_limit.map(rate),
        enforce: route.enforce,
    }
}
