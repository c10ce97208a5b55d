//! The course of one kind, event by event.

use super::*;
use proptest::prelude::*;

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Lets `course` come at its times, each with events since the last, and somebody look afterwards; what was written, when.
fn lines(folding: Folding, course: &[(f64, u64)]) -> Vec<(f64, Due)> {
    let (mut episode, mut count, mut last, mut lines) = (Episode::default(), 0, Duration::ZERO, Vec::new());
    for &(seconds, events) in course {
        let now = at(seconds);
        for _ in 0..events {
            last = now;
            count += u64::from(!episode.claim(now, &folding));
        }
        let due = episode.due(now, count, &folding);
        match due {
            Due::Nothing => continue,
            Due::Quiet | Due::Close(..) => episode.close(),
            Due::Summary => episode.told(now, std::mem::take(&mut count), last, &folding),
        }
        lines.push((seconds, due));
    }
    lines
}

#[test]
fn one_line_per_interval_and_one_at_the_end() {
    let course = [(0.0, 20), (4.9, 20), (5.0, 20), (7.0, 1), (10.1, 0), (15.0, 0), (15.1, 0), (30.0, 0)];
    let expected = [(5.0, Due::Summary), (10.1, Due::Summary), (15.0, Due::Close(at(7.0), 61))];
    assert_eq!(lines(Folding::default(), &course), expected, "the grid is not moved by who comes late");
}

#[test]
fn what_was_one_event_is_over_without_a_line() {
    let course = [(0.0, 1), (5.0, 0), (6.0, 1), (11.0, 0), (12.0, 2), (17.0, 0)];
    let expected = [(5.0, Due::Quiet), (11.0, Due::Quiet), (17.0, Due::Summary)];
    assert_eq!(lines(Folding::default(), &course), expected);
}

#[test]
fn a_sudden_rise_is_told_of_at_once_and_takes_the_place_of_a_line() {
    let course = [(0.0, 101), (0.2, 0), (1.0, 5000), (5.1, 0), (5.3, 400), (6.0, 500_000), (7.0, 5_000_000), (11.0, 0)];
    let expected = [(0.0, Due::Summary), (5.1, Due::Summary), (6.0, Due::Summary), (11.0, Due::Summary)];
    assert_eq!(lines(Folding::default(), &course), expected, "not a second time in one interval");
    let slow: Vec<_> = (0..50).map(|tenth| (f64::from(tenth) / 10.0, 3)).collect();
    assert_eq!(lines(Folding::default(), &slow), [], "30 a second are no rise");
    let never = Folding { rise: 0, ..Folding::default() };
    assert_eq!(lines(never, &[(0.0, 100_000), (4.9, 100_000), (5.0, 0)]), [(5.0, Due::Summary)]);
}

#[test]
fn who_comes_much_too_late_writes_one_line() {
    let course = [(0.0, 9), (5.0, 0), (5.1, 9), (23.0, 9), (23.1, 9), (24.9, 1), (25.0, 0)];
    let expected = [(5.0, Due::Summary), (23.0, Due::Summary), (25.0, Due::Summary)];
    assert_eq!(lines(Folding::default(), &course), expected);
}

#[test]
fn another_interval_counts_from_the_last_line() {
    let (old, new) = (Folding::default(), Folding { interval: at(1.0), burst: 3, ..Folding::default() });
    let mut episode = Episode::default();
    assert!(episode.claim(at(0.0), &old));
    episode.told(at(5.0), 10, at(4.0), &old);
    episode.adjust(&old, &new);
    assert!(!episode.claim(at(5.5), &new), "it goes on folding");
    assert_eq!(episode.due(at(5.9), 1, &new), Due::Nothing);
    assert_eq!(episode.due(at(6.0), 1, &new), Due::Summary);
    assert_eq!(episode.due(at(6.0), 0, &new), Due::Close(at(4.0), 11));
}

fn folding() -> impl Strategy<Value = Folding> {
    (1_u64..20, 1_u32..4, 0_u32..12).prop_map(|(tenths, burst, rise)| Folding {
        interval: Duration::from_millis(100 * tenths),
        burst,
        rise,
        top_sources: 1,
    })
}

proptest! {
    /// Whatever happens: no more than one line per interval of an episode's grid, all events are told of once, and
    /// nothing waits longer than an interval if somebody looks in time.
    #[test]
    fn lines_keep_to_the_grid(folding in folding(), steps in prop::collection::vec((1_u64..400, 0_u64..3000), 1..200)) {
        let (mut episode, mut now, mut began) = (Episode::default(), at(10.0), None);
        let (mut waiting, mut waits_since, mut places) = (0, at(0.0), Vec::new());
        let (mut recorded, mut written, mut told) = (0, 0, 0);
        for (millis, events) in steps {
            now += Duration::from_millis(millis);
            for _ in 0..events {
                if episode.claim(now, &folding) {
                    if began.is_none() {
                        (began, places) = (Some(now), Vec::new());
                    }
                    written += 1;
                } else {
                    if waiting == 0 {
                        waits_since = now;
                    }
                    waiting += 1;
                }
                recorded += 1;
            }
            let due_before = episode.due;
            match episode.due(now, waiting, &folding) {
                Due::Nothing => prop_assert!(waiting == 0 || now < waits_since + folding.interval),
                Due::Quiet => {
                    prop_assert_eq!(places.len(), 0);
                    episode.close();
                    began = None;
                }
                Due::Close(lasted, total) => {
                    prop_assert!(!places.is_empty() && waiting == 0);
                    prop_assert!(lasted <= now - began.unwrap());
                    prop_assert!(total <= recorded);
                    episode.close();
                    began = None;
                }
                Due::Summary => {
                    told += waiting;
                    episode.told(now, std::mem::take(&mut waiting), now, &folding);
                    // Where it belongs: on time, or early.
                    let late = (now.saturating_sub(due_before).as_nanos() / folding.interval.as_nanos()) as u32;
                    let belongs = now.min(due_before + folding.interval * late);
                    let place = (belongs - began.unwrap()).as_nanos().div_ceil(folding.interval.as_nanos());
                    prop_assert!(places.last() != Some(&place), "two lines in interval {}", place);
                    places.push(place);
                }
            }
        }
        prop_assert_eq!(written + told + waiting, recorded);
    }
}
