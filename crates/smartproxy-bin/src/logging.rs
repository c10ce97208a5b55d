//! Where log lines go, and how events become lines.

use conn_tracker::{EventKind, Inspect, Scope};
use limits_core::Table;
use log_dedup::{Dedup, Folding, Kind, Settings, ToTracing};
use proxy_route::{LogFolding, LogFormat, LogSettings};
use std::fmt::{self, Debug, Write as _};
use std::io::IsTerminal;
use std::sync::{Arc, OnceLock};
use tracing::Level;
use tracing::field::Field;
use tracing_subscriber::filter::{FilterExt, ParseError};
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, fmt as lines};

/// The log of the process.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) dedup: Dedup,
    table: Arc<OnceLock<Arc<Table>>>,
}

impl Log {
    /// A log whose lines can name no route yet, and that nothing is written to unless it is the process's.
    pub(crate) fn new(settings: &LogSettings) -> Self {
        let table = Arc::new(OnceLock::<Arc<Table>>::new());
        let (names, counts) = (Arc::clone(&table), Arc::clone(&table));
        let name = move |route| Some(names.get()?.route_key(conn_tracker::RouteId::new(route)?)?.to_owned());
        let active = move || counts.get().map_or(0, |table| active(table));
        let dedup = Dedup::builder()
            .settings(general(settings))
            .kinds(kinds(settings, Arc::new(active)))
            // What a peer sends can make them warn each time. `log` are those that speak through the crate of that name.
            .fold_targets(
                ["log", "h2", "hyper"],
                of_kind(Kind::new(LogSettings::LIBRARY).reads("library", "message", "messages"), settings),
            )
            .routes(name)
            .sink(match settings.format {
                LogFormat::Json => ToTracing::Fields,
                LogFormat::Text => ToTracing::Message,
            })
            .build();
        Self { dedup, table }
    }

    /// Sends the lines of the process to standard error, in the format and from the level that are set.
    ///
    /// # Errors
    /// A level that is no filter, or a second log.
    pub(crate) fn start(settings: &LogSettings) -> Result<Self, LogError> {
        let log = Self::new(settings);
        let level = EnvFilter::builder().parse(&settings.level).map_err(LogError::Level)?;
        let filter = level.and(log.dedup.filter());
        let output = lines::layer().with_writer(std::io::stderr);
        let registry = tracing_subscriber::registry();
        match settings.format {
            LogFormat::Json => {
                let output = output.json().flatten_event(true).with_current_span(false);
                registry.with(output.with_filter(filter)).try_init()
            }
            LogFormat::Text => {
                let output = output.with_ansi(std::io::stderr().is_terminal()).with_target(false);
                registry.with(output.fmt_fields(debug_fn(write_field)).with_filter(filter)).try_init()
            }
        }
        .map_err(LogError::Second)?;
        Ok(log)
    }

    /// Says who knows the names of routes and the number of connections.
    pub(crate) fn know(&self, table: &Arc<Table>) {
        self.table.get_or_init(|| Arc::clone(table));
    }
}

/// Why there is no log.
#[derive(Debug)]
pub(crate) enum LogError {
    Level(ParseError),
    Second(TryInitError),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Level(error) => write!(f, "logging.level: {error}"),
            Self::Second(error) => write!(f, "the log cannot be set up: {error}"),
        }
    }
}

impl std::error::Error for LogError {}

/// Goes by other settings of folding from now on.
pub(crate) fn configure(dedup: &Dedup, settings: &LogSettings) {
    let named = LogSettings::kinds().map(|name| of_kind(Kind::new(name), settings));
    dedup.configure(general(settings), &named.collect::<Vec<_>>());
}

/// What is in the process's hands: connections that hold a slot.
fn active(table: &Table) -> u64 {
    let scopes = table.snapshot().scopes;
    let counted = scopes.iter().filter(|state| matches!(state.scope, Scope::Global | Scope::Exempt));
    counted.map(|state| state.active).sum()
}

fn general(settings: &LogSettings) -> Settings {
    Settings { folding: folding(&settings.folding), max_keys: settings.max_keys }
}

fn folding(folding: &LogFolding) -> Folding {
    Folding {
        interval: folding.flush_interval,
        top_sources: folding.top_sources,
        burst: folding.burst,
        rise: folding.rise_factor,
    }
}

fn of_kind(kind: Kind, settings: &LogSettings) -> Kind {
    match settings.kinds.get(kind.name()) {
        Some(own) => kind.folded(folding(own)),
        None => kind,
    }
}

/// Every kind of event, in the order of [`EventKind::index`].
fn kinds(settings: &LogSettings, active: Arc<dyn Fn() -> u64 + Send + Sync>) -> impl Iterator<Item = Kind> {
    EventKind::ALL.into_iter().map(move |kind| of_kind(described(kind, &active), settings))
}

/// How a kind reads in the log.
fn described(kind: EventKind, active: &Arc<dyn Fn() -> u64 + Send + Sync>) -> Kind {
    let described = Kind::new(kind.label());
    let ended = |described: Kind, verb| {
        let active = Arc::clone(active);
        let described = described.reads(verb, "connection", "connections").causes("causes");
        described.gauge("active", move || active()).at(Level::INFO)
    };
    match kind {
        EventKind::AcceptFailed => described.reads("failed", "accept", "accepts"),
        EventKind::BackendFailed => described.reads("failed", "backend exchange", "backend exchanges"),
        EventKind::BadRequest => {
            described.reads("rejected", "malformed or unroutable request", "malformed or unroutable requests")
        }
        EventKind::Blocked => described.reads("blocked", "connection", "connections"),
        EventKind::Reclaimed => {
            described.reads("reclaimed", "slot of an idle connection", "slots of idle connections").at(Level::INFO)
        }
        EventKind::Refused => described.reads("refused", "connection", "connections"),
        EventKind::Shed => described.reads("shed", "client", "clients"),
        EventKind::Swept => ended(described, "swept"),
        EventKind::Terminated => ended(described, "terminated"),
        EventKind::TlsFailed => described.reads("failed", "TLS handshake", "TLS handshakes"),
        EventKind::WouldRefuse => described.reads("would refuse", "connection or request", "connections or requests"),
        _ => described,
    }
}

/// One field of a line of text. Whatever a peer may have put into it, it can neither end the line nor do anything to a
/// terminal; only messages may have several lines, and all but the first are indented.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    // What comes through the `log` crate says where from; that is not for readers.
    if field.name().starts_with("log.") {
        return Ok(());
    }
    let is_message = field.name() == "message";
    if !is_message {
        write!(writer, " {}=", field.name())?;
    }
    write!(Escaping { writer, is_message }, "{value:?}")
}

struct Escaping<'a, 'w> {
    writer: &'a mut Writer<'w>,
    is_message: bool,
}

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '\n' if self.is_message => self.writer.write_str("\n    ")?,
                letter if letter.is_control() || is_invisible(letter) => {
                    write!(self.writer, "{}", letter.escape_default())?;
                }
                letter => self.writer.write_char(letter)?,
            }
        }
        Ok(())
    }
}

/// Letters that turn the direction of what follows, or that are not there to be seen.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_peer_sends_cannot_forge_a_line() {
        let paper = Paper::default();
        let written = paper.clone();
        let output = lines::layer().with_writer(move || written.clone()).with_ansi(false).without_time();
        let output = output.with_target(false).fmt_fields(debug_fn(write_field));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(output), || {
            let peer = "a\n WARN ready\r\u{1b}[2J\u{9b}\u{202e}é";
            tracing::warn!(peer, shown = %peer, "{peer}");
        });
        let line = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            line,
            " WARN a\n     WARN ready\\r\\u{1b}[2J\\u{9b}\\u{202e}é \
             peer=\"a\\n WARN ready\\r\\u{1b}[2J\\u{9b}\\u{202e}é\" \
             shown=a\\n WARN ready\\r\\u{1b}[2J\\u{9b}\\u{202e}é\n"
        );
    }

    #[test]
    fn every_kind_has_words_of_its_own_and_settings_by_its_name() {
        let mut settings = LogSettings::default();
        settings.kinds.insert("refused", LogFolding { burst: 3, ..LogFolding::default() });
        let log = Log::new(&settings);
        let kinds = log.dedup.kinds();
        let names: Vec<_> = kinds.iter().map(|(kind, _)| kind.name().to_owned()).collect();
        assert_eq!(names, LogSettings::kinds().collect::<Vec<_>>());
        let record = |kind: EventKind| log.dedup.record(kind.index(), "x", None, None);
        assert_eq!([1, 2, 3, 4].map(|_| record(EventKind::Refused)), [true, true, true, false]);
        assert_eq!([1, 2].map(|_| record(EventKind::Swept)), [true, false]);
        configure(&log.dedup, &LogSettings::default());
        log.dedup.flush();
        assert_eq!(log.dedup.totals(EventKind::Refused.index()).recorded(), 4);
    }
}
