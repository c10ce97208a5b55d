//! Lists of numbered statements in a document, each with the tests that show it.

/// A row of a table that begins with a number.
pub(super) struct Row<'a> {
    pub(super) number: usize,
    /// Where it is in the document, from 1 on.
    pub(super) line: usize,
    /// Its last column.
    pub(super) proof: &'a str,
}

/// All such rows of a document.
pub(super) fn rows(text: &str) -> impl Iterator<Item = Row<'_>> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let mut columns = line.strip_prefix('|')?.trim_end().strip_suffix('|')?.split('|').map(str::trim);
        Some(Row { number: columns.next()?.parse().ok()?, line: index + 1, proof: columns.next_back()? })
    })
}

/// The function that begins in a line of code.
pub(super) fn function(line: &str) -> Option<&str> {
    line.split_once("fn ")?.1.split(['(', '<']).next()
}
