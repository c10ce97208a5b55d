//! Medians and what can honestly be said around them.

use std::time::Duration;

/// One proxy in one round.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// What is compared, in the unit of the scenario.
    pub(crate) cost: f64,
    /// Units of work per second of wall time, where there is a rate.
    pub(crate) rate: Option<f64>,
    /// How long a unit of work took, where that was seen.
    pub(crate) latency: Option<Quantiles>,
}

impl Sample {
    /// A figure alone.
    pub(crate) fn cost(cost: f64) -> Self {
        Self { cost, rate: None, latency: None }
    }
}

/// Half, 99 % and 99.9 % of the latencies were at most that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantiles {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
}

impl Quantiles {
    /// Those of some latencies, each one that was seen; none of none.
    pub(crate) fn of(mut latencies: Vec<Duration>) -> Option<Self> {
        latencies.sort_unstable();
        let last = latencies.len().checked_sub(1)?;
        let at = |permille: usize| latencies[((last + 1) * permille).div_ceil(1000).saturating_sub(1).min(last)];
        Some(Self { p50: at(500), p99: at(990), p999: at(999) })
    }
}

/// The value in the middle, or the mean of the two there; NaN of nothing.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let sorted = sorted(values);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

/// An interval that holds the true median with at least 95 %, whatever the distribution (the one of the sign test).
///
/// Below six values there is none.
pub(crate) fn interval(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let sorted = sorted(values);
    let count = sorted.len();
    // The median lies outside of the k-th smallest and largest values when fewer than k values lie on one side of it:
    // twice the tail of a fair coin. The largest k with at most 5 % of that is the tightest honest interval.
    let mut chance = 0.5_f64.powi(i32::try_from(count).ok()?);
    let mut tail = 0.0;
    let mut outside = 0;
    while 2.0 * (tail + chance) <= 0.05 && outside < count {
        tail += chance;
        chance *= (count - outside) as f64 / (outside + 1) as f64;
        outside += 1;
    }
    (outside > 0).then(|| (sorted[outside - 1], sorted[count - outside]))
}

fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up_to(count: u32) -> Vec<f64> {
        (1..=count).rev().map(f64::from).collect()
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert!(median([]).is_nan());
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn intervals_are_those_of_the_tables() {
        // Ranks from the usual tables of the sign test at 95 %.
        for (count, ranks) in [
            (0, None),
            (5, None),
            (6, Some((1.0, 6.0))),
            (9, Some((2.0, 8.0))),
            (15, Some((4.0, 12.0))),
            (20, Some((6.0, 15.0))),
        ] {
            assert_eq!(interval(up_to(count)), ranks, "{count}");
        }
    }

    #[test]
    fn quantiles_are_latencies_that_were_seen() {
        assert_eq!(Quantiles::of(Vec::new()), None);
        let millis = |count: u64| (1..=count).rev().map(Duration::from_millis).collect();
        for (count, expected) in [(1, [1, 1, 1]), (2, [1, 2, 2]), (100, [50, 99, 100]), (1000, [500, 990, 999])] {
            let Quantiles { p50, p99, p999 } = Quantiles::of(millis(count)).unwrap();
            assert_eq!([p50, p99, p999], expected.map(Duration::from_millis), "{count}");
        }
    }
}
