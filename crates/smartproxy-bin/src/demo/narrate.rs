//! Telling what happens while it happens.

use crate::status::ProxyStatus;
use conn_tracker::{Inspect, Scope, Snapshot};
use std::sync::Arc;
use std::time::Duration;

/// Prints a line whenever a count has changed, for ever.
pub(super) async fn narrate(status: Arc<ProxyStatus>) {
    let mut last = line(&status, &status.table.snapshot());
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tick.tick().await;
        let now = line(&status, &status.table.snapshot());
        if now != last {
            println!("{now}");
            last = now;
        }
    }
}

/// The counts that a visitor can change by hand.
fn line(status: &ProxyStatus, snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for state in &snapshot.scopes {
        let name = match (state.scope, state.route) {
            (Scope::Global, _) => "open".to_owned(),
            (Scope::Route, Some(id)) => proxy_admin::Status::route_name(status, id).unwrap_or_else(|| id.to_string()),
            _ => continue,
        };
        text += &format!("{name} {:<3} ", state.active);
    }
    let refused = snapshot.scopes.iter().flat_map(|state| &state.refused);
    for (reason, count) in refused {
        text += &format!(" refused by {reason}: {count}");
    }
    text.trim_end().to_owned()
}

/// How often the counts are looked at.
const LOOK: Duration = Duration::from_millis(250);
