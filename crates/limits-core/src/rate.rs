//! How often: the generic cell rate algorithm in 32 bits per client.
//!
//! A client's state is the time until which it has used up its rate ("spent"), in ticks since an epoch that many
//! clients share. Before the 32 bits run out the owner of the epoch moves it on and subtracts the difference, so no
//! comparison ever meets a wrapped number. A state of 0, or of any time gone by, is that of a client never seen.
//!
//! Time comes in whole microseconds. For nearly all rates a tick is a whole fraction of one in which an admission takes
//! a whole number of ticks: then nothing is rounded. Otherwise the interval between admissions is rounded up.

use std::time::Duration;

/// No burst lasts longer than this many ticks, and no epoch is older.
const SPAN: u64 = 1 << 30;
/// The highest rate, in admissions per period; and never more than one per microsecond.
const HIGHEST: u32 = 60_000_000;

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticks {
    /// `count` ticks in `micros` microseconds; one of the two is 1.
    count: u64,
    micros: u64,
}

impl Ticks {
    /// A clock that stands still: for clients without a rate.
    pub(crate) const STILL: Self = Self { count: 0, micros: 1 };

    /// The unit for some rates, `(admissions per period, burst)`, neither of them 0.
    pub(crate) fn fitting(period: Duration, rates: &[(u32, u32)]) -> Self {
        if rates.is_empty() {
            return Self::STILL;
        }
        let period = micros(period);
        let fits =
            |ticks: Self| rates.iter().all(|&(rate, burst)| ticks.span_of(period, rate, burst.max(rate)) <= SPAN);
        // The fewest ticks in a microsecond for which no interval is rounded.
        let exact = rates.iter().try_fold(1_u64, |count, &(rate, _)| {
            let rate = u64::from(rate);
            let needed = rate / divisor(rate, period);
            Some(count / divisor(count, needed) * needed).filter(|&count| count <= SPAN)
        });
        let exact = exact.map(|count| Self { count, micros: 1 });
        let coarser = (0..).map(|zeros| Self { count: 1, micros: 10_u64.pow(zeros) });
        exact.into_iter().chain(coarser).find(|&ticks| fits(ticks)).expect("some tick is long enough")
    }

    fn span_of(self, period: u64, rate: u32, burst: u32) -> u64 {
        self.interval(period, rate).saturating_mul(burst.into())
    }

    fn interval(self, period: u64, rate: u32) -> u64 {
        period.saturating_mul(self.count).div_ceil(u64::from(rate) * self.micros)
    }

    /// How long, in microseconds, an epoch may last.
    pub(crate) fn span(self) -> u64 {
        (SPAN * self.micros).checked_div(self.count).unwrap_or(u64::MAX)
    }

    /// The whole ticks in some microseconds; saturates.
    #[inline]
    pub(crate) fn passed(self, micros: u64) -> u32 {
        let ticks = micros.saturating_mul(self.count);
        // Dividing is slow, and rarely needed.
        let ticks = if self.micros == 1 { ticks } else { ticks / self.micros };
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// Whether each of them is within a microsecond.
    pub(crate) fn are_fine(self) -> bool {
        self.micros == 1
    }

    /// [`Ticks::passed`] for fine ticks and an epoch that is not over, which are never too many.
    #[inline]
    pub(crate) fn passed_in_epoch(self, micros: u64) -> u32 {
        debug_assert!(self.are_fine() && micros <= self.span(), "the epoch is over");
        (micros as u32).wrapping_mul(self.count as u32)
    }

    #[cold]
    fn duration(self, ticks: u32) -> Duration {
        Duration::from_micros((u64::from(ticks) * self.micros).div_ceil(self.count.max(1)))
    }
}

/// The highest rate that can be counted in `period`.
pub(crate) fn rate_most(period: Duration) -> u32 {
    u32::try_from(micros(period)).map_or(HIGHEST, |micros| micros.min(HIGHEST))
}

fn micros(period: Duration) -> u64 {
    u64::try_from(period.as_nanos().div_ceil(1_000)).expect("a period is at most a day")
}

/// The greatest common one.
fn divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { divisor(b, a % b) }
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
    /// `rate` and `burst` are not 0; `ticks` were made for them and this period.
    pub(crate) fn new(ticks: Ticks, period: Duration, rate: u32, burst: u32) -> Self {
        let interval = u32::try_from(ticks.interval(micros(period), rate)).expect("ticks fit the rate");
        let tolerance = interval.checked_mul(burst - 1).expect("ticks fit the burst");
        Self { ticks, interval, tolerance, per_period: rate }
    }

    pub(crate) fn ticks(&self) -> Ticks {
        self.ticks
    }

    pub(crate) fn per_period(&self) -> u32 {
        self.per_period
    }

    /// What `spent` becomes if one more is admitted `age` microseconds after the epoch, else how long to wait.
    #[inline]
    pub(crate) fn admit(&self, spent: u32, age: u64) -> Result<u32, Duration> {
        let passed = self.ticks.passed(age);
        self.spend(spent, passed).ok_or_else(|| self.ticks.duration(spent - passed - self.tolerance))
    }

    /// What `spent` becomes if one more is admitted so many ticks after the epoch; `None` if it is too early.
    #[inline]
    pub(crate) fn spend(&self, spent: u32, passed: u32) -> Option<u32> {
        let from = spent.max(passed);
        (from - passed <= self.tolerance).then(|| from + self.interval)
    }

    /// What a client that has `spent` under `old` has under `new`, whose epoch is now: as many admissions used up, but
    /// no more than a whole burst.
    pub(crate) fn carry(old: Option<&Self>, new: Option<&Self>, spent: u32, age: u64) -> u32 {
        let (Some(old), Some(new)) = (old, new) else { return 0 };
        let early = u64::from(spent.saturating_sub(old.ticks.passed(age)));
        let carried = (early * u64::from(new.interval)).div_ceil(u64::from(old.interval));
        u32::try_from(carried).unwrap_or(u32::MAX).min(new.tolerance + new.interval)
    }
}

#[cfg(test)]
mod tests;
