//! Folding tracing events: a filter for a layer.

use crate::Dedup;
use crate::cell::Origin;
use crate::core::Core;
use crate::keys::RouteOf;
use crate::sketch::number_of;
use std::error::Error;
use std::fmt::{self, Debug, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
        let kind = match (seen.fold.bytes(), target) {
            (b"", None) => return true,
            (b"", Some(kind)) => core.kind(kind).kind.name().as_bytes(),
            (named, _) => named,
        };
        let reason = match (seen.reason.bytes(), seen.log_target.bytes()) {
            (b"", b"") => metadata.target().as_bytes(),
            (b"", target) => target,
            (reason, _) => reason,
        };
        let route = match (seen.route_number, seen.route.bytes()) {
            (Some(number), _) => RouteOf::Number(number),
            (None, b"") => RouteOf::None,
            (None, name) => RouteOf::Name(name),
        };
        core.record_texts(kind, reason, route, |core| seen.origin(core))
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

/// The fields that matter.
#[derive(Default)]
struct Seen {
    fold: Short,
    reason: Short,
    route: Short,
    route_number: Option<u32>,
    source: Short,
    address: Option<IpAddr>,
    /// Where an event of the `log` crate comes from.
    log_target: Short,
}

impl Seen {
    fn origin(&self, core: &Core) -> Option<Origin> {
        let bytes = self.source.bytes();
        match self.address.map(number_of).or_else(|| address(bytes)) {
            Some(address) => Some(Origin { address: Some(address), hash: core.hashes.hash_one(address) }),
            None if bytes.is_empty() => None,
            None => Some(Origin { address: None, hash: core.hashes.hash_one(bytes) }),
        }
    }

    fn text_of(&mut self, field: &Field) -> Option<&mut Short> {
        let text = match field.name() {
            FOLD => &mut self.fold,
            "reason" => &mut self.reason,
            "route" => &mut self.route,
            "source" => &mut self.source,
            "log.target" => &mut self.log_target,
            _ => return None,
        };
        Some(text)
    }
}

/// The address that a text is, with or without a port.
fn address(text: &[u8]) -> Option<u128> {
    if let Some(address) = ipv4(text) {
        return Some(number_of(IpAddr::V4(address)));
    }
    let text = str::from_utf8(text).ok()?;
    let address = text.parse::<IpAddr>().ok();
    address.or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip())).map(number_of)
}

/// What is an IPv4 address without a doubt; the parser of the standard library takes half as long as everything else.
fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut address, mut part, mut digits, mut parts) = (0_u32, 0_u32, 0, 0);
    for &byte in text {
        match byte {
            b'0'..=b'9' if digits == 0 || part > 0 => {
                part = part * 10 + u32::from(byte - b'0');
                digits += 1;
                if part > 255 {
                    return None;
                }
            }
            b'.' if digits > 0 && parts < 3 => {
                address = address << 8 | part;
                (part, digits, parts) = (0, 0, parts + 1);
            }
            _ => return None,
        }
    }
    (digits > 0 && parts == 3).then(|| Ipv4Addr::from_bits(address << 8 | part))
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if let Some(text) = self.text_of(field) {
            // What does not fit is cut off.
            write!(text, "{value:?}").unwrap_or_default();
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(text) = self.text_of(field) {
            text.write_str(value).unwrap_or_default();
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        match value.downcast_ref::<Source>() {
            Some(Source(address)) if field.name() == "source" => self.address = Some(*address),
            _ => self.record_debug(field, &format_args!("{value}")),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match (field.name(), u32::try_from(value)) {
            ("route", Ok(number)) => self.route_number = Some(number),
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

/// A text of bounded length, without allocation.
struct Short {
    bytes: [u8; MOST_BYTES],
    length: usize,
}

impl Default for Short {
    fn default() -> Self {
        Self { bytes: [0; MOST_BYTES], length: 0 }
    }
}

impl Short {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MOST_BYTES - self.length;
        let fits = if text.len() <= room { text.len() } else { text.floor_char_boundary(room) };
        self.bytes[self.length..self.length + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.length += fits;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

const FOLD: &str = "fold";
const MOST_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_what_the_standard_library_takes_for_one() {
        for text in [
            "0.0.0.0",
            "203.0.113.7",
            "255.255.255.255",
            "256.0.0.1",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.",
            ".1.2.3",
            "01.2.3.4",
            "1.2.3.00",
            "1..2.3",
            "1.2.3.4 ",
            "",
            "::1",
            "1.2.3.4:80",
            "[2001:db8::1]:443",
            "eve",
            "1.2.3.99999999999",
        ] {
            let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
            let expected = text.parse::<IpAddr>().or_else(|_| with_port()).ok().map(number_of);
            assert_eq!(address(text.as_bytes()), expected, "{text}");
        }
    }
}
