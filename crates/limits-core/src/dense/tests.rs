use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A key and a value. The hash of a key is chosen by the test, through its upper half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair(u64, u32);

impl Entry for Pair {
    const VACANT: Self = Self(0, u32::MAX);

    fn is_vacant(&self) -> bool {
        self.1 == u32::MAX
    }
}

fn hash(pair: &Pair) -> u32 {
    (pair.0 >> 32) as u32
}

fn find(table: &mut Dense<Pair>, key: u64) -> Option<usize> {
    table.find((key >> 32) as u32, |pair| pair.0 == key).map(|(place, _)| place)
}

fn insert(table: &mut Dense<Pair>, pair: Pair) {
    if let Some(size) = table.more() {
        table.resize(Room::new(size), hash);
    }
    table.insert(hash(&pair), pair, hash);
}

fn shrink(table: &mut Dense<Pair>) {
    if let Some(size) = table.less() {
        table.resize(Room::new(size), hash);
    }
}

fn check(table: &Dense<Pair>, model: &BTreeMap<u64, u32>) {
    assert_eq!(table.len(), model.len());
    let mut all: Vec<_> = table.iter().map(|pair| (pair.0, pair.1)).collect();
    assert!(all.is_sorted_by_key(|(key, _)| key >> 32), "entries are in the order of their hashes");
    all.sort_unstable();
    assert!(all.iter().copied().eq(model.iter().map(|(&key, &value)| (key, value))));
    for place in (0..table.places()).filter(|&place| !table[place].is_vacant()) {
        let home = table.home(hash(&table[place]));
        assert!(home <= place && (home..place).all(|before| !table[before].is_vacant()), "a look-up would miss it");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u32),
    Remove(usize),
    Change(usize, u32),
    Shrink,
}

/// Keys whose hashes are spread, the same, next to each other, or at the very end, where there is no room behind.
fn key() -> impl Strategy<Value = u64> {
    let end = u64::from(u32::MAX);
    let spread = 0..1_u64 << 32;
    (prop_oneof![4 => spread, 1 => Just(7), 1 => 1_000..1_020_u64, 1 => end - 3..end + 1], 0..1_u64 << 20)
        .prop_map(|(hash, low)| hash << 32 | low)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (key(), 0..1_000_u32).prop_map(|(key, value)| Step::Insert(key, value)),
        3 => any::<usize>().prop_map(Step::Remove),
        1 => (any::<usize>(), 0..1_000_u32).prop_map(|(which, value)| Step::Change(which, value)),
        1 => Just(Step::Shrink),
    ]
}

proptest! {
    #[test]
    fn it_is_a_map(steps in proptest::collection::vec(step(), 0..600)) {
        let (mut table, mut model) = (Dense::default(), BTreeMap::new());
        let one = |model: &BTreeMap<u64, u32>, which: usize| model.keys().nth(which % model.len().max(1)).copied();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(key, value) => match find(&mut table, key) {
                    Some(place) => assert_eq!(Some(&table[place].1), model.get(&key)),
                    None => {
                        assert_eq!(model.insert(key, value), None, "it was not found");
                        insert(&mut table, Pair(key, value));
                    }
                },
                Step::Remove(which) => {
                    if let Some(key) = one(&model, which) {
                        model.remove(&key);
                        let place = find(&mut table, key).expect("it is there");
                        table.remove(place, hash);
                        assert_eq!(find(&mut table, key), None);
                    }
                }
                Step::Change(which, value) => {
                    if let Some(key) = one(&model, which) {
                        model.insert(key, value);
                        let place = find(&mut table, key).expect("it is there");
                        table[place].1 = value;
                    }
                }
                Step::Shrink => shrink(&mut table),
            }
            if number % 16 == 0 {
                check(&table, &model);
            }
        }
        check(&table, &model);
        for key in model.keys() {
            let place = find(&mut table, *key).expect("it is there");
            table.remove(place, hash);
        }
        shrink(&mut table);
        prop_assert_eq!((table.len(), table.bytes()), (0, 0));
    }
}

fn spread(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[test]
fn memory_follows_the_number_of_entries_up_and_down() {
    let mut table = Dense::default();
    for number in 0..20_000 {
        insert(&mut table, Pair(spread(number), 1));
        if number > 500 {
            let per_entry = table.places() as f64 / (number + 1) as f64;
            assert!(per_entry < 1.65, "{per_entry} places an entry at {number}");
        }
    }
    for number in 0..20_000 {
        let place = find(&mut table, spread(number)).expect("it is there");
        table.remove(place, hash);
        shrink(&mut table);
        let left = 19_999 - number as usize;
        assert!(table.places() <= left * 21 / 10 + 2 * SEGMENT, "{} places for {left}", table.places());
    }
    assert_eq!(table.bytes(), 0);
}

#[test]
fn a_table_at_the_edge_does_not_grow_and_shrink_in_turn() {
    let mut table = Dense::default();
    for number in 0..5_000 {
        insert(&mut table, Pair(spread(number), 1));
        let before = table.places();
        shrink(&mut table);
        assert_eq!(table.places(), before, "at {number}");
    }
}

#[test]
fn a_walk_that_removes_misses_nothing() {
    let mut table = Dense::default();
    for number in 0..3_000 {
        insert(&mut table, Pair(spread(number), number as u32));
    }
    let mut place = 0;
    while place < table.places() {
        if !table[place].is_vacant() && table[place].1 % 3 != 0 {
            table.remove(place, hash);
        } else {
            place += 1;
        }
    }
    assert_eq!(table.len(), 1_000);
    assert!(table.iter().all(|pair| pair.1 % 3 == 0));
}

#[test]
fn room_that_comes_too_late_is_left_alone() {
    let mut table = Dense::default();
    for number in 0..3_000 {
        insert(&mut table, Pair(spread(number), 1));
    }
    let before = table.places();
    let smaller = [0, 1, before / SEGMENT / 2, before / SEGMENT, before].map(|segments| Size { segments, fresh: 0 });
    let larger = [0, 1, 2].map(|less| Size { segments: before / SEGMENT + 2 - less, fresh: 3 });
    for size in smaller.into_iter().chain(larger) {
        let Room(left) = table.resize(Room::new(size), hash);
        assert_eq!(left.len(), size.fresh, "{size:?}");
        assert_eq!((table.len(), table.places()), (3_000, before), "{size:?}");
    }
    assert!((0..3_000).all(|number| find(&mut table, spread(number)).is_some()));
}

fn at_end(low: u64) -> u64 {
    u64::from(u32::MAX) << 32 | low
}

#[test]
fn many_at_the_end_fit_into_a_smaller_table() {
    let mut table = Dense::default();
    (0..3_000).for_each(|number| insert(&mut table, Pair(spread(number), 1)));
    (0..100).for_each(|number| insert(&mut table, Pair(at_end(number), 1)));
    for number in 100..3_000 {
        let place = find(&mut table, spread(number)).expect("it is there");
        table.remove(place, hash);
    }
    let before = table.places();
    shrink(&mut table);
    assert!(table.places() < before / 4, "{} of {before} places", table.places());
    let keys = (0..100).flat_map(|number| [spread(number), at_end(number)]);
    check(&table, &keys.map(|key| (key, 1)).collect());
}

#[test]
fn many_at_the_end_have_places_behind_them() {
    let mut table = Dense::default();
    for number in 0..1_000 {
        insert(&mut table, Pair(at_end(number), number as u32));
        assert!((0..=number).all(|number| find(&mut table, at_end(number)).is_some()), "{number}");
    }
    assert!(table.places() < 3_000, "{} places for 1,000", table.places());
}

#[test]
fn whoever_stays_is_in_exactly_one_part() {
    let spread = |number: u64| (number.wrapping_mul(0x9e37_79b9) & 0xffff_ffff) << 32 | number;
    for places in [1, 7, 64, 1_000] {
        let mut table = Dense::default();
        let stays: Vec<_> = (0..400).map(spread).collect();
        stays.iter().for_each(|&key| insert(&mut table, Pair(key, 0)));
        let (mut from, mut seen, mut parts, mut others) = (0, vec![], 0, 1_000..);
        while from < HASHES {
            let (entries, until) = table.part(from, places, hash);
            let part: Vec<_> = entries.map(|pair| pair.0).collect();
            assert!(part.iter().all(|key| (from..until).contains(&(key >> 32))), "{part:?}");
            assert!(parts > 0 || part.len() <= 2 * places + 16, "{} in a part", part.len());
            seen.extend(part);
            (from, parts) = (until, parts + 1);
            // Others come, so that the table grows under the walk, or go, so that it shrinks.
            let keys: Vec<_> = table.iter().map(|pair| pair.0).filter(|key| key & 0xffff_ffff >= 1_000).collect();
            if parts % 40 < 20 {
                others.by_ref().take(60).map(spread).for_each(|key| insert(&mut table, Pair(key, 1)));
            } else {
                for key in keys {
                    let place = find(&mut table, key).unwrap();
                    table.remove(place, hash);
                }
                shrink(&mut table);
            }
        }
        let mut once: Vec<_> = seen.into_iter().filter(|key| key & 0xffff_ffff < 1_000).collect();
        assert!(once.is_sorted_by_key(|key| key >> 32));
        once.sort_unstable_by_key(|key| key & 0xffff_ffff);
        assert_eq!(once, stays, "in parts of {places} places");
        assert!(places > 64 || parts > 4, "{parts} parts");
    }
}

#[test]
fn an_empty_table_is_one_part() {
    let table = Dense::<Pair>::default();
    let (entries, until) = table.part(0, 10, hash);
    assert_eq!((entries.count(), until), (0, HASHES));
}
