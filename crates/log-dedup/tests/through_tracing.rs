//! What a subscriber gets to see.

use log_dedup::{Clock, Dedup, Folding, Kind, Settings, Source, ToTracing};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, LevelFilter};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};

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
        let bytes = self.0.lock().expect("no writer panics").clone();
        String::from_utf8(bytes).expect("log lines are UTF-8").lines().map(str::to_owned).collect()
    }
}

/// Stands where it is put, in milliseconds.
#[derive(Clone, Debug, Default)]
struct Hand(Arc<Mutex<u64>>);

impl Clock for Hand {
    fn now(&self) -> Duration {
        Duration::from_millis(*self.0.lock().expect("nobody panics"))
    }

    fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000) + self.now()
    }
}

impl Hand {
    fn put(&self, millis: u64) {
        *self.0.lock().expect("nobody panics") = millis;
    }
}

/// Three events of one kind and one of another, the end of the interval, and one more.
fn traffic(form: ToTracing) {
    let kind = Kind::new("refused").reads("refused", "connection", "connections").gauge("active", || 1000);
    let other = Kind::new("tls_failed").reads("failed", "TLS handshake", "TLS handshakes").at(Level::INFO);
    let hand = Hand::default();
    let dedup = Dedup::builder()
        .kinds([kind, other])
        .routes(|_| Some("my shop\n".to_owned()))
        .sink(form)
        .clock(hand.clone())
        .build();
    let source = "203.0.113.7".parse().ok();
    for millis in [0, 1000, 4000] {
        hand.put(millis);
        dedup.record(0, "client_limit", Some(1), source);
    }
    dedup.record(1, "handshake_failed", None, None);
    for seconds in [5, 10, 15] {
        hand.put(seconds * 1000);
        dedup.tick();
    }
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
            " WARN refused 2 connections in 5.0s (0.4/s) active=1 000 clients≈1 reasons client_limit=2 \
             routes my\\x20shop\\n=2 top 203.0.113.7×2 from 14:13:21.000 to 14:13:24.000",
            " WARN refused connections: stopped after 4.0s, 3 in total",
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
            r#"{"level":"WARN","fields":{"message":"refused connections","kind":"refused","count":2,"seconds":5.0,"per_second":0.4,"first":"2026-09-21T14:13:21.000Z","last":"2026-09-21T14:13:24.000Z","gauge":"active=1000","clients":1,"reasons":"client_limit=2","routes":"my\\x20shop\\n=2","top":"203.0.113.7=2..2"},"target":"log_dedup"}"#,
            r#"{"level":"WARN","fields":{"message":"refused connections: stopped","kind":"refused","stopped_after_seconds":4.0,"total":3},"target":"log_dedup"}"#,
        ]
    );
}

/// Runs `program` under a subscriber that writes text, filtered by `level` and folding.
fn folded(dedup: &Dedup, level: &str, program: impl FnOnce()) -> Vec<String> {
    let paper = Paper::default();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(paper.clone())
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_filter(EnvFilter::builder().parse(level).expect("a filter").and(dedup.filter()));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), program);
    paper.lines()
}

/// Lines come when the test asks for them.
fn patient() -> Settings {
    let folding = Folding { interval: Duration::from_secs(3600), ..Folding::default() };
    Settings { folding, ..Settings::default() }
}

fn login() -> Kind {
    Kind::new("login").reads("failed", "login", "logins")
}

#[test]
fn events_that_name_a_kind_are_folded_and_all_others_pass_untouched_and_in_order() {
    let dedup = Dedup::builder().settings(patient()).kind(login()).clock(Hand::default()).build();
    let lines = folded(&dedup, "info", || {
        for step in 0..4 {
            tracing::info!(step, "before");
            let source = std::net::SocketAddr::from(([203, 0, 113, 7], 1000 + step));
            tracing::warn!(fold = "login", reason = "password", route = "shop", %source, "no login for {:?}", "eve\n");
            tracing::info!(step, "after");
        }
        tracing::warn!(fold = "login", reason = %"locked out", route = 7, source = ?std::net::Ipv6Addr::LOCALHOST, "no");
        tracing::warn!(fold = "login", source = "not an address", "no reason");
        let client = Source(std::net::IpAddr::from([203, 0, 113, 7]));
        tracing::warn!(fold = "login", reason = "password", source = client.field(), "no");
        tracing::debug!(fold = "login", "below the level");
        dedup.flush();
    });
    let mut expected = vec![
        " INFO before step=0".to_owned(),
        " WARN no login for \"eve\\n\" fold=\"login\" reason=\"password\" route=\"shop\" source=203.0.113.7:1000"
            .to_owned(),
        " INFO after step=0".to_owned(),
    ];
    for step in 1..4 {
        expected.extend([format!(" INFO before step={step}"), format!(" INFO after step={step}")]);
    }
    expected.push(
        " WARN failed 6 logins in 0.0s (6 000 000/s) clients≈3 reasons password=4 locked\\x20out=1 through_tracing=1 \
         routes shop=3 #7=1 top 203.0.113.7×4 ::1×1 (+others) from 14:13:20.000 to 14:13:20.000"
            .to_owned(),
    );
    assert_eq!(lines, expected);
}

#[test]
fn a_kind_that_nobody_declared_folds_too_and_kinds_are_bounded() {
    let dedup = Dedup::builder().settings(patient()).kind(login()).clock(Hand::default()).build();
    let lines = folded(&dedup, "info", || {
        for kind in 0..200 {
            for _ in 0..3 {
                tracing::warn!(fold = format!("kind{kind}"), "it happened");
            }
        }
        dedup.flush();
    });
    let kinds = dedup.kinds();
    assert_eq!((kinds.len(), kinds[1].0.name(), kinds[63].0.name()), (64, "kind0", "other"));
    assert_eq!(kinds.iter().map(|(_, totals)| totals.recorded()).sum::<u64>(), 600);
    assert_eq!(kinds[63].1.recorded(), 600 - 62 * 3);
    assert_eq!(lines.len(), 63 + 63);
    assert!(lines.contains(&" WARN other 413 events in 0.0s (413 000 000/s) reasons through_tracing=413 from 14:13:20.000 to 14:13:20.000".to_owned()), "{lines:?}");
}

#[test]
fn events_of_a_library_are_folded_by_their_target() {
    let dedup = Dedup::builder()
        .settings(patient())
        .fold_target("library", Kind::new("library"))
        .kind(login())
        .clock(Hand::default())
        .build();
    let lines = folded(&dedup, "info", || {
        for step in 0..3 {
            tracing::warn!(target: "library", step, "careful");
            tracing::warn!(target: "library::part", step, "careful");
            tracing::warn!(target: "library_of_others", step, "careful");
            tracing::warn!(target: "library", fold = "login", step, "no");
        }
        dedup.flush();
    });
    let kinds: Vec<_> = dedup.kinds().iter().map(|(_, totals)| totals.recorded()).collect();
    assert_eq!(kinds, [6, 3]);
    assert_eq!(lines.len(), 1 + 3 + 1 + 2, "{lines:?}");
    assert!(
        lines[5].contains("library 5 events") && lines[5].contains("reasons library::part=3 library=2"),
        "{lines:?}"
    );
}

#[test]
fn events_of_several_libraries_are_of_one_kind_and_name_where_they_are_from() {
    let dedup = Dedup::builder()
        .settings(patient())
        .kind(login())
        .fold_targets(["log", "h2", "hyper"], Kind::new("library").reads("library", "message", "messages"))
        .kind(Kind::new("after"))
        .clock(Hand::default())
        .build();
    let lines = folded(&dedup, "info", || {
        for _ in 0..2 {
            tracing::warn!(target: "hyper", "careful");
            tracing::warn!(target: "h2::codec", reason = "protocol", "careful");
            tracing::warn!(target: "log", { "log.target" = "rustls::conn" }, "careful");
            tracing::warn!(fold = "after", "kinds that come later keep their place");
        }
        dedup.flush();
    });
    let recorded: Vec<_> =
        dedup.kinds().iter().map(|(kind, totals)| (kind.name().to_owned(), totals.recorded())).collect();
    assert_eq!(recorded, [("login", 0), ("library", 6), ("after", 2)].map(|(name, count)| (name.to_owned(), count)));
    assert_eq!(lines.len(), 2 + 2, "{lines:?}");
    assert!(lines[2].contains("library 5 messages in 0.0s"), "{lines:?}");
    assert!(lines[2].contains("reasons protocol=2 rustls::conn=2 hyper=1 from"), "{lines:?}");
}

#[test]
fn other_layers_see_every_event() {
    let (dedup, every) = (Dedup::builder().kind(login()).build(), Paper::default());
    let all =
        tracing_subscriber::fmt::layer().with_writer(every.clone()).with_ansi(false).with_filter(LevelFilter::INFO);
    let folded = tracing_subscriber::fmt::layer().with_writer(io::sink).with_filter(dedup.filter());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(folded).with(all), || {
        for _ in 0..10 {
            let client = Source(std::net::IpAddr::from([203, 0, 113, 7]));
            tracing::warn!(fold = "login", source = client.field(), "no");
        }
    });
    assert_eq!((every.lines().len(), dedup.folded()), (10, 9));
    assert!(every.lines()[9].ends_with("no fold=\"login\" source=203.0.113.7"), "{:?}", every.lines());
}

#[test]
fn names_are_cut_and_never_break_a_line() {
    let dedup = Dedup::builder().settings(patient()).kind(login()).clock(Hand::default()).build();
    let lines = folded(&dedup, "info", || {
        for _ in 0..2 {
            let (long, forged) = ("é".repeat(100), "shop\n WARN ready\u{1b}[2J");
            tracing::warn!(fold = "login", reason = long, route = forged, "no");
        }
        dedup.flush();
    });
    let cut = "é".repeat(32);
    assert!(
        lines
            .last()
            .expect("a summary")
            .contains(&format!("{cut}=1 routes shop\\n\\x20WARN\\x20ready\\u{{1b}}[2J=1 from")),
        "{lines:?}"
    );
}
