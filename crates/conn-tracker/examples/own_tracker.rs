//! A tracker of your own: one limit for the whole process, halved at night.
//!
//! `cargo run -p conn-tracker --example own_tracker`. Whatever takes an `Arc<dyn ConnectionTracker>` takes this one.

use conn_tracker::{Arrival, Binding, ConnectionTracker, Hold, Permit, Reason, Rejection, RequestHold, RouteId, Slots};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

/// Counts connections; knows no client, no route and no rate.
#[derive(Debug, Default)]
struct DayAndNight {
    open: AtomicU32,
    night: AtomicBool,
}

impl DayAndNight {
    const BY_DAY: u32 = 4;

    fn limit(&self) -> u32 {
        // Ordering: a decision that does not see the change yet was made before it.
        if self.night.load(Ordering::Relaxed) { Self::BY_DAY / 2 } else { Self::BY_DAY }
    }
}

impl ConnectionTracker for DayAndNight {
    fn open(&self, _now: Instant, _arrival: Arrival, hold: &mut Hold) -> Result<(), Rejection> {
        let limit = self.limit();
        // One step checks and takes, so two threads never get the last slot both. Ordering: as in a semaphore, what the
        // last holder of a slot did has happened for the next one.
        let take = |open| (open < limit).then_some(open + 1);
        let taken = self.open.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take);
        taken.map_err(|_| Rejection::full(Reason::GlobalLimit, limit))?;
        hold.fill(None, Slots::GLOBAL);
        Ok(())
    }

    fn identify(&self, _now: Instant, _hold: &mut Hold, _client: IpAddr) -> Result<(), Rejection> {
        Ok(())
    }

    fn bind(&self, _now: Instant, hold: &mut Hold, route: RouteId) -> Result<(), Rejection> {
        if !hold.is_bound(route) {
            hold.push(Binding::new(route, false, false));
        }
        Ok(())
    }

    fn unbind(&self, hold: &mut Hold, route: RouteId) {
        hold.take(route);
    }

    fn close(&self, hold: &mut Hold) {
        if hold.slots().has(Slots::GLOBAL) {
            self.open.fetch_sub(1, Ordering::Release);
        }
        hold.settle();
    }

    fn begin(
        &self,
        _now: Instant,
        _client: Option<IpAddr>,
        route: RouteId,
        hold: &mut RequestHold,
    ) -> Result<(), Rejection> {
        hold.fill(None, route, Slots::NONE);
        Ok(())
    }

    fn finish(&self, hold: &mut RequestHold) {
        hold.settle();
    }
}

fn main() {
    let own = Arc::new(DayAndNight::default());
    let tracker: Arc<dyn ConnectionTracker> = own.clone();
    let open = || Permit::open(&tracker, Instant::now(), Arrival::client(IpAddr::from([192, 0, 2, 1])));

    let mut permits: Vec<Permit> = std::iter::from_fn(|| open().ok()).collect();
    assert_eq!(permits.len(), 4);
    own.night.store(true, Ordering::Relaxed);
    permits.truncate(2);
    assert_eq!(open().map(drop), Err(Rejection::full(Reason::GlobalLimit, 2)), "the night is quieter");
    permits.pop();
    assert!(open().is_ok());
    println!("four by day, two at night");
}

#[test]
fn the_whole_example_runs() {
    main();
}
