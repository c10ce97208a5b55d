//! The rate against an exact reference in nanoseconds, and its edges.

use super::*;
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);

/// The exact algorithm, in units of a nanosecond divided by the rate, so that nothing is rounded.
struct Exact {
    rate: u128,
    period: u128,
    tolerance: u128,
    ahead_until: u128,
}

impl Exact {
    fn new(rate: u32, burst: u32, period: Duration) -> Self {
        let period = period.as_nanos();
        Self { rate: rate.into(), period, tolerance: period * u128::from(burst - 1), ahead_until: 0 }
    }

    fn would_admit(&self, now: u64) -> bool {
        self.ahead_until <= u128::from(now) * self.rate + self.tolerance
    }

    fn admit(&mut self, now: u64) {
        self.ahead_until = self.ahead_until.max(u128::from(now) * self.rate) + self.period;
    }
}

/// A client behind a moving epoch, as a shard keeps it.
struct Client {
    rate: Rate,
    spent: u32,
    epoch: u64,
}

impl Client {
    fn new(rate: u32, burst: u32, period: Duration) -> Self {
        let rate = Rate::new(Ticks::fitting(period, &[(rate, burst)]), rate, burst);
        Self { rate, spent: 0, epoch: 0 }
    }

    fn ask(&mut self, now: u64) -> Result<(), Duration> {
        if now - self.epoch > self.rate.ticks.span() {
            self.spent = self.spent.saturating_sub(self.rate.ticks.passed(now - self.epoch));
            self.epoch = now;
        }
        self.spent = self.rate.admit(self.spent, now - self.epoch)?;
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is admitted conforms to the exact rate, over gaps from a nanosecond to weeks; and what is refused is at
    /// most a few ticks early.
    #[test]
    fn never_admits_more_and_hardly_less(
        rate in prop_oneof![1u32..20, 1u32..5_000, 1u32..1_000_000],
        burst in prop_oneof![Just(1u32), 1u32..50, 1u32..5_000, 1u32..10_000_000],
        seconds in prop_oneof![Just(60u64), 1u64..100, Just(86_400u64)],
        gaps in prop::collection::vec(
            prop_oneof![
                5 => Just(0u64), 5 => 0u64..1_000, 5 => 0u64..1_000_000_000,
                2 => 0u64..100_000_000_000, 1 => 0u64..10_000_000_000_000_000,
            ],
            1..200,
        ),
    ) {
        let period = Duration::from_secs(seconds);
        let mut exact = Exact::new(rate, burst, period);
        let mut client = Client::new(rate, burst, period);
        let tick = client.rate.ticks.duration(1);
        let (mut now, mut roundings) = (0, 2);
        for gap in gaps {
            now += gap;
            roundings += 1 + u32::from(gap > client.rate.ticks.span());
            match client.ask(now) {
                Ok(()) => {
                    prop_assert!(exact.would_admit(now), "admitted one too many at {now}");
                    exact.admit(now);
                }
                Err(wait) => {
                    let slack = u64::try_from((tick * roundings).as_nanos()).unwrap();
                    prop_assert!(!exact.would_admit(now.saturating_sub(slack)), "refused a conforming one at {now}");
                    let then = now + u64::try_from(wait.as_nanos()).unwrap();
                    let mut later = Client { rate: client.rate, ..client };
                    // A tick that has begun but not ended does not count as passed.
                    prop_assert!(later.ask(then + u64::try_from(tick.as_nanos()).unwrap()).is_ok());
                }
            }
        }
    }

    /// A client that sends no more than its rate in any window is never refused, to the nanosecond, for rates that
    /// divide a minute into whole ticks.
    #[test]
    fn exact_at_the_boundary(rate in prop::sample::select(vec![1u32, 2, 5, 60, 100, 300, 600, 1_000, 6_000]), minutes in 1u64..50) {
        let mut client = Client::new(rate, rate, MINUTE);
        for minute in 0..minutes {
            for turn in 0..rate {
                prop_assert_eq!(client.ask(minute * 60_000_000_000), Ok(()), "minute {}, turn {}", minute, turn);
            }
            let wait = client.ask(minute * 60_000_000_000);
            prop_assert_eq!(wait, Err(MINUTE / rate));
        }
    }
}

#[test]
fn one_unit_serves_several_rates_without_rounding() {
    let ticks = Ticks::fitting(MINUTE, &[(300, 300), (7, 7), (1_000, 1_000)]);
    for rate in [300, 7, 1_000] {
        assert_eq!(Rate::new(ticks, rate, rate).interval * rate, u32::try_from(ticks.per_period).unwrap());
    }
    // Too many primes for one unit: the first stays exact, the others are rounded up.
    let primes = [(300, 300), (9_973, 9_973), (9_967, 9_967), (9_949, 9_949)];
    let ticks = Ticks::fitting(MINUTE, &primes);
    for (rate, burst) in primes {
        let rounded = u64::from(Rate::new(ticks, rate, burst).interval) * u64::from(rate) - ticks.per_period;
        assert!(rounded < u64::from(rate) && (rate != 300 || rounded == 0), "{rate}: {rounded}");
    }
}

#[test]
fn extremes_fit_in_32_bits() {
    let most = rate_most(MINUTE);
    for (rate, burst) in [(1, 1), (1, most), (most, 1), (most, most), (most - 1, most)] {
        let mut client = Client::new(rate, burst, MINUTE);
        assert_eq!(client.ask(0), Ok(()), "{rate} {burst}");
        assert_eq!(client.ask(u64::MAX / 2), Ok(()), "{rate} {burst}");
        assert_eq!(client.ask(u64::MAX), Ok(()), "{rate} {burst}");
    }
}

#[test]
fn a_change_of_rate_keeps_what_was_used_up() {
    let rate = |rate| Rate::new(Ticks::fitting(MINUTE, &[(rate, rate)]), rate, rate);
    let (slow, fast) = (rate(10), rate(20));
    let mut spent = 0;
    for _ in 0..10 {
        spent = slow.admit(spent, 0).unwrap();
    }
    assert!(slow.admit(spent, 0).is_err());
    let mut raised = Rate::carry(Some(&slow), Some(&fast), spent, 0);
    for _ in 0..10 {
        raised = fast.admit(raised, 0).expect("10 of 20 are left");
    }
    assert!(fast.admit(raised, 0).is_err());
    let lowered = Rate::carry(Some(&fast), Some(&slow), raised, 0);
    assert!(slow.admit(lowered, 5_000_000_000).is_err());
    assert!(slow.admit(lowered, 6_100_000_000).is_ok(), "a whole burst is used up, not more");
    assert_eq!(Rate::carry(Some(&fast), None, raised, 0), 0);
    assert_eq!(Rate::carry(None, Some(&fast), 0, 0), 0);
}
