//! A readable answer to what a limit refuses at accept, where everybody speaks plain HTTP.

use crate::{DrainWatch, Timers};
use conn_tracker::Rejection;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// In how many seconds a refused client is told to come back: `after` so long, if it is known when there is room again, at
/// least one, and spread, so that those refused together do not come back together.
#[must_use]
pub fn retry_after(after: Option<Duration>) -> u64 {
    let least = after.map_or(1, |after| after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1);
    least + RandomState::new().hash_one(least) % (1 + MOST_JITTER)
}

/// By how many seconds a refused client is told to come back later than it could.
const MOST_JITTER: u64 = 2;

/// The refused connections of a worker that linger to take their answer. They hold no slot.
#[derive(Debug, Default)]
pub(crate) struct Lingering(Arc<AtomicUsize>);

/// How many of them there may be.
const MOST_LINGERING: usize = 512;

impl Lingering {
    /// Leave for one more, until it drops; `None` when there are too many already.
    pub(crate) fn one_more(&self) -> Option<OneLingering> {
        // Ordering: the count stands for itself, no other memory is read because of it.
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let one = OneLingering(Arc::clone(&self.0));
        (before < MOST_LINGERING).then_some(one)
    }
}

/// One of those that linger.
#[derive(Debug)]
pub(crate) struct OneLingering(Arc<AtomicUsize>);

impl Drop for OneLingering {
    fn drop(&mut self) {
        // Ordering: see `Lingering::one_more`.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells a client why it is refused, and waits a moment for it to take note.
pub(crate) async fn respond(io: TcpStream, rejection: Rejection, timers: Timers, _held: (OneLingering, DrainWatch)) {
    // Whatever goes wrong, the connection ends.
    _ = timers.within(Some(PATIENCE), say(io, rejection)).await;
}

/// How long a refused client has to take its answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many bytes a refused client may send before it is cut off.
const MOST_READ: usize = 64 * 1024;

async fn say(mut io: TcpStream, rejection: Rejection) -> io::Result<()> {
    io.write_all(text(&rejection).as_bytes()).await?;
    io.shutdown().await?;
    // What the client has sent is read, or the close would be a reset that overtakes the answer.
    let mut read = 0;
    while read <= MOST_READ {
        io.readable().await?;
        match io.try_read(&mut [0; 4096]) {
            Ok(0) => return Ok(()),
            Ok(count) => read += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    io.set_zero_linger()
}

fn text(rejection: &Rejection) -> String {
    let status = if rejection.reason.is_clients_own() { "429 Too Many Requests" } else { "503 Service Unavailable" };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nretry-after: {}\r\n\
         connection: close\r\n\r\n{status}\n",
        status.len() + 1,
        retry_after(rejection.retry_after())
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use conn_tracker::Reason;

    #[test]
    fn refused_clients_are_told_when_to_come_back() {
        let seconds = |rejection: Rejection| {
            let text = text(&rejection);
            let (_, rest) = text.split_once("retry-after: ").unwrap();
            (text[9..12].to_owned(), rest.split('\r').next().unwrap().parse::<u64>().unwrap())
        };
        for (rejection, status, range) in [
            (Rejection::full(Reason::GlobalLimit, 3), "503", 1..=3),
            (Rejection::full(Reason::ClientLimit, 3), "429", 1..=3),
            (Rejection::too_fast(Reason::ClientRate, 3, Duration::from_millis(4200)), "429", 5..=7),
        ] {
            let (told, after) = seconds(rejection);
            assert_eq!(told, status);
            assert!(range.contains(&after), "{after} is not in {range:?}");
        }
    }

    #[test]
    fn so_many_linger_and_no_more() {
        let lingering = Lingering::default();
        let mut all: Vec<_> = (0..MOST_LINGERING).filter_map(|_| lingering.one_more()).collect();
        assert_eq!(all.len(), MOST_LINGERING);
        assert!(lingering.one_more().is_none());
        all.pop();
        assert!(lingering.one_more().is_some());
    }
}
