//! The decoder's toolkit: a place in the tree that knows its path and where to report.

use crate::Surroundings;
use crate::diagnostic::{Mistake, Severity};
use crate::tree::{Entry, Node, Span, Value};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;

/// Where mistakes go, and what the file refers to.
pub(crate) struct Sink<'a> {
    pub(crate) surroundings: &'a dyn Surroundings,
    mistakes: RefCell<Vec<Mistake>>,
    /// The keys known in every table that was decoded, by its path without numbers.
    #[cfg(test)]
    pub(crate) tables: RefCell<std::collections::BTreeMap<String, std::collections::BTreeSet<String>>>,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(surroundings: &'a dyn Surroundings) -> Self {
        Self {
            surroundings,
            mistakes: RefCell::default(),
            #[cfg(test)]
            tables: RefCell::default(),
        }
    }

    /// How many errors there are so far.
    pub(crate) fn errors(&self) -> usize {
        self.mistakes.borrow().iter().filter(|mistake| mistake.severity == Severity::Error).count()
    }

    pub(crate) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes.into_inner()
    }
}

/// A value, its path, and where to report.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    pub(crate) node: &'a Node,
    /// Where mistakes are shown: the value, or its key.
    pub(crate) span: Span,
    pub(crate) path: String,
    pub(crate) sink: &'a Sink<'a>,
}

impl<'a> Cursor<'a> {
    pub(crate) fn root(node: &'a Node, sink: &'a Sink<'a>) -> Self {
        Self { node, span: node.span, path: String::new(), sink }
    }

    pub(crate) fn error(&self, message: impl Into<String>) {
        self.report(Severity::Error, message.into(), None, None);
    }

    pub(crate) fn error_help(&self, message: impl Into<String>, help: impl Into<String>) {
        self.report(Severity::Error, message.into(), Some(help.into()), None);
    }

    /// An error with a second place: `label` says what is there.
    pub(crate) fn conflict(&self, message: impl Into<String>, help: impl Into<String>, other: Span, label: &str) {
        self.report(Severity::Error, message.into(), Some(help.into()), Some((other, label.to_owned())));
    }

    pub(crate) fn warn(&self, message: impl Into<String>, help: impl Into<String>) {
        self.report(Severity::Warning, message.into(), Some(help.into()), None);
    }

    /// A warning with a second place: `label` says what is there.
    pub(crate) fn warn_beside(&self, message: impl Into<String>, help: impl Into<String>, other: Span, label: &str) {
        self.report(Severity::Warning, message.into(), Some(help.into()), Some((other, label.to_owned())));
    }

    fn report(&self, severity: Severity, message: String, help: Option<String>, also: Option<(Span, String)>) {
        let mistake = Mistake { severity, message, help, path: self.path.clone(), span: self.span, also };
        self.sink.mistakes.borrow_mut().push(mistake);
    }

    /// Reports that this should have been something else.
    pub(crate) fn expected(&self, what: impl Display) {
        let message = format!("this should be {what}, not {}", self.node.value.kind());
        if self.node.value == Value::Null {
            self.error_help(message, "leave the key out for its default");
        } else {
            self.error(message);
        }
    }

    pub(crate) fn table(&self) -> Option<Table<'a>> {
        let Value::Table(entries) = &self.node.value else {
            self.expected("a table of keys");
            return None;
        };
        let mut by_key: HashMap<&str, &Entry> = HashMap::with_capacity(entries.len());
        for entry in entries {
            if let Some(first) = by_key.get(entry.key.as_str()) {
                let message = format!("{:?} is given twice", entry.key);
                self.key(entry).conflict(message, "keep one of the two", first.key_span, "first here");
            } else {
                by_key.insert(&entry.key, entry);
            }
        }
        Some(Table { cursor: self.clone(), entries, by_key, known: RefCell::default(), refused: RefCell::default() })
    }

    /// Where a key of this table is written, for another look at a table that is decoded already.
    pub(crate) fn key_of(&self, key: &str) -> Option<Self> {
        let Value::Table(entries) = &self.node.value else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| self.key(entry))
    }

    /// The items of a list; `what` it should be, if it is none.
    pub(crate) fn list(&self, what: &str) -> Option<Vec<Self>> {
        let Value::List(items) = &self.node.value else {
            self.expected(what);
            return None;
        };
        let item = |(index, node): (usize, &'a Node)| Self {
            node,
            span: node.span,
            path: format!("{}[{index}]", self.path),
            sink: self.sink,
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The items of a list, or the one value that is no list.
    pub(crate) fn one_or_many(&self) -> Vec<Self> {
        match &self.node.value {
            Value::List(_) => self.list("a list").unwrap_or_default(),
            _ => vec![self.clone()],
        }
    }

    /// Whether this stands for "none": `null`, or `false` for TOML, which has no null.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self.node.value, Value::Null | Value::Bool(false))
    }

    fn value(&self, entry: &'a Entry) -> Self {
        Self { span: entry.node.span, ..self.key(entry) }
    }

    fn key(&self, entry: &'a Entry) -> Self {
        let path = if self.path.is_empty() { entry.key.clone() } else { format!("{}.{}", self.path, entry.key) };
        Self { node: &entry.node, span: entry.key_span, path, sink: self.sink }
    }
}

/// A table whose keys are taken one by one; those that nobody asked for are reported at the end.
pub(crate) struct Table<'a> {
    pub(crate) cursor: Cursor<'a>,
    entries: &'a [Entry],
    by_key: HashMap<&'a str, &'a Entry>,
    known: RefCell<Vec<&'static str>>,
    /// Keys that are known and never suggested: old names, and what is not built.
    refused: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    /// The value of a key, if it is given.
    pub(crate) fn take(&self, key: &'static str) -> Option<Cursor<'a>> {
        self.known.borrow_mut().push(key);
        self.by_key.get(key).map(|entry| self.cursor.value(entry))
    }

    /// The value of a key that must be given; `what` it is, for the mistake.
    pub(crate) fn require(&self, key: &'static str, what: &str) -> Option<Cursor<'a>> {
        let value = self.take(key);
        if value.is_none() {
            self.cursor.error_help(format!("{key:?} is missing"), format!("add {key:?}: {what}"));
        }
        value
    }

    /// What a key says, if it is given and right.
    pub(crate) fn get<T>(&self, key: &'static str, decode: impl FnOnce(&Cursor<'a>) -> Option<T>) -> Option<T> {
        self.take(key).and_then(|value| decode(&value))
    }

    /// Puts what a key says into its place; what is not given or wrong leaves the default.
    pub(crate) fn read<T>(&self, key: &'static str, decode: impl FnOnce(&Cursor<'a>) -> Option<T>, into: &mut T) {
        if let Some(value) = self.get(key, decode) {
            *into = value;
        }
    }

    /// The value of a key that used to have another name.
    pub(crate) fn take_renamed(&self, key: &'static str, old: &'static str) -> Option<Cursor<'a>> {
        let new = self.take(key);
        self.refused.borrow_mut().push(old);
        let Some(entry) = self.by_key.get(old) else { return new };
        let old_key = self.cursor.key(entry);
        if let Some(new) = new {
            let message = format!("{old:?} is the old name of {key:?}, and both are given");
            old_key.conflict(message, format!("keep {key:?}"), new.span, "the other one");
            return Some(new);
        }
        old_key.warn(format!("{old:?} is the old name of {key:?}"), format!("write {key:?}"));
        Some(self.cursor.value(entry))
    }

    /// Where the key itself is written.
    pub(crate) fn key(&self, key: &str) -> Option<Cursor<'a>> {
        self.by_key.get(key).map(|entry| self.cursor.key(entry))
    }

    /// Refuses keys that are known and not built.
    pub(crate) fn unsupported(&self, keys: &[&'static str]) {
        for &key in keys {
            self.refused.borrow_mut().push(key);
            if let Some(at) = self.key(key) {
                at.error_help(format!("{key:?} is not supported yet"), "remove it");
            }
        }
    }

    /// Every key and value, for tables whose keys are names of the user's.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'a str, Cursor<'a>, Cursor<'a>)> {
        self.entries.iter().map(|entry| (entry.key.as_str(), self.cursor.key(entry), self.cursor.value(entry)))
    }

    /// Reports the keys that nobody asked for. Called when all others are taken.
    pub(crate) fn finish(&self) {
        let known = self.known.borrow();
        #[cfg(test)]
        self.note(&known);
        let refused = self.refused.borrow();
        for entry in self.entries {
            let key = entry.key.as_str();
            // For editors.
            let schema = key == "$schema" && self.cursor.path.is_empty();
            let ignored = schema || key.starts_with("x-") || matches!(key, "description" | "tags");
            if ignored || known.contains(&key) || refused.contains(&key) {
                continue;
            }
            // More names than fit a line help nobody.
            const FEW: usize = 8;
            let help = match nearest(key, known.iter().copied()) {
                Some(name) => did_you_mean(name),
                None if known.len() <= FEW => format!("known are {}", quoted(known.iter().copied())),
                None => "remove it; keys for your own notes begin with \"x-\"".to_owned(),
            };
            self.cursor.key(entry).error_help(format!("{key:?} is no key that is known here"), help);
        }
    }
}

#[cfg(test)]
impl Table<'_> {
    fn note(&self, known: &[&str]) {
        let path = self.cursor.path.split(['[', ']']).step_by(2).collect::<String>();
        let mut tables = self.cursor.sink.tables.borrow_mut();
        tables.entry(path).or_default().extend(known.iter().map(|&key| key.to_owned()));
    }
}

/// The name that `text` is most likely a slip of.
pub(crate) fn nearest<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let simple = |name: &str| name.to_lowercase().replace(['-', '_'], "");
    let text = simple(text);
    let score = |name: &str| strsim::jaro_winkler(&text, &simple(name));
    const ALIKE: f64 = 0.82;
    names
        .map(|name| (score(name), name))
        .filter(|(score, _)| *score >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

pub(crate) fn did_you_mean(name: &str) -> String {
    format!("did you mean {name:?}?")
}

/// `"a", "b" and "c"`.
pub(crate) fn quoted<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<_> = names.map(|name| format!("{name:?}")).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}
