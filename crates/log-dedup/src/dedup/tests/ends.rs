//! The end of threads, of the guard and of everything.

use super::*;

#[test]
fn dropping_the_last_handle_writes_what_is_left() {
    let fixture = fixture(Settings::default());
    fixture.record(10);
    let Fixture { dedup, pages, .. } = fixture;
    let other = dedup.clone();
    drop(dedup);
    assert_eq!(pages.lines(), (1, 0, 0));
    drop(other);
    assert_eq!(pages.lines(), (1, 1, 0));
    assert_eq!(pages.events(), 10);
}

#[test]
fn after_the_guard_events_are_written_as_they_are() {
    let fixture = fixture(steady());
    let guard = Guard::ticking(&fixture.dedup).unwrap();
    fixture.record(10);
    drop(guard);
    assert_eq!(fixture.pages.lines(), (1, 1, 0));
    fixture.record(3);
    assert_eq!(fixture.pages.lines(), (4, 1, 0));
    let _guard = Guard::new(&fixture.dedup);
    fixture.record(3);
    assert_eq!((fixture.pages.lines(), fixture.pages.events()), ((4, 1, 0), 13), "another guard folds again");
}

/// `record` ends an overdue interval by itself; the clock it goes by has seconds.
#[test]
fn a_process_that_ends_without_the_guard_loses_what_came_since_the_last_line() {
    let fixture = fixture(steady());
    let guard = Guard::new(&fixture.dedup);
    for second in 0..17 {
        fixture.at(f64::from(second)).record(10).tick(f64::from(second));
    }
    assert_eq!(fixture.pages.lines(), (1, 3, 0));
    // An exit drops nothing: this is all there will be.
    assert_eq!(fixture.pages.events(), 160, "the line at 15 s has everything up to then");
    drop(guard);
    assert_eq!(fixture.pages.events(), 170);
}

#[test]
fn the_guard_ends_intervals_and_survives_a_sink_that_panics() {
    let pages = Pages::default();
    pages.failing.store(1, Ordering::SeqCst);
    let quick = folding(Folding { interval: Duration::from_millis(5), ..Folding::default() });
    let dedup = Dedup::builder().settings(quick).kind(Kind::new("refused")).sink(pages.clone()).build();
    let guard = Guard::ticking(&dedup).unwrap();
    for _ in 0..10 {
        dedup.record(REFUSED, "client_limit", None, None);
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while pages.lines().1 == 0 {
        assert!(Instant::now() < deadline, "no summary was written");
        thread::yield_now();
    }
    drop(guard);
    assert_eq!(pages.failing.load(Ordering::SeqCst), 0);
    assert_eq!(pages.events(), 10, "what could not be written is in the next line");
}

#[test]
fn threads_that_panic_or_end_leave_their_counts_and_no_memory() {
    let Fixture { dedup, pages, .. } = fixture(steady());
    for round in 1..=20_u64 {
        let ending = dedup.clone();
        let thread = thread::spawn(move || {
            for _ in 0..100 {
                ending.record(REFUSED, "client_limit", Some(1), "203.0.113.7".parse().ok());
            }
            assert!(round % 2 == 0, "on purpose");
        });
        assert_eq!(thread.join().is_err(), round % 2 == 1);
        dedup.flush();
        assert_eq!(pages.events(), round * 100);
        assert_eq!(dedup.core.books.lock().cells(), 0, "the cell is gone");
    }
    assert_eq!(dedup.totals(REFUSED).recorded(), 2000);
}

/// A thread-local that is dropped after the thread's cell records under the shared one.
#[test]
fn the_end_of_a_thread_may_record() {
    struct Last(Dedup);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.record(REFUSED, "late", None, None);
        }
    }
    thread_local! {
        static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
    }
    let Fixture { dedup, pages, .. } = fixture(steady());
    for recorded_before in [false, true] {
        let handle = dedup.clone();
        let thread = thread::spawn(move || {
            if recorded_before {
                handle.record(REFUSED, "early", None, None);
            }
            LAST.with_borrow_mut(|last| *last = Some(Last(handle.clone())));
            if !recorded_before {
                handle.record(REFUSED, "early", None, None);
            }
        });
        thread.join().unwrap();
    }
    dedup.flush();
    assert_eq!(pages.events(), 4);
}

/// Threads record while the guard drops: what they record afterwards is written as it is.
#[test]
fn nothing_is_lost_while_the_guard_drops() {
    for _ in 0..200 {
        let Fixture { dedup, pages, .. } = fixture(steady());
        let guard = Guard::new(&dedup);
        let barrier = Barrier::new(3);
        let recorded = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    barrier.wait();
                    for _ in 0..200 {
                        dedup.record(REFUSED, "client_limit", None, None);
                        recorded.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            barrier.wait();
            while recorded.load(Ordering::SeqCst) < 50 {
                std::hint::spin_loop();
            }
            drop(guard);
        });
        assert_eq!(pages.events(), 400, "without another flush");
    }
}
