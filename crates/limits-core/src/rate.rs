//! How often: the generic cell rate algorithm in 32 bits per client.
//!
//! A client's state is the time until which it has used up its rate ("spent"), in ticks since an epoch that many
//! clients share. Before the 32 bits run out the owner of the epoch moves it on and subtracts the difference, so no
//! comparison ever meets a wrapped number. A state of 0, or of any time gone by, is that of a client never seen.

use std::time::Duration;

/// The finest tick. Finer ones would only move the epoch more often.
const FINEST: Duration = Duration::from_micros(1);
/// No burst lasts longer than this many ticks, and no epoch is older.
const SPAN: u64 = 1 << 30;
/// More ticks in a period would overflow 64-bit products early.
const TICKS_MOST: u32 = 60_000_000;

/// A unit of time: a whole number of ticks in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticks {
    /// Nanoseconds.
    period: u64,
    per_period: u64,
}

impl Ticks {
    /// A clock that stands still: for clients without a rate.
    pub(crate) const STILL: Self = Self { period: 1, per_period: 0 };

    /// The unit in which each of these rates, if possible, takes a whole number of ticks per admission, so that nothing
    /// is rounded. The first one always does. Rates are `(admissions per period, burst)` and never 0.
    pub(crate) fn fitting(period: Duration, rates: &[(u32, u32)]) -> Self {
        let Some(&(first, _)) = rates.first() else { return Self::STILL };
        let span = |&(rate, burst): &(u32, u32)| SPAN * u64::from(rate) / u64::from(burst.max(rate));
        let finest = u64::from(rate_most(period));
        let most = rates.iter().map(span).fold(finest, u64::min);
        let common = rates.iter().try_fold(1, |common, &(rate, _)| {
            let common = least_common_multiple(common, u64::from(rate));
            (common <= most).then_some(common)
        });
        let unit = common.unwrap_or_else(|| u64::from(first));
        let period = u64::try_from(period.as_nanos()).expect("a period is at most a day");
        Self { period, per_period: unit * (most / unit).max(1) }
    }

    /// How long, in nanoseconds, an epoch may last.
    pub(crate) fn span(self) -> u64 {
        if self.per_period == 0 {
            return u64::MAX;
        }
        let until_full = u128::from(SPAN) * u128::from(self.period) / u128::from(self.per_period);
        let until_product_overflows = u64::MAX / self.per_period;
        u64::try_from(until_full).unwrap_or(u64::MAX).min(until_product_overflows)
    }

    /// The ticks that have begun and ended in `nanoseconds`; saturates.
    pub(crate) fn passed(self, nanoseconds: u64) -> u32 {
        let ticks = match nanoseconds.checked_mul(self.per_period) {
            Some(product) => product / self.period,
            None => {
                // Longer than an epoch, so the epoch is about to be moved. Rare, and 128 bits are slow.
                let product = u128::from(nanoseconds) * u128::from(self.per_period);
                u64::try_from(product / u128::from(self.period)).unwrap_or(u64::MAX)
            }
        };
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// The ticks that have begun in `nanoseconds`.
    fn begun(self, nanoseconds: u64) -> u32 {
        let product = nanoseconds.saturating_mul(self.per_period);
        u32::try_from(product.div_ceil(self.period)).unwrap_or(u32::MAX)
    }

    fn duration(self, ticks: u32) -> Duration {
        let nanoseconds = (u128::from(ticks) * u128::from(self.period)).div_ceil(u128::from(self.per_period.max(1)));
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

/// The highest rate that can be counted in `period`: one per tick of the finest.
pub(crate) fn rate_most(period: Duration) -> u32 {
    let ticks = u64::try_from(period.as_nanos() / FINEST.as_nanos()).unwrap_or(u64::MAX);
    u32::try_from(ticks).map_or(TICKS_MOST, |ticks| ticks.min(TICKS_MOST))
}

fn least_common_multiple(a: u64, b: u64) -> u64 {
    let (mut divisor, mut rest) = (a, b);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    a / divisor * b
}

/// A limit on how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    ticks: Ticks,
    /// Ticks that one admission uses up; rounded up.
    interval: u32,
    /// How far ahead of time a client may be and still be admitted: a burst less one.
    tolerance: u32,
    per_period: u32,
}

impl Rate {
    /// `rate` and `burst` are not 0; `ticks` were made for them.
    pub(crate) fn new(ticks: Ticks, rate: u32, burst: u32) -> Self {
        let interval = ticks.per_period.div_ceil(u64::from(rate));
        let tolerance = interval * u64::from(burst - 1);
        Self {
            ticks,
            interval: u32::try_from(interval).expect("at most the ticks of a period"),
            tolerance: u32::try_from(tolerance).expect("ticks fit the burst"),
            per_period: rate,
        }
    }

    pub(crate) fn ticks(&self) -> Ticks {
        self.ticks
    }

    pub(crate) fn per_period(&self) -> u32 {
        self.per_period
    }

    /// What `spent` becomes if one more is admitted `age` nanoseconds after the epoch, else how long to wait.
    ///
    /// The tick that `age` is inside has not passed when one asks whether the client is early, and has when the next
    /// admission is put off: both roundings are against the client.
    pub(crate) fn admit(&self, spent: u32, age: u64) -> Result<u32, Duration> {
        let early = spent.saturating_sub(self.ticks.passed(age));
        match early.checked_sub(self.tolerance) {
            Some(wait @ 1..) => Err(self.ticks.duration(wait)),
            _ => Ok(spent.max(self.ticks.begun(age)) + self.interval),
        }
    }

    /// What a client that has `spent` under `old` has under `new`, whose epoch is now: as many admissions used up, but
    /// no more than a whole burst.
    pub(crate) fn carry(old: Option<&Self>, new: Option<&Self>, spent: u32, age: u64) -> u32 {
        let (Some(old), Some(new)) = (old, new) else { return 0 };
        let early = spent.saturating_sub(old.ticks.passed(age));
        if old == new {
            return early;
        }
        let carried = (u64::from(early) * u64::from(new.interval)).div_ceil(u64::from(old.interval));
        u32::try_from(carried).unwrap_or(u32::MAX).min(new.tolerance + new.interval)
    }
}

#[cfg(test)]
mod tests;
