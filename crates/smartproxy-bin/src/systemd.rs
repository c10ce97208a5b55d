//! What a service manager wants to know, and what it hands over.

use sd_notify::NotifyState;
use std::net::TcpListener;

/// Everything is open.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A new configuration is being put in force; [`ready`] follows in any case.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the service manager is not told of the reload"),
    }
}

/// The drain begins.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Gives signs of life for as long as the process lives, if they are wanted: two per period, so that one may be late.
pub(crate) async fn watchdog() {
    let Some(period) = sd_notify::watchdog_enabled().filter(|period| !period.is_zero()) else { return };
    let mut tick = tokio::time::interval(period / 2);
    loop {
        tick.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

/// The sockets of `LISTEN_FDS`. What is no TCP listener is left alone, and said.
pub(crate) fn sockets() -> Vec<TcpListener> {
    let mut handed = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for place in 0..handed.len() {
        match handed.take_tcp_listener(place) {
            Ok(socket) => sockets.extend(socket),
            Err(error) => tracing::warn!("socket {place} of LISTEN_FDS is not used: {error}"),
        }
    }
    sockets
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}
