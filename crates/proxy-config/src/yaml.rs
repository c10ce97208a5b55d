//! YAML 1.2: one document, core schema, anchors and merge keys.

use crate::tree::{Entry, MAX_DEPTH, Node, Span, SyntaxError, Value};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};
use std::borrow::Cow;
use std::collections::HashMap;

/// How many values all aliases together may copy: a few lines of aliases of aliases are billions otherwise.
const MAX_COPIED: usize = 100_000;

pub(crate) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let places = Places::new(text);
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let at = places.byte(error.marker());
            let error = SyntaxError::new(Span::new(at, at), format!("this is no YAML: {}", error.info()));
            if error.message.contains("tab") { error.help("indent with spaces") } else { error }
        })?;
        builder.add(event, Span::new(places.byte(&span.start), places.byte(&span.end)))?;
    }
    Ok(builder.root.unwrap_or_else(|| Node { span: Span::new(0, text.len()), value: Value::Table(Vec::new()) }))
}

/// From the parser's places, in characters, to ours, in bytes.
struct Places {
    /// Where each character begins; `None` if all are of one byte.
    starts: Option<Vec<usize>>,
    end: usize,
}

impl Places {
    fn new(text: &str) -> Self {
        let starts = (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect());
        Self { starts, end: text.len() }
    }

    fn byte(&self, marker: &Marker) -> usize {
        let byte = match &self.starts {
            None => Some(marker.index()),
            Some(starts) => starts.get(marker.index()).copied(),
        };
        byte.unwrap_or(self.end).min(self.end)
    }
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    documents: usize,
    open: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    copied: usize,
}

/// A list or table that is not closed yet.
struct Frame {
    start: usize,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Table(Vec<Entry>, Option<(String, Span)>),
}

impl Builder {
    fn add(&mut self, event: Event<'_>, span: Span) -> Result<(), SyntaxError> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(SyntaxError::new(span, "a configuration is one YAML document")
                        .help("remove this one, or the \"---\" before it"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref(), span)?;
                self.complete(Node { span, value }, Some(&text), anchor)?;
            }
            Event::SequenceStart(anchor, tag) => self.open(span, anchor, tag, "seq", Content::List(Vec::new()))?,
            Event::MappingStart(anchor, tag) => {
                self.open(span, anchor, tag, "map", Content::Table(Vec::new(), None))?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span)?,
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(SyntaxError::new(span, "this alias is inside of what it stands for"));
                };
                self.copied += node.size();
                if self.copied > MAX_COPIED {
                    return Err(SyntaxError::new(span, "the aliases of this file stand for too many values"));
                }
                if self.open.len() + node.depth() > MAX_DEPTH {
                    return Err(SyntaxError::new(span, "this is nested too deeply"));
                }
                let node = node.clone();
                let text = match &node.value {
                    Value::String(text) => Some(text.clone()),
                    _ => None,
                };
                // Mistakes are shown where the value is written, not where it is used again.
                self.complete(node, text.as_deref(), 0)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn open(
        &mut self,
        span: Span,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
        natural: &str,
        content: Content,
    ) -> Result<(), SyntaxError> {
        if let Some(tag) = tag.filter(|tag| !(tag.is_yaml_core_schema() && tag.suffix == natural)) {
            return Err(unknown_tag(&tag, span));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(SyntaxError::new(span, "this is nested too deeply"));
        }
        self.open.push(Frame { start: span.start, anchor, content });
        Ok(())
    }

    fn close(&mut self, span: Span) -> Result<(), SyntaxError> {
        let Some(frame) = self.open.pop() else { return Ok(()) };
        let value = match frame.content {
            Content::List(items) => Value::List(items),
            Content::Table(entries, _) => Value::Table(merged(entries)?),
        };
        self.complete(Node { span: Span::new(frame.start, span.end), value }, None, frame.anchor)
    }

    /// Puts a value into what is open: as a key (if `text` can be one), a value, an item, or the root.
    fn complete(&mut self, node: Node, text: Option<&str>, anchor: usize) -> Result<(), SyntaxError> {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|frame| &mut frame.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Table(entries, key)) => match (key.take(), text) {
                (Some((key, key_span)), _) => entries.push(Entry { key, key_span, node }),
                (None, Some(text)) => *key = Some((text.to_owned(), node.span)),
                (None, None) => return Err(SyntaxError::new(node.span, "a key is a string")),
            },
        }
        Ok(())
    }
}

/// A scalar by the core schema. `yes`, `on`, `no`, `off` are strings in it, and `010` is ten.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Result<Value, SyntaxError> {
    match tag {
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => return Ok(Value::String(text.to_owned())),
        Some(tag) => return Err(unknown_tag(tag, span)),
        None if style != ScalarStyle::Plain => return Ok(Value::String(text.to_owned())),
        None => {}
    }
    let radix = |digits, radix| i64::from_str_radix(digits, radix).ok().map(Value::Integer);
    let value = match text {
        "" | "~" | "null" | "Null" | "NULL" => Some(Value::Null),
        "true" | "True" | "TRUE" => Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => Some(Value::Bool(false)),
        _ => match (text.strip_prefix("0o"), text.strip_prefix("0x")) {
            (Some(digits), _) if digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) => radix(digits, 8),
            (_, Some(digits)) if digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) => radix(digits, 16),
            // Rust also reads `inf` and `nan` as numbers, the core schema does not.
            _ if text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
                && text.bytes().any(|byte| byte.is_ascii_digit()) =>
            {
                Value::number(text)
            }
            _ => None,
        },
    };
    Ok(value.unwrap_or_else(|| Value::String(text.to_owned())))
}

/// Entries with those of `<<` in place: what a table says itself wins over what it merges, the earlier over the later.
fn merged(entries: Vec<Entry>) -> Result<Vec<Entry>, SyntaxError> {
    let (merges, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.key == "<<");
    for merge in merges {
        let sources = match merge.node.value {
            Value::List(items) => items,
            value => vec![Node { span: merge.node.span, value }],
        };
        for source in sources {
            let Value::Table(entries) = source.value else {
                return Err(SyntaxError::new(merge.key_span, "\"<<\" merges tables").help("write <<: *name"));
            };
            let known: Vec<String> = own.iter().map(|entry| entry.key.clone()).collect();
            own.extend(entries.into_iter().filter(|entry| !known.contains(&entry.key)));
        }
    }
    Ok(own)
}

fn unknown_tag(tag: &Tag, span: Span) -> SyntaxError {
    SyntaxError::new(span, format!("the tag {tag} means nothing here")).help("leave it out")
}
