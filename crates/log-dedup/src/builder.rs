//! What a handle is made of.

use crate::clock::{Clock, SystemClock};
use crate::{Kind, Settings, Sink, ToTracing};
use std::fmt;

/// A [`Dedup`](crate::Dedup) to be.
///
/// ```
/// use log_dedup::{Dedup, Kind, Settings};
///
/// let dedup = Dedup::builder()
///     .settings(Settings { max_keys: 1000, ..Settings::default() })
///     .kind(Kind::new("login_failed").reads("failed", "login", "logins"))
///     .fold_target("hyper", Kind::new("hyper"))
///     .build();
/// assert_eq!(dedup.totals(0).recorded(), 0);
/// ```
pub struct Builder {
    pub(crate) settings: Settings,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) targets: Vec<(String, usize)>,
    pub(crate) names: Names,
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) sink: Box<dyn Sink>,
}

/// Gives a route its name; `None` where it has none (any more).
pub(crate) type Names = Box<dyn Fn(u32) -> Option<String> + Send + Sync>;

impl Builder {
    /// See [`Dedup::builder`](crate::Dedup::builder).
    pub(crate) fn new() -> Self {
        Self {
            settings: Settings::default(),
            kinds: Vec::new(),
            targets: Vec::new(),
            names: Box::new(|_| None),
            clock: Box::new(SystemClock),
            sink: Box::new(ToTracing::Message),
        }
    }

    /// How everything is folded.
    #[must_use]
    pub fn settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// One kind more. Typed calls name it by its place among the kinds, tracing events by its name.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Some kinds more.
    #[must_use]
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = Kind>) -> Self {
        self.kinds.extend(kinds);
        self
    }

    /// One kind more: all tracing events whose target is this, or begins with it and `::`, and that name no other kind.
    /// For events of libraries, which know nothing of folding. `log` takes those that come through the `log` crate.
    #[must_use]
    pub fn fold_target(self, target: impl Into<String>, kind: Kind) -> Self {
        self.fold_targets([target], kind)
    }

    /// [`Builder::fold_target`] for the events of several targets, which are of one kind.
    #[must_use]
    pub fn fold_targets(mut self, targets: impl IntoIterator<Item: Into<String>>, kind: Kind) -> Self {
        let place = self.kinds.len();
        self.targets.extend(targets.into_iter().map(|target| (target.into(), place)));
        self.kind(kind)
    }

    /// What numbers of routes stand for, asked when a line is written; without it, and for `None`, the number is shown.
    #[must_use]
    pub fn routes(self, names: impl Fn(u32) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { names: Box::new(names), ..self }
    }

    /// Where lines go, instead of to [`ToTracing::Message`].
    #[must_use]
    pub fn sink(self, sink: impl Sink) -> Self {
        Self { sink: Box::new(sink), ..self }
    }

    /// What tells the time, instead of the [`SystemClock`].
    #[must_use]
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: Box::new(clock), ..self }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("settings", &self.settings).field("kinds", &self.kinds).finish_non_exhaustive()
    }
}
