//! What a subscriber gets to see.

use log_dedup::{Dedup, Kind, Settings, ToTracing};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

/// Collects what a subscriber writes.
#[derive(Clone, Debug, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Paper {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Paper {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.0.lock().expect("no writer panics").clone())
            .expect("log lines are UTF-8")
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// Three events of one kind and one of another, then the end of the interval.
fn traffic(form: ToTracing) {
    let kinds = [
        Kind::new("refused", "refused", "connection", "connections"),
        Kind::new("tls_failed", "failed", "TLS handshake", "TLS handshakes").at(Level::INFO),
    ];
    let start = Instant::now();
    let dedup = Dedup::new(Settings::default(), &kinds, start, |_| Some("my shop\n".to_owned()), form);
    let source = "203.0.113.7".parse().ok();
    for _ in 0..3 {
        dedup.record(start, 0, "client_limit", Some(1), source);
    }
    dedup.record(start, 1, "handshake_failed", None, None);
    dedup.tick(start + Duration::from_secs(5));
}

#[test]
fn text_is_one_message_per_line() {
    let paper = Paper::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(paper.clone())
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .finish();
    tracing::subscriber::with_default(subscriber, || traffic(ToTracing::Message));
    assert_eq!(
        paper.lines(),
        [
            " WARN refused connection reason=client_limit route=my\\x20shop\\n source=203.0.113.7",
            " INFO failed TLS handshake reason=handshake_failed",
            " WARN refused 2 connections in 5.0s (0/s) clients≈1 reasons client_limit=2 routes my\\x20shop\\n=2 \
             top 203.0.113.7×2",
        ]
    );
}

#[test]
fn json_has_a_field_for_each_part() {
    let paper = Paper::default();
    let subscriber = tracing_subscriber::fmt().json().with_writer(paper.clone()).without_time().finish();
    tracing::subscriber::with_default(subscriber, || traffic(ToTracing::Fields));
    assert_eq!(
        paper.lines(),
        [
            r#"{"level":"WARN","fields":{"message":"refused connection","kind":"refused","reason":"client_limit","route":"my shop\n","source":"203.0.113.7"},"target":"log_dedup"}"#,
            r#"{"level":"INFO","fields":{"message":"failed TLS handshake","kind":"tls_failed","reason":"handshake_failed"},"target":"log_dedup"}"#,
            r#"{"level":"WARN","fields":{"message":"refused connections","kind":"refused","count":2,"seconds":5.0,"per_second":0,"clients":1,"reasons":"client_limit=2","routes":"my\\x20shop\\n=2","top":"203.0.113.7=2"},"target":"log_dedup"}"#,
        ]
    );
}
