//! JSON, strictly: no comments, no trailing or missing commas, no other quotes.

use crate::tree::{Entry, MAX_DEPTH, Node, Span, SyntaxError, Value};
use jsonc_parser::ast::{self, ObjectPropName};
use jsonc_parser::common::Ranged;
use jsonc_parser::errors::ParseErrorKind;
use jsonc_parser::{CollectOptions, ParseOptions, ParseStringErrorKind, parse_to_ast};

pub(crate) fn parse(text: &str) -> Result<Node, SyntaxError> {
    check_shape(text)?;
    let options =
        ParseOptions { allow_comments: false, allow_loose_object_property_names: false, allow_trailing_commas: false };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &options).map_err(|error| {
        let span = span(&error.range());
        let not_json = |what| SyntaxError::new(span, what).help("YAML and TOML files may have it");
        match error.kind() {
            ParseErrorKind::CommentsNotAllowed => not_json("JSON has no comments"),
            ParseErrorKind::TrailingCommasNotAllowed => {
                SyntaxError::new(span, "JSON has no comma after the last entry")
            }
            ParseErrorKind::String(ParseStringErrorKind::InvalidUnicodeEscapeSequence(_)) => {
                SyntaxError::new(span, "this escape is half a character").help("write the character itself")
            }
            kind => SyntaxError::new(span, format!("this is no JSON: {}", lower(&kind.to_string()))),
        }
    })?;
    let Some(root) = parsed.value else {
        return Err(SyntaxError::new(Span::new(0, text.len()), "the file is empty").help("the least is {}"));
    };
    node(text, root)
}

/// What the parser lets pass, and what it must not see: it recurses into whatever depth it is given.
fn check_shape(text: &str) -> Result<(), SyntaxError> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, char) in text.char_indices() {
        let error = |message: &str| Err(SyntaxError::new(Span::new(at, at + char.len_utf8()), message));
        match char {
            '\0'..='\x1f' if in_string => return error("a JSON string has no line break or control character"),
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '\'' => return error("JSON strings are in double quotes"),
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            ' ' | '\t' | '\n' | '\r' => {}
            _ if char.is_whitespace() => return error("this white space is none in JSON"),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return error("this is nested too deeply");
        }
    }
    Ok(())
}

fn node(text: &str, value: ast::Value<'_>) -> Result<Node, SyntaxError> {
    let range = span(&value.range());
    let value = match value {
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::BooleanLit(literal) => Value::Bool(literal.value),
        ast::Value::NumberLit(literal) => {
            Value::number(literal.value).ok_or_else(|| SyntaxError::new(range, "this is no number"))?
        }
        ast::Value::StringLit(literal) => Value::String(literal.value.into_owned()),
        ast::Value::Array(array) => {
            separated(text, array.elements.iter().map(Ranged::range))?;
            Value::List(array.elements.into_iter().map(|element| node(text, element)).collect::<Result<_, _>>()?)
        }
        ast::Value::Object(object) => {
            separated(text, object.properties.iter().map(Ranged::range))?;
            Value::Table(object.properties.into_iter().map(|property| entry(text, property)).collect::<Result<_, _>>()?)
        }
    };
    Ok(Node { span: range, value })
}

fn entry(text: &str, property: ast::ObjectProp<'_>) -> Result<Entry, SyntaxError> {
    let key_span = span(&property.name.range());
    let key = match property.name {
        ObjectPropName::String(literal) => literal.value.into_owned(),
        ObjectPropName::Word(word) => word.value.to_owned(),
    };
    Ok(Entry { key, key_span, node: node(text, property.value)? })
}

/// The parser takes entries without a comma between them for entries.
fn separated(text: &str, ranges: impl Iterator<Item = jsonc_parser::common::Range>) -> Result<(), SyntaxError> {
    let mut last_end = None;
    for range in ranges {
        if let Some(end) = last_end
            && !text[end..range.start].contains(',')
        {
            return Err(SyntaxError::new(span(&range), "a comma is missing before this"));
        }
        last_end = Some(range.end);
    }
    Ok(())
}

fn span(range: &jsonc_parser::common::Range) -> Span {
    Span::new(range.start, range.end)
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}
