//! Mistakes, each with its place in the file.

use crate::tree::{Span, SyntaxError};
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;

/// How bad a mistake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but probably does not do what was meant.
    Warning,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters, from 1.
    pub column: usize,
    /// What to do about it.
    pub help: Option<String>,
    /// The key it is about: `routes[0].match.ports`. Empty for the file as a whole.
    pub path: String,
    span: Span,
    also: Option<(Span, String)>,
}

/// All mistakes of a file, in the order of the file.
///
/// [`Display`](fmt::Display) shows each with its file, line and column, the line itself, a caret and what to do.
#[derive(Clone)]
pub struct Diagnostics {
    name: String,
    source: String,
    found: Vec<Diagnostic>,
}

/// A mistake as the decoder reports it.
#[derive(Clone, Debug)]
pub(crate) struct Mistake {
    pub(crate) severity: Severity,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) path: String,
    pub(crate) span: Span,
    /// A second place, and what is there.
    pub(crate) also: Option<(Span, String)>,
}

impl Diagnostics {
    pub(crate) fn new(name: &str, source: &str, mistakes: Vec<Mistake>) -> Self {
        let lines = Lines::new(source);
        // Places come from three parsers; one inside of a character must not be worse than inexact.
        let floor = |at| source.floor_char_boundary(at);
        let whole = |span: Span| Span::new(floor(span.start), floor(span.end));
        let mut found: Vec<_> = mistakes
            .into_iter()
            .map(|mistake| {
                let Mistake { severity, message, help, path, span, also } = mistake;
                let (span, also) = (whole(span), also.map(|(span, label)| (whole(span), label)));
                let (line, column) = lines.place(source, span.start);
                Diagnostic { severity, message, line, column, help, path, span, also }
            })
            .collect();
        found.sort_by_key(|one| (one.span.start, one.span.end));
        // A value that is used twice in the file is read twice; one report is enough.
        found.dedup_by(|a, b| a.span == b.span && a.message == b.message);
        Self { name: name.to_owned(), source: source.to_owned(), found }
    }

    /// Every mistake.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.found.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|one| one.severity == Severity::Error)
    }

    /// One line of the source, with where to point in it.
    fn snippet(
        &self,
        lines: &Lines,
        span: Span,
        label: &str,
        kind: AnnotationKind,
    ) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
        let (number, start, end) = lines.line(&self.source, span.start);
        // What spans lines is shown by its first one.
        let from = span.start.min(end) - start;
        let to = span.end.clamp(span.start.min(end), end) - start;
        Snippet::source(&self.source[start..end])
            .line_start(number)
            .path(&self.name)
            .annotation(kind.span(from..to).label((!label.is_empty()).then(|| label.to_owned())))
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = Lines::new(&self.source);
        let renderer = Renderer::plain();
        for (index, one) in self.found.iter().enumerate() {
            let level = match one.severity {
                Severity::Error => Level::ERROR,
                Severity::Warning => Level::WARNING,
            };
            let mut group = Group::with_title(level.primary_title(one.message.clone()));
            group = group.element(self.snippet(&lines, one.span, &one.path, AnnotationKind::Primary));
            if let Some((span, label)) = &one.also {
                group = group.element(self.snippet(&lines, *span, label, AnnotationKind::Primary));
            }
            if let Some(help) = &one.help {
                group = group.element(Level::HELP.message(help.clone()));
            }
            if index > 0 {
                f.write_str("\n\n")?;
            }
            f.write_str(&renderer.render(&[group]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Diagnostics {
    /// Never shows the file, which may have secrets in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diagnostics").field("name", &self.name).field("found", &self.found).finish_non_exhaustive()
    }
}

impl std::error::Error for Diagnostics {}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn new(source: &str) -> Self {
        Self(std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The number of the line that has `at`, where it begins and where it ends.
    fn line(&self, source: &str, at: usize) -> (usize, usize, usize) {
        let index = self.0.partition_point(|&start| start <= at) - 1;
        let start = self.0[index];
        let end = self.0.get(index + 1).map_or(source.len(), |&next| next - 1);
        (index + 1, start, start + source[start..end].trim_end_matches('\r').len())
    }

    fn place(&self, source: &str, at: usize) -> (usize, usize) {
        let (number, start, end) = self.line(source, at);
        (number, source[start..at.clamp(start, end)].chars().count() + 1)
    }
}

impl From<SyntaxError> for Mistake {
    fn from(SyntaxError { span, message, help }: SyntaxError) -> Self {
        Self { severity: Severity::Error, message, help, path: String::new(), span, also: None }
    }
}
