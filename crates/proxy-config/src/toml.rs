//! TOML.

use crate::tree::{Entry, Node, Span, SyntaxError, Value};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The tree, and the keys that are there twice; or what is no TOML. The parser bounds the depth itself.
pub(crate) fn parse(text: &str) -> Result<(Node, Vec<SyntaxError>), SyntaxError> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut twice = Vec::new();
    for error in errors {
        let span = error.span().map_or(Span::new(0, 0), |range| span(&range));
        match error.message() {
            "duplicate key" => {
                twice.push(SyntaxError::new(span, "this key is given twice").help("keep one of the two"));
            }
            message => return Err(SyntaxError::new(span, format!("this is no TOML: {message}"))),
        }
    }
    let range = span(&root.span());
    Ok((Node { span: range, value: table(root.into_inner()) }, twice))
}

fn table(table: DeTable<'_>) -> Value {
    let mut entries: Vec<_> = table
        .into_iter()
        .map(|(key, value)| {
            let key_span = span(&key.span());
            Entry { key: key.into_inner().into_owned(), key_span, node: node(value) }
        })
        .collect();
    // The parser sorts by name; headers are changed in the order in which they are written.
    entries.sort_by_key(|entry| entry.key_span.start);
    Value::Table(entries)
}

fn node(value: Spanned<DeValue<'_>>) -> Node {
    let range = span(&value.span());
    let value = match value.into_inner() {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => Value::Integer(integer),
            Err(_) => Value::Float(f64::INFINITY),
        },
        DeValue::Float(float) => Value::number(float.as_str()).unwrap_or(Value::Float(f64::NAN)),
        DeValue::Boolean(bool) => Value::Bool(bool),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(array) => Value::List(array.into_iter().map(node).collect()),
        DeValue::Table(inner) => table(inner),
    };
    Node { span: range, value }
}

fn span(range: &Range<usize>) -> Span {
    Span::new(range.start, range.end)
}
