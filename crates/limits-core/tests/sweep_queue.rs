//! The sweep queue while entries come, are touched, go and fail during a pass: nothing is lost, nothing is handled twice.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use limits_core::{SweepQueue, Verdict};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

/// Something that happens to entries, between two batches or from within a visit.
#[derive(Clone, Copy, Debug)]
enum Change {
    Add,
    /// The so many-th entry is needed for longer.
    Touch(usize),
    /// The so many-th entry goes by itself.
    Remove(usize),
}

/// What happens while one entry is visited.
#[derive(Clone, Debug, Default)]
struct Visit {
    changes: Vec<Change>,
    panics: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Between(Change),
    /// A batch of so many.
    Sweep(usize),
    Time(u64),
}

/// Entries with the time until which they are needed. The queue has the key of each, the truth is here.
#[derive(Debug, Default)]
struct World {
    until: BTreeMap<u32, u64>,
    now: u64,
    next: u32,
    /// Those that a visit found to be over.
    swept: BTreeSet<u32>,
    /// Those that went by themselves.
    removed: BTreeSet<u32>,
    /// Those visited in the pass under way.
    visited: BTreeSet<u32>,
    /// Those that were there when it began.
    snapshot: BTreeSet<u32>,
}

impl World {
    fn change(&mut self, queue: &SweepQueue<u32>, change: Change) {
        let nth = |which: usize| self.until.keys().nth(which % self.until.len().max(1)).copied();
        match change {
            Change::Add => {
                let key = self.next;
                self.next += 1;
                self.until.insert(key, self.now + 3);
                queue.push(key);
            }
            Change::Touch(which) => {
                if let Some(key) = nth(which) {
                    self.until.insert(key, self.now + 3);
                }
            }
            Change::Remove(which) => {
                if let Some(key) = nth(which) {
                    self.until.remove(&key);
                    self.removed.insert(key);
                }
            }
        }
    }

    fn look(&mut self, key: u32) -> Verdict {
        match self.until.get(&key) {
            None => Verdict::Done,
            Some(until) if *until > self.now => Verdict::Later,
            Some(_) => {
                self.until.remove(&key);
                assert!(self.swept.insert(key), "{key} is swept twice");
                Verdict::Done
            }
        }
    }
}

/// One batch; whether it ended in a panic.
fn sweep(queue: &SweepQueue<u32>, world: &Mutex<World>, batch: usize, mut visits: impl Iterator<Item = Visit>) -> bool {
    let visit = |key: &mut u32| {
        let visit = visits.next().unwrap_or_default();
        let mut world = world.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        assert!(world.visited.insert(*key), "{key} is visited twice in a pass");
        assert!(world.snapshot.contains(key), "{key} came after the pass had begun");
        for change in visit.changes {
            world.change(queue, change);
        }
        if visit.panics {
            std::panic::resume_unwind(Box::new("told to"));
        }
        world.look(*key)
    };
    let failed = match catch_unwind(AssertUnwindSafe(|| queue.sweep(batch, visit))) {
        Ok(swept) => {
            assert!(swept.visited <= batch);
            assert!(swept.visited == batch || swept.left == 0, "a batch is full, or the pass over");
            false
        }
        // A failed assertion is one of the test's own.
        Err(panic) if panic.downcast_ref() != Some(&"told to") => std::panic::resume_unwind(panic),
        Err(_) => true,
    };
    let mut world = world.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if world.visited.len() == world.snapshot.len() {
        world.visited.clear();
        world.snapshot.clear();
    }
    failed
}

/// Notes what the pass that is about to begin is about, unless one is under way.
fn begin(world: &Mutex<World>, waiting: &BTreeSet<u32>) {
    let mut world = world.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if world.snapshot.is_empty() {
        world.snapshot.clone_from(waiting);
    }
}

/// What waits in the queue, which it has afterwards as before. Only between two passes.
fn waiting(queue: &SweepQueue<u32>) -> BTreeSet<u32> {
    let mut keys = BTreeSet::new();
    while queue
        .sweep(usize::MAX, |key| {
            assert!(keys.insert(*key), "{key} is there twice");
            Verdict::Later
        })
        .left
        > 0
    {}
    keys
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![Just(Change::Add), any::<usize>().prop_map(Change::Touch), any::<usize>().prop_map(Change::Remove)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => changes().prop_map(Step::Between),
        4 => (0_usize..7).prop_map(Step::Sweep),
        1 => (0_u64..3).prop_map(Step::Time),
    ];
    prop::collection::vec(step, 0..150)
}

fn visits() -> impl Strategy<Value = Vec<Visit>> {
    let visit = (prop::collection::vec(changes(), 0..4), prop::bool::weighted(0.2))
        .prop_map(|(changes, panics)| Visit { changes, panics });
    prop::collection::vec(visit, 0..150)
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_is_handled_twice(steps in steps(), visits in visits()) {
        let (queue, world) = (SweepQueue::default(), Mutex::new(World::default()));
        let mut visits = visits.into_iter();
        for step in steps {
            match step {
                Step::Between(change) => world.lock().unwrap().change(&queue, change),
                Step::Time(passed) => world.lock().unwrap().now += passed,
                Step::Sweep(batch) => {
                    if world.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).snapshot.is_empty() {
                        begin(&world, &waiting(&queue));
                    }
                    sweep(&queue, &world, batch, visits.by_ref());
                    world.clear_poison();
                }
            }
        }
        // Whatever has failed: the pass under way comes to its end, and the next one finds everything that is over.
        while !world.lock().unwrap().snapshot.is_empty() {
            assert!(!sweep(&queue, &world, 5, std::iter::empty()));
        }
        world.lock().unwrap().now += 3;
        begin(&world, &waiting(&queue));
        while !world.lock().unwrap().snapshot.is_empty() {
            assert!(!sweep(&queue, &world, 5, std::iter::empty()));
        }
        let world = world.into_inner().unwrap();
        assert!(queue.is_empty() && world.until.is_empty(), "left: {:?}", world.until);
        assert!(world.swept.is_disjoint(&world.removed), "swept though it was gone");
        assert_eq!(world.swept.len() + world.removed.len(), world.next as usize, "every entry has ended once");
    }
}

#[test]
fn five_hundred_entries_go_in_batches_of_a_hundred() {
    let queue = SweepQueue::from_iter(0..500_u32);
    let mut handled = BTreeSet::new();
    for batch in 1..=5 {
        let swept = queue.sweep(100, |entry| {
            assert!(handled.insert(*entry), "{entry} twice");
            // One that comes while they are handled, for each of them.
            queue.push(*entry + 1000);
            Verdict::Done
        });
        assert_eq!((swept.visited, swept.left), (100, 500 - batch * 100));
    }
    assert_eq!(handled.len(), 500);
    assert_eq!(queue.len(), 500, "those that came wait for the next pass");
    let mut later = BTreeSet::new();
    assert_eq!(
        queue.sweep(1000, |entry| if later.insert(*entry) { Verdict::Done } else { Verdict::Later }).visited,
        500
    );
    assert_eq!(later, (1000..1500).collect());
    assert!(queue.is_empty());
}

#[test]
fn a_queue_whose_visits_always_fail_still_goes_on() {
    let queue = SweepQueue::from_iter([1, 2, 3]);
    let mut seen = Vec::new();
    for _ in 0..6 {
        let sweep = || {
            queue.sweep(10, |entry| {
                seen.push(*entry);
                if *entry == 2 { std::panic::resume_unwind(Box::new(())) } else { Verdict::Later }
            })
        };
        _ = catch_unwind(AssertUnwindSafe(sweep));
    }
    assert_eq!(queue.len(), 3);
    for entry in [1, 2, 3] {
        assert!(seen.iter().filter(|seen| **seen == entry).count() >= 3, "{entry} in {seen:?}");
    }
}

#[test]
fn two_threads_share_a_pass() {
    let queue = SweepQueue::from_iter(0..10_000_u32);
    let handled = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while queue
                    .sweep(7, |entry| {
                        assert!(handled.lock().unwrap().insert(*entry), "{entry} twice");
                        Verdict::Done
                    })
                    .left
                    > 0
                {}
            });
        }
        scope.spawn(|| (10_000..11_000).for_each(|entry| queue.push(entry)));
    });
    queue.sweep(usize::MAX, |entry| {
        handled.lock().unwrap().insert(*entry);
        Verdict::Done
    });
    assert_eq!(handled.into_inner().unwrap(), (0..11_000).collect());
}
