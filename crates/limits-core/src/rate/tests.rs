//! The rate against an exact reference, and its edges.

use super::*;
use proptest::prelude::*;

const MINUTE: Duration = Duration::from_secs(60);

/// The exact algorithm, in units of a tick divided by the rate, so that nothing is rounded and nothing wraps.
struct Exact {
    rate: u128,
    period: u128,
    tolerance: u128,
    ahead_until: u128,
}

impl Exact {
    /// `period` in microseconds times the denominator of the ticks.
    fn new(rate: u32, burst: u32, period: Duration, ticks: Ticks) -> Self {
        let period = u128::from(micros(period)) * u128::from(ticks.count);
        Self {
            rate: u128::from(rate) * u128::from(ticks.micros),
            period,
            tolerance: period * u128::from(burst - 1),
            ahead_until: 0,
        }
    }

    /// At a number of whole ticks.
    fn would_admit(&self, now: u128) -> bool {
        self.ahead_until <= now * self.rate + self.tolerance
    }

    fn admit(&mut self, now: u128) {
        self.ahead_until = self.ahead_until.max(now * self.rate) + self.period;
    }
}

/// A client behind a moving epoch, as a shard keeps it.
#[derive(Clone)]
struct Client {
    rate: Rate,
    spent: u32,
    epoch: u64,
}

impl Client {
    fn new(rate: u32, burst: u32, period: Duration) -> Self {
        let rate = Rate::new(Ticks::fitting(period, &[(rate, burst)]), period, rate, burst);
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

/// Times to let pass: together, near each other, seconds, weeks (so that 32 bits of ticks run out often).
fn gaps() -> impl Strategy<Value = Vec<u64>> {
    let gap = prop_oneof![
        5 => Just(0u64), 5 => 0u64..1_000, 5 => 0u64..1_000_000,
        2 => 0u64..100_000_000, 2 => 0u64..3_000_000_000, 1 => 0u64..10_000_000_000_000,
    ];
    prop::collection::vec(gap, 1..200)
}

fn rates() -> impl Strategy<Value = u32> {
    prop_oneof![1u32..20, 1u32..5_000, 1u32..1_000_000]
}

fn bursts() -> impl Strategy<Value = u32> {
    prop_oneof![Just(1u32), 1u32..50, 1u32..5_000, 1u32..10_000_000]
}

#[test]
fn an_interval_is_rounded_up() {
    let week = 604_800_000_000;
    for (micros, rate, interval) in
        [(1_000, 7, 86_400_000), (1_000, 11, 54_981_819), (10, 1_000_001, 60_480), (1, 9, 67_200_000_000)]
    {
        assert_eq!(Ticks { count: 1, micros }.interval(week, rate), interval, "{rate} a week in ticks of {micros} µs");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Whatever is admitted conforms to the exact rate. Ticks longer than a microsecond are counted from an epoch that may
    /// begin inside one of those of the exact rate: so by one of them an answer may be early.
    #[test]
    fn pitfall_45_never_admits_more(
        rate in rates(), burst in bursts(), seconds in prop_oneof![Just(60u64), 1u64..100, Just(86_400u64)], gaps in gaps(),
    ) {
        let period = Duration::from_secs(seconds);
        let mut client = Client::new(rate, burst, period);
        let ticks = client.rate.ticks;
        let mut exact = Exact::new(rate, burst, period, ticks);
        let mut now = 0;
        for gap in gaps {
            now += gap;
            let whole_ticks = u128::from(now) * u128::from(ticks.count) / u128::from(ticks.micros);
            match client.ask(now) {
                Ok(()) => {
                    let begun = u128::from(ticks.micros > 1);
                    prop_assert!(exact.would_admit(whole_ticks + begun), "admitted one too many at {now}");
                    exact.admit(whole_ticks);
                }
                Err(wait) => {
                    let then = now + u64::try_from(wait.as_micros()).unwrap();
                    prop_assert_eq!(client.clone().ask(then), Ok(()), "waiting as told is enough");
                }
            }
        }
    }

    /// Where a tick is no longer than a microsecond and divides an interval, every answer is the exact one.
    #[test]
    fn is_exact_for_nearly_all_rates(
        rate in prop_oneof![1u32..19, prop::sample::select(vec![20u32, 60, 100, 120, 300, 600, 900, 1_000, 6_000, 60_000])],
        burst in prop_oneof![Just(1u32), 1u32..10], gaps in gaps(),
    ) {
        let burst = burst.min(rate);
        let mut client = Client::new(rate, burst, MINUTE);
        let ticks = client.rate.ticks;
        prop_assert_eq!(ticks.micros, 1);
        let mut exact = Exact::new(rate, burst, MINUTE, ticks);
        let mut now = 0;
        for gap in gaps {
            now += gap;
            let whole_ticks = u128::from(now) * u128::from(ticks.count);
            let admitted = exact.would_admit(whole_ticks);
            if admitted {
                exact.admit(whole_ticks);
            }
            prop_assert_eq!(client.ask(now).is_ok(), admitted, "at {}", now);
        }
    }

    /// A client that sends its whole rate at once, once a minute, is never refused, whenever it begins.
    #[test]
    fn a_whole_burst_every_minute(rate in prop_oneof![1u32..18, Just(300u32)], begin in any::<u32>(), minutes in 1u64..50) {
        let mut client = Client::new(rate, rate, MINUTE);
        for minute in 0..minutes {
            let now = u64::from(begin) + minute * 60_000_000;
            for turn in 0..rate {
                prop_assert_eq!(client.ask(now), Ok(()), "minute {}, turn {}", minute, turn);
            }
            let wait = client.ask(now).unwrap_err();
            prop_assert!(wait.abs_diff(MINUTE / rate) <= Duration::from_micros(1));
        }
    }
}

#[test]
fn one_unit_serves_several_rates_without_rounding() {
    let ticks = Ticks::fitting(MINUTE, &[(300, 300), (7, 7), (1_000, 1_000)]);
    assert_eq!(ticks, Ticks { count: 7, micros: 1 });
    for rate in [300, 7, 1_000] {
        assert_eq!(Rate::new(ticks, MINUTE, rate, rate).interval * rate, 420_000_000);
    }
    // Too many primes for one unit: what does not divide a minute is rounded up.
    let primes = [(300, 300), (9_973, 9_973), (9_967, 9_967), (9_949, 9_949)];
    let ticks = Ticks::fitting(MINUTE, &primes);
    assert_eq!(ticks, Ticks { count: 1, micros: 1 });
    for (rate, burst) in primes {
        let rounded = Rate::new(ticks, MINUTE, rate, burst).interval * rate - 60_000_000;
        assert!(rounded < rate && (rate != 300 || rounded == 0), "{rate}: {rounded}");
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
    let rate = |rate| Rate::new(Ticks::fitting(MINUTE, &[(rate, rate)]), MINUTE, rate, rate);
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
    assert!(slow.admit(lowered, 5_000_000).is_err());
    assert!(slow.admit(lowered, 6_100_000).is_ok(), "a whole burst is used up, not more");
    assert_eq!(Rate::carry(Some(&fast), None, raised, 0), 0);
    assert_eq!(Rate::carry(None, Some(&fast), 0, 0), 0);
}
