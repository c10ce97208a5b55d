//! Folding tracing events: a filter for a layer.

use crate::Dedup;
use crate::core::Core;
use crate::origin::{Origin, number_of};
use crate::spelled::Spelled;
use crate::wording::{Part, Wording};
use std::error::Error;
use std::fmt::{self, Debug, Write};
use std::net::IpAddr;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// Lets pass what is not to be folded, and what is to be written; counts the rest. For the layer that writes lines:
///
/// ```
/// use log_dedup::{Dedup, Kind};
/// use tracing_subscriber::filter::{FilterExt, LevelFilter};
/// use tracing_subscriber::layer::{Layer, SubscriberExt};
///
/// let dedup = Dedup::builder().kind(Kind::new("login_failed").reads("failed", "login", "logins")).build();
/// let lines = tracing_subscriber::fmt::layer().with_filter(LevelFilter::INFO.and(dedup.filter()));
/// tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
///     tracing::warn!(fold = "login_failed", reason = "password", source = "203.0.113.7", "no login for {:?}", "eve");
///     tracing::warn!(fold = "login_failed", reason = "password", source = "203.0.113.7", "no login for {:?}", "bob");
///     dedup.flush();
/// });
/// assert_eq!(dedup.folded(), 1);
/// ```
///
/// An event is folded if it has a field `fold`, which names its kind, or if its target is that of
/// [`fold_target`](crate::Builder::fold_target). Fields that are looked at: `reason`, without which the event's target
/// is the reason; `route`, a name or a number; `source`, a [`Source`], or a text: an address with or without
/// a port, or anything else, which then counts as a source but is never among the foremost ones. Texts are cut after 64 bytes. All other fields and the
/// message are in the events that are written, unchanged, and nowhere else.
///
/// Put other filters before it with [`and`](tracing_subscriber::filter::FilterExt::and), so that it counts only what would be
/// written. Somebody has to [tick](Dedup::tick): in the middle of an event no line can be written.
#[derive(Clone)]
pub struct FoldFilter {
    dedup: Dedup,
}

impl Dedup {
    /// A filter for the layer that writes lines.
    #[must_use]
    pub fn filter(&self) -> FoldFilter {
        FoldFilter { dedup: self.clone() }
    }
}

impl Debug for FoldFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FoldFilter").field(&self.dedup).finish()
    }
}

impl<S> Filter<S> for FoldFilter {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let (core, metadata) = (&*self.dedup.core, event.metadata());
        let target = core.target(metadata.target());
        if target.is_none() && metadata.fields().field(FOLD).is_none() {
            return true;
        }
        let mut seen = Seen::default();
        event.record(&mut seen);
        let Seen { wording, source, address } = &mut seen;
        if !wording.has(Part::Kind) {
            let Some(kind) = target else { return true };
            wording.put(Part::Kind, |wording| wording.write_str(core.kind(kind).kind.name()));
        }
        if !wording.has(Part::Reason) {
            wording.put(Part::Reason, |wording| wording.write_str(metadata.target()));
        }
        core.record_texts(wording, |core| origin(core, *address, source))
    }
}

impl Core {
    /// The kind of all events with this target.
    fn target(&self, target: &str) -> Option<usize> {
        let below =
            |whole: &str| target.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        self.targets.iter().find(|(whole, _)| below(whole)).map(|(_, kind)| *kind)
    }
}

/// An address as a field of an event. The filter takes it as it is, without a text in between, which is most of what a
/// folded event costs; lines show it like any other address.
///
/// ```
/// use log_dedup::Source;
///
/// let client = "203.0.113.7".parse()?;
/// tracing::warn!(fold = "login_failed", reason = "password", source = Source(client).field(), "no login");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source(pub IpAddr);

impl Source {
    /// As the value of a field.
    #[must_use]
    pub fn field(&self) -> &(dyn Error + 'static) {
        self
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The only kind of value that a field hands on as what it is.
impl Error for Source {}

/// Whom an event is from.
fn origin(core: &Core, given: Option<IpAddr>, source: &mut Spelled) -> Option<Origin> {
    if let Some(address) = given.map(number_of).or_else(|| source.address()) {
        return Some(Origin { address: Some(address), hash: core.hashes.hash_one(address) });
    }
    let text = source.text();
    (!text.is_empty()).then(|| Origin { address: None, hash: core.hashes.hash_one(text) })
}

/// The fields that matter.
#[derive(Default)]
struct Seen {
    wording: Wording,
    source: Spelled,
    address: Option<IpAddr>,
}

/// What a field is of.
#[derive(Clone, Copy)]
enum Role {
    Part(Part),
    Source,
}

impl Seen {
    /// Nothing for fields that do not matter.
    fn role_of(&self, field: &Field) -> Option<Role> {
        let name = field.name();
        // By length first, as this is asked for every field of every event.
        match name.len() {
            4 if name == FOLD => Some(Role::Part(Part::Kind)),
            5 if name == ROUTE => Some(Role::Part(Part::Route)),
            6 if name == "reason" => Some(Role::Part(Part::Reason)),
            6 if name == "source" => Some(Role::Source),
            8.. => self.role_by_log(name),
            _ => None,
        }
    }

    /// Events of the `log` crate say by a field where they come from.
    #[cold]
    fn role_by_log(&self, name: &str) -> Option<Role> {
        (name == "log.target" && !self.wording.has(Part::Reason)).then_some(Role::Part(Part::Reason))
    }
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match self.role_of(field) {
            Some(Role::Source) => write!(self.source, "{value:?}").unwrap_or_default(),
            Some(Role::Part(part)) => self.wording.put(part, |wording| write!(wording, "{value:?}")),
            None => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match self.role_of(field) {
            Some(Role::Source) => self.source.write_str(value).unwrap_or_default(),
            Some(Role::Part(part)) => self.wording.put(part, |wording| wording.write_str(value)),
            None => {}
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        match (self.role_of(field), value.downcast_ref::<Source>()) {
            (Some(Role::Source), Some(Source(address))) => self.address = Some(*address),
            _ => self.record_debug(field, &format_args!("{value}")),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match (field.name(), u32::try_from(value)) {
            (ROUTE, Ok(number)) => self.wording.put_route(number),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.record_u64(field, value),
            Err(_) => self.record_debug(field, &value),
        }
    }
}

const FOLD: &str = "fold";
const ROUTE: &str = "route";
