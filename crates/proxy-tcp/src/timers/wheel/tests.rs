//! The wheel beside a plain list of deadlines.

use super::*;
use conn_tracker::Verdict;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Something that happens to the wheel.
#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(u32),
    /// Of the so many-th deadline there is.
    Set(usize, u32),
    Remove(usize),
    Advance(u32),
    /// So many of those that have come up.
    Sweep(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let distance = || prop_oneof![0_u32..4, 0_u32..40, 0..3 * SLOTS];
    let step = prop_oneof![
        4 => distance().prop_map(Step::Insert),
        3 => (any::<usize>(), distance()).prop_map(|(which, by)| Step::Set(which, by)),
        2 => any::<usize>().prop_map(Step::Remove),
        3 => distance().prop_map(Step::Advance),
        3 => (0_usize..5).prop_map(Step::Sweep),
    ];
    prop::collection::vec(step, 0..200)
}

/// A wheel, what is swept, and what it should be like.
struct World {
    wheel: Wheel<u32>,
    queue: SweepQueue<u32>,
    /// Of each key the deadline, and who waits, until that was woken.
    expected: BTreeMap<u32, (u32, Option<u32>)>,
    next: u32,
}

impl World {
    fn new() -> Self {
        Self { wheel: Wheel::new(7), queue: SweepQueue::default(), expected: BTreeMap::new(), next: 0 }
    }

    fn key(&self, which: usize) -> Option<u32> {
        self.expected.keys().nth(which % self.expected.len().max(1)).copied()
    }

    fn wait(&mut self, key: u32) {
        self.next += 1;
        self.wheel.wait(key, |_| Some(self.next));
        self.expected.get_mut(&key).unwrap().1 = Some(self.next);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Insert(by) => {
                let due = self.wheel.now() + by;
                let key = self.wheel.insert(due);
                assert!(self.expected.insert(key, (due, None)).is_none(), "a key that somebody has");
                self.wait(key);
            }
            Step::Set(which, by) => {
                let Some(key) = self.key(which) else { return };
                let due = self.wheel.now() + by;
                self.wheel.set(key, due);
                self.expected.get_mut(&key).unwrap().0 = due;
                self.wait(key);
            }
            Step::Remove(which) => {
                let Some(key) = self.key(which) else { return };
                let (_, waiting) = self.expected.remove(&key).unwrap();
                assert_eq!(self.wheel.remove(key), waiting);
            }
            Step::Advance(by) => self.wheel.advance(self.wheel.now() + by, &self.queue),
            Step::Sweep(batch) => _ = self.sweep(batch),
        }
    }

    fn sweep(&mut self, batch: usize) -> usize {
        let Self { wheel, queue, expected, .. } = self;
        let visit = |key: &mut u32| {
            if let Some(woken) = wheel.visit(*key) {
                let (due, waiting) = expected.get_mut(key).expect("nobody has it");
                assert!(*due <= wheel.now(), "too early");
                assert_eq!(waiting.take(), Some(woken), "the wrong one, or twice");
            }
            Verdict::Done
        };
        queue.sweep(batch, visit).left
    }

    /// Everything that is due has been woken, as soon as all that has come up is swept one tick later.
    fn settle(&mut self) {
        let now = self.wheel.now();
        self.wheel.advance(now + 1, &self.queue);
        while self.sweep(3) > 0 || !self.queue.is_empty() {}
        for (key, (due, waiting)) in &self.expected {
            assert_eq!(waiting.is_none(), *due <= now + 1, "{key} is due at {due}, it is {now}");
        }
        assert_eq!(self.wheel.is_empty(), self.expected.is_empty());
    }
}

proptest! {
    #[test]
    fn everybody_is_woken_once_and_never_early(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
        world.wheel.advance(world.wheel.now() + 10 * SLOTS, &world.queue);
        world.settle();
        while let Some(key) = world.key(0) {
            world.step(Step::Remove(key as usize));
        }
        world.settle();
    }
}

#[test]
fn an_entry_is_small() {
    assert!(size_of::<Entry<std::task::Waker>>() <= 32);
}

#[test]
fn a_rush_is_not_paid_for_for_ever() {
    let (mut wheel, queue) = (Wheel::<u32>::new(0), SweepQueue::default());
    let keys: Vec<_> = (0..10_000).map(|number| wheel.insert(number)).collect();
    wheel.advance(5, &queue);
    keys.iter().for_each(|key| _ = wheel.remove(*key));
    assert!(!wheel.is_empty(), "the sweep has some of them still");
    queue.sweep(100, |key| {
        wheel.visit(*key);
        Verdict::Done
    });
    assert!(wheel.is_empty());
    assert!(wheel.entries.capacity() <= KEPT);
}
