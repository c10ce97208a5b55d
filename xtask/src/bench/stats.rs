//! Medians and what can honestly be said around them.

use std::time::Duration;

/// One proxy in one round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// CPU time of the proxy.
    pub(crate) cpu: Duration,
    /// Work done by it in that time.
    pub(crate) units: u64,
    pub(crate) wall: Duration,
}

impl Sample {
    /// Units of work per second of wall time.
    pub(crate) fn rate(&self) -> f64 {
        self.units as f64 / self.wall.as_secs_f64()
    }

    /// CPU time per unit of work, in microseconds.
    pub(crate) fn micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.units as f64
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
    fn samples_are_per_unit_and_per_second() {
        let sample = Sample { cpu: Duration::from_millis(30), units: 2000, wall: Duration::from_millis(500) };
        assert!((sample.micros() - 15.0).abs() < 1e-9 && (sample.rate() - 4000.0).abs() < 1e-9);
    }
}
