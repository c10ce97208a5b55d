//! What the three spellings have in common: values, each with its place in the text.

/// A place in the text, in bytes, the end excluded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    pub(crate) const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    /// A number that is no integer, or too large for one.
    Float(f64),
    String(String),
    /// A date or time of TOML, which no key takes.
    Date,
    List(Vec<Node>),
    /// In file order; a key may be there twice, which is for the decoder to report.
    Table(Vec<Entry>),
}

/// One key of a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) node: Node,
}

/// A text that is not of its format.
#[derive(Clone, Debug)]
pub(crate) struct SyntaxError {
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl SyntaxError {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// How deep lists and tables may be nested: whatever walks the tree recurses, and no configuration comes near.
pub(crate) const MAX_DEPTH: usize = 128;

impl Value {
    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a truth value",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::String(_) => "a string",
            Self::Date => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }

    /// A number as it was written, if the text is one.
    pub(crate) fn number(text: &str) -> Option<Self> {
        if let Ok(integer) = text.parse() {
            return Some(Self::Integer(integer));
        }
        let float: f64 = text.parse().ok()?;
        // 1e3 and 1000.0 are integers too; above 2^53 a float no longer says which one.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if float.fract() == 0.0 && float.abs() < EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "an integer below 2^53")]
            return Some(Self::Integer(float as i64));
        }
        Some(Self::Float(float))
    }
}

impl Node {
    /// How many values it has, itself included.
    pub(crate) fn size(&self) -> usize {
        1 + self.children().map(Self::size).sum::<usize>()
    }

    /// How deep it is nested; a scalar is 0.
    pub(crate) fn depth(&self) -> usize {
        match self.value {
            Value::List(_) | Value::Table(_) => 1 + self.children().map(Self::depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn children(&self) -> Box<dyn Iterator<Item = &Self> + '_> {
        match &self.value {
            Value::List(items) => Box::new(items.iter()),
            Value::Table(entries) => Box::new(entries.iter().map(|entry| &entry.node)),
            _ => Box::new(std::iter::empty()),
        }
    }
}
