//! Timers on a runtime whose clock is the test's.

use super::*;
use std::sync::atomic::AtomicUsize;
use tokio::time::advance;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test(start_paused = true)]
async fn never_early_and_late_by_a_tick() {
    let timers = Timers::new();
    for time in [0, 1, 99, 100, 101, 250, 15_000, 102_400, 14_400_000].map(millis) {
        let begun = Instant::now();
        timers.after(Some(time)).await;
        let took = begun.elapsed();
        assert!(took >= time && took <= time + TICK + millis(1), "{time:?} took {took:?}");
        // Not in step with the ticks.
        advance(millis(37)).await;
    }
    assert!(timers.0.wheel.lock().wheel.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_timer_is_moved_and_stays_ready() {
    let timers = Timers::new();
    let begun = Instant::now();
    let mut timer = timers.after(None);
    for (time, expected) in
        [(Some(millis(500)), true), (None, false), (Some(millis(2000)), true), (Some(millis(0)), true)]
    {
        timer.set(time);
        let ready = tokio::time::timeout(Duration::from_secs(60), &mut timer).await;
        assert_eq!(ready.is_ok(), expected, "{time:?}");
    }
    (&mut timer).await;
    (&mut timer).await;
    assert!(begun.elapsed() < Duration::from_secs(64));
    // Forth and back while it is waited for.
    timer.set(Some(Duration::from_secs(3600)));
    let begun = Instant::now();
    tokio::select! {
        () = &mut timer => panic!("too early"),
        () = tokio::time::sleep(millis(300)) => timer.set(Some(millis(300))),
    }
    timer.await;
    assert!((millis(600)..millis(800)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_in_time_is_given_and_what_is_not_is_dropped() {
    let timers = Timers::new();
    let after = |time| async move {
        tokio::time::sleep(time).await;
        7
    };
    assert_eq!(timers.within(Some(millis(500)), after(millis(400))).await, Ok(7));
    assert_eq!(timers.within(None, after(millis(400_000))).await, Ok(7));
    assert_eq!(timers.within(Some(millis(500)), after(millis(900))).await, Err(TimedOut));
    assert_eq!(timers.until(Some(Instant::now()), after(millis(1))).await, Err(TimedOut));
    assert_eq!(timers.until(Some(Instant::now()), std::future::ready(7)).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn touches_are_ticks() {
    let timers = Timers::new();
    let keep = timers.after(Some(Duration::from_secs(3600)));
    advance(millis(1050)).await;
    tokio::task::yield_now().await;
    let touched = timers.tick();
    assert_eq!(touched, Tick(10));
    let mut timer = timers.at(None);
    let begun = Instant::now();
    timer.set_tick(touched.after(millis(1000)));
    (&mut timer).await;
    assert!((millis(1000)..millis(1200)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(touched.after(Duration::MAX), None);
    drop(keep);
}

#[tokio::test]
async fn many_at_once_leave_others_their_turn() {
    let timers = Timers::new();
    let woken = Arc::new(AtomicUsize::new(0));
    let (mut all, due) = (tokio::task::JoinSet::new(), Instant::now() + millis(150));
    for _ in 0..500 {
        let (mut timer, woken) = (timers.at(Some(due)), Arc::clone(&woken));
        all.spawn(async move {
            (&mut timer).await;
            woken.fetch_add(1, Ordering::Relaxed);
        });
    }
    let mut seen = Vec::new();
    loop {
        let now = woken.load(Ordering::Relaxed);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        if now == 500 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(seen.len() >= 5 && seen.windows(2).all(|pair| pair[1] - pair[0] <= 100), "{seen:?}");
}

#[tokio::test]
async fn the_wheel_goes_on_after_somebody_elses_waker_has_failed() {
    struct Fails;
    impl std::task::Wake for Fails {
        fn wake(self: Arc<Self>) {
            panic!("told to");
        }
    }
    let timers = Timers::new();
    let mut failing = timers.after(Some(millis(1)));
    let waker = Waker::from(Arc::new(Fails));
    assert!(failing.poll(&std::task::Context::from_waker(&waker)).is_pending());
    let others = (0..10).map(|_| timers.after(Some(millis(1)))).collect::<Vec<_>>();
    let later = timers.after(Some(millis(400)));
    let waiting = async {
        for other in others {
            other.await;
        }
        later.await;
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("they are woken");
    assert!(timers.0.due.is_empty());
}

#[test]
fn a_wheel_outlives_its_runtime() {
    let timers = Timers::new();
    let wait = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(timers.within(Some(millis(120)), std::future::pending::<()>()))
    };
    let kept = {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        timers.after(Some(millis(50)))
    };
    assert_eq!(wait(), Err(TimedOut));
    assert_eq!(wait(), Err(TimedOut));
    drop(kept);
}

#[test]
fn a_timer_is_small() {
    assert_eq!(size_of::<Timer>(), 16);
}
