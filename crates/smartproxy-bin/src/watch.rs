//! Noticing files that change on disk.
//!
//! Files are looked at, not subscribed to: that works for links that are swapped, for folders that are mounted anew and
//! on every file system, and half a second is soon enough.

use crate::reload::Reloader;
use proxy_route::{Action, Certificate, PemSource};
use proxy_tcp::Generation;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// What tells one state of a file from another: device, inode, length, and times of the last change in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    place: (u64, u64),
    length: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file that `path` leads to; `None` if there is none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let data = std::fs::metadata(path).ok()?;
        Some(Self {
            place: (data.dev(), data.ino()),
            length: data.len(),
            written: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}

/// How the files of a configuration looked before they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) config: Option<Stamp>,
    pub(crate) certificates: Vec<Option<Stamp>>,
}

/// Reloads what has changed on disk, for ever: certificates, and the configuration too if `config`.
pub(crate) async fn follow(reloader: Arc<Reloader>, config: bool) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = reloader.look();
    loop {
        tick.tick().await;
        let now = reloader.look();
        // A file that still changes is not complete, and a key may follow its certificate.
        if std::mem::replace(&mut last, now.clone()) != now {
            continue;
        }
        let reloader = Arc::clone(&reloader);
        let reloading = tokio::task::spawn_blocking(move || {
            let read = reloader.last_read();
            if config && now.config.is_some() && now.config != read.config {
                // What came of it is in the log.
                drop(reloader.reload());
            } else if now.certificates != read.certificates {
                reloader.reload_certificates();
            }
        });
        if reloading.await.is_err() {
            tracing::error!("a reload broke off");
        }
    }
}

/// The files with certificates, keys and roots of a configuration, in a fixed order.
pub(crate) fn certificate_files(generation: &Generation) -> Vec<PathBuf> {
    let routes = generation.table.routes();
    let certificates = routes.iter().filter_map(|route| route.certificate.as_ref());
    let pairs = certificates.chain(&generation.settings.tls.certificates).flat_map(files);
    let roots = routes.iter().filter_map(|route| match &route.action {
        Action::Forward(forward) => forward.backend_tls.ca.clone(),
        Action::Block | Action::Redirect(_) | Action::Respond(_) => None,
    });
    let clients = routes.iter().filter_map(|route| route.client_auth.as_ref().map(|auth| auth.ca.clone()));
    pairs.chain(roots).chain(clients).collect()
}

fn files(certificate: &Certificate) -> impl Iterator<Item = PathBuf> {
    [&certificate.chain, &certificate.key].into_iter().filter_map(|source| match source {
        PemSource::File(path) => Some(path.clone()),
        PemSource::Inline(_) => None,
    })
}

/// A change is acted on when the files look the same twice in a row.
const TICK: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swapped_link_is_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert_eq!(Stamp::of(&path("link")), None);
        std::fs::write(path("one"), "same").unwrap();
        std::fs::write(path("two"), "same").unwrap();
        std::os::unix::fs::symlink("one", path("link")).unwrap();
        let before = Stamp::of(&path("link"));
        assert_eq!(before, Stamp::of(&path("link")));
        std::os::unix::fs::symlink("two", path("next")).unwrap();
        std::fs::rename(path("next"), path("link")).unwrap();
        assert_ne!(before, Stamp::of(&path("link")));
    }
}
