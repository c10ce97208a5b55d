//! The thread that does everything which is not traffic: the admin endpoint, forgetting clients that are gone, checking the
//! health of backends, looking up their names and handing memory back.

use crate::allocator;
use crate::reload::Reloader;
use limits_core::Table;
use proxy_admin::Admin;
use proxy_http::check_health;
use proxy_tcp::{keep_resolved, system_lookup};
use std::io;
use std::sync::Arc;
use std::thread::Builder;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

/// The thread, which ends with the process.
#[derive(Debug)]
pub(crate) struct Control {
    /// Dropped to end the admin endpoint.
    serve: oneshot::Sender<()>,
    /// Ends when the admin endpoint has.
    served: oneshot::Receiver<()>,
}

impl Control {
    /// Ends the admin endpoint once it has answered what it was asked: also by the one who asked for the end.
    pub(crate) async fn end(self) {
        drop(self.serve);
        // Whatever is heard, nobody serves any more.
        _ = self.served.await;
    }
}

/// Starts the thread.
pub(crate) fn start(admin: Option<Admin>, table: Arc<Table>, reloader: &Reloader) -> io::Result<Control> {
    let ((serve, serving), (ended, served)) = (oneshot::channel::<()>(), oneshot::channel());
    let (generations, http) = reloader.follow();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Builder::new().name("control".to_owned()).spawn(move || {
        runtime.block_on(async move {
            if let Some(admin) = admin {
                tokio::spawn(async move {
                    if let Err(error) = admin.serve(async { _ = serving.await }).await {
                        tracing::error!("the admin endpoint ends: {error}");
                    }
                    drop(ended);
                });
            } else {
                drop(ended);
            }
            tokio::spawn(check_health(http));
            tokio::spawn(keep_resolved(generations, system_lookup));
            tokio::spawn(allocator::hand_back_of_c());
            forget(&table).await;
        });
    })?;
    Ok(Control { serve, served })
}

/// Walks the address table for ever, a bounded number of entries at a time.
async fn forget(table: &Table) {
    let mut tick = tokio::time::interval(EXPIRY_TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if table.expire(Instant::now(), EXPIRY_BUDGET).ended {
            // A table of few clients is walked in one tick, which takes thousands of locks to no avail.
            tick.reset_after(EXPIRY_REST);
        }
    }
}

/// How long the walk rests at the end of the table.
const EXPIRY_REST: Duration = Duration::from_secs(1);

/// Ten times a second …
const EXPIRY_TICK: Duration = Duration::from_millis(100);
/// … so many entries: a full table of four million is walked in about six seconds, one tick costs well under a
/// millisecond of processor time per ten thousand.
const EXPIRY_BUDGET: usize = 65_536;
