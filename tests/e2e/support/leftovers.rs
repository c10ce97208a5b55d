//! Proof that nothing is left behind: slots, descriptors, sockets.

use super::{admin, eventually, proxy::Proxy};
use std::collections::HashSet;
use std::time::Duration;

/// How the process looked when nobody was connected.
pub(crate) struct Baseline {
    descriptors: Vec<String>,
}

impl Baseline {
    /// Looks at a proxy that has served nobody yet.
    pub(crate) async fn of(proxy: &Proxy) -> Self {
        let pid = proxy.pid();
        // The admin endpoint is asked once, so that whatever it opens for good is open; its connection ends by itself.
        let (status, _) = admin::get(proxy.admin, "/healthz");
        assert_eq!(status, 200);
        eventually("only listeners are open", Duration::from_secs(2), || no_connection(pid)).await;
        Self { descriptors: descriptors(pid) }
    }

    /// Within a hundred looks: every count is zero, the descriptors are back, no socket is open but listeners.
    pub(crate) async fn assert_restored(&self, proxy: &Proxy) {
        eventually("every count is zero", Duration::from_secs(2), || all_zero(proxy)).await;
        let pid = proxy.pid();
        eventually("only listeners are open", Duration::from_secs(2), || no_connection(pid)).await;
        eventually("the descriptors are back", Duration::from_secs(2), || {
            let now = descriptors(pid);
            let more = now.len().saturating_sub(self.descriptors.len());
            let new: Vec<_> = now.iter().filter(|one| !self.descriptors.contains(one)).collect();
            if more == 0 { Ok(()) } else { Err(format!("{more} more; new are {new:?}")) }
        })
        .await;
        assert_eq!(admin::limits(proxy.admin)["table"]["anomalies"].as_u64(), Some(0), "no slot was given back twice");
        assert!(!proxy.log().contains("panicked"), "nothing panicked:\n{}", proxy.log());
    }
}

fn all_zero(proxy: &Proxy) -> Result<(), String> {
    let limits = admin::limits(proxy.admin);
    for scope in limits["scopes"].as_array().expect("a list of scopes") {
        if scope["active"].as_u64() != Some(0) {
            return Err(scope.to_string());
        }
    }
    Ok(())
}

/// What each descriptor of the process is.
fn descriptors(pid: u32) -> Vec<String> {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives");
    let target = |entry: std::fs::DirEntry| Some(std::fs::read_link(entry.path()).ok()?.display().to_string());
    links.filter_map(|entry| target(entry.ok()?)).collect()
}

/// No TCP socket of the process is in another state than LISTEN.
fn no_connection(pid: u32) -> Result<(), String> {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives");
    let inodes: HashSet<String> = links
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    for table in ["tcp", "tcp6"] {
        let sockets = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).expect("the process lives");
        for line in sockets.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            if fields[3] != LISTEN && inodes.contains(fields[9]) {
                return Err(format!("{} -> {} is in state {}", fields[1], fields[2], fields[3]));
            }
        }
    }
    Ok(())
}

const LISTEN: &str = "0A";
