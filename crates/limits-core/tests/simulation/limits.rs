//! Limits as the reference reads them: the plainest way to look one up, and time in 128 bits.

use conn_tracker::{ClientKey, RouteId};
use ipnet::IpNet;
use limits_core::{Limits, RouteLimits};
use std::time::Duration;

const MINUTE: u128 = 60_000_000_000;

/// A rate: nanoseconds per admission, burst, admissions per period, and the unit in which what is used up is kept.
pub(crate) type Rate = (u128, u32, u32, u128);

pub(crate) fn full(limit: u32, held: u32) -> bool {
    limit != 0 && held >= limit
}

pub(crate) fn too_early((interval, burst, ..): Rate, ahead_until: u128, now: u128) -> Option<Duration> {
    let wait = ahead_until.saturating_sub(now + interval * u128::from(burst - 1));
    (wait > 0).then(|| Duration::from_nanos(u64::try_from(wait).unwrap()))
}

pub(crate) fn carry((old, new): (Option<Rate>, Option<Rate>), ahead_until: u128, now: u128) -> u128 {
    let (Some((old_interval, ..)), Some((interval, burst, _, unit))) = (old, new) else { return 0 };
    let ahead = (ahead_until.saturating_sub(now) * interval).div_ceil(old_interval * unit) * unit;
    now + ahead.min(interval * u128::from(burst))
}

/// The shortest power of ten of microseconds in which a whole burst fits 30 bits.
fn unit(interval: u128, most: u32) -> u128 {
    let fits = |unit: &u128| interval.div_ceil(*unit) * u128::from(most) <= 1 << 30;
    (3..).map(|zeros| 10_u128.pow(zeros)).find(fits).unwrap()
}

pub(crate) fn client_limits(limits: &Limits, key: ClientKey) -> (u32, Option<Rate>) {
    // All clients share one unit.
    let burst = limits.rate_burst.unwrap_or(limits.rate_per_minute);
    let special = limits.overrides.iter().map(|special| special.rate_per_minute.unwrap_or(0)).map(|rate| (rate, rate));
    let rates = special.chain([(limits.rate_per_minute, burst)]).filter(|(rate, _)| *rate > 0);
    let units = rates.map(|(rate, burst)| unit(MINUTE / u128::from(rate), burst.max(rate)));
    let unit = units.max().unwrap_or(1);
    let rate = |rate: u32, burst| (rate > 0).then(|| (MINUTE / u128::from(rate), burst, rate, unit));
    let general = rate(limits.rate_per_minute, limits.rate_burst.unwrap_or(limits.rate_per_minute));
    let inside = limits.overrides.iter().filter(|special| special.network.contains(&IpNet::from(key.network())));
    let Some(special) = inside.max_by_key(|special| special.network.prefix_len()) else {
        return (limits.per_client, general);
    };
    let own_rate = special.rate_per_minute.map_or(general, |per_minute| rate(per_minute, per_minute));
    (special.per_client.unwrap_or(limits.per_client), own_rate)
}

pub(crate) fn route_limits(limits: &Limits, ids: &[RouteId], route: RouteId) -> RouteLimits {
    let place = ids.iter().position(|&id| id == route);
    place.map_or_else(RouteLimits::default, |place| limits.routes[place].clone())
}

pub(crate) fn bind_rate(limits: &RouteLimits) -> Option<Rate> {
    let rate = limits.rate_per_minute;
    (rate > 0).then(|| whole_burst(MINUTE, rate))
}

pub(crate) fn request_rate(limits: &RouteLimits) -> Option<Rate> {
    let rate = limits.request_rate.filter(|rate| rate.requests > 0)?;
    Some(whole_burst(rate.window.as_nanos(), rate.requests))
}

fn whole_burst(period: u128, rate: u32) -> Rate {
    let interval = period / u128::from(rate);
    (interval, rate, rate, unit(interval, rate))
}
