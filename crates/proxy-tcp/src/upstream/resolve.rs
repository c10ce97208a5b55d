//! Looking the names of backends up again, away from those who dial.

use super::Backend;
use crate::Generation;
use proxy_route::Host;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Asks the system, on a thread of the runtime's that is for waiting.
///
/// # Errors
/// What the system says.
pub async fn system_lookup(name: String) -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for address in tokio::net::lookup_host((name, 0)).await? {
        if !addresses.contains(&address.ip()) {
            addresses.push(address.ip());
        }
    }
    Ok(addresses)
}

/// Looks up the names of all backends of the newest configuration, at once and then at its interval, for ever. A name that
/// is not found keeps the addresses that it had. One per process is enough.
///
/// `lookup` is [`system_lookup`], or another way to find addresses that does not block the thread; it is asked for 16 names
/// at a time at most.
pub async fn keep_resolved<L, A>(mut newest: watch::Receiver<Arc<Generation>>, lookup: L)
where
    L: Fn(String) -> A,
    A: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
{
    loop {
        let generation = Arc::clone(&newest.borrow_and_update());
        round(&generation, &lookup).await;
        let refresh = generation.settings.dns_refresh;
        drop(generation);
        let pause = async {
            match refresh {
                Some(interval) => tokio::time::sleep(jittered(interval)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = pause => {}
            changed = newest.changed() => if changed.is_err() { return },
        }
    }
}

/// Looks every name up once.
async fn round<L, A>(generation: &Generation, lookup: &L)
where
    L: Fn(String) -> A,
    A: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
{
    let mut names: BTreeMap<&str, Vec<Arc<Backend>>> = BTreeMap::new();
    for backend in generation.clusters.iter().flatten().flat_map(|cluster| cluster.backends()) {
        if let Host::Name(name) = &backend.host {
            names.entry(name).or_default().push(Arc::clone(backend));
        }
    }
    let mut asking = JoinSet::new();
    for (name, backends) in names {
        if asking.len() >= AT_ONCE {
            asking.join_next().await;
        }
        let (name, answer) = (name.to_owned(), lookup(name.to_owned()));
        asking.spawn(async move {
            let answer = tokio::time::timeout(PATIENCE, answer).await;
            let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            learn(&name, &backends, answer);
        });
    }
    while asking.join_next().await.is_some() {}
}

fn learn(name: &str, backends: &[Arc<Backend>], answer: io::Result<Vec<IpAddr>>) {
    let now = Instant::now();
    let found = answer.as_deref().unwrap_or_default();
    let news = backends.iter().filter(|backend| backend.addresses.learn(found, now)).count();
    if news == 0 {
        return;
    }
    match answer {
        Ok(found) if !found.is_empty() => tracing::debug!(name, ?found, "the name of a backend was looked up"),
        Ok(_) => tracing::warn!(name, "the name of a backend has no address; the last known ones are used"),
        Err(error) => {
            tracing::warn!(name, %error, "the name of a backend was not found; the last known addresses are used");
        }
    }
}

/// Between nine and eleven tenths of it, so that many proxies do not ask at one time.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * crate::chance())
}

/// Names asked for at one time.
const AT_ONCE: usize = 16;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
