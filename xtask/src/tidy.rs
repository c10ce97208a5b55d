//! Rules of the house that no compiler checks.
//!
//! Every rule is a function from the files (or cargo's graph of packages) to findings, so each is tested on files that
//! exist only in its test. The same run over the real files is a test too: `cargo test --workspace` fails with it.

use crate::Outcome;
use std::{collections::BTreeMap, fmt, path::Path};
use tree::Tree;

mod docs;
mod edges;
mod links;
mod manifests;
mod mask;
mod pitfalls;
mod promises;
mod proofs;
mod size;
mod source;
mod text;
mod tree;

/// Checks every rule and prints a summary; the error lists all findings.
pub(crate) fn run(root: &Path) -> Outcome {
    let tree = Tree::read(root)?;
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    findings.extend(edges::check(&edges::metadata(root)?));
    findings.sort();
    println!("tidy: {} files, median of a Rust file {} lines", tree.files().count(), size::median(&tree));
    if findings.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    Err(format!("{}\ntidy: {} finding(s)", lines.join("\n"), lines.len()))
}

const RULES: [fn(&Tree) -> Vec<Finding>; 8] = [
    docs::check,
    links::check,
    manifests::check,
    pitfalls::check,
    promises::check,
    size::check,
    source::check,
    text::check,
];

/// One thing to mend, and where.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    /// From 1; 0 is the file as a whole.
    line: usize,
    message: String,
}

impl Finding {
    /// A finding at a line, counted from 1.
    fn at(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }

    /// A finding about a file as a whole, or about its absence.
    fn file(path: &str, message: impl Into<String>) -> Self {
        Self::at(path, 0, message)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Drops the findings that a list excuses.
///
/// A list has one `path reason` per line. An entry without a reason, or one that excuses nothing any more, is a finding
/// itself: a list only ever says what is true today.
fn settle(tree: &Tree, list: &str, findings: Vec<Finding>) -> Vec<Finding> {
    let mut excused: BTreeMap<&str, usize> = BTreeMap::new();
    let mut settled = Vec::new();
    for (index, entry) in tree.text(list).unwrap_or_default().lines().enumerate() {
        match entry.split_once(char::is_whitespace) {
            _ if entry.starts_with('#') || entry.is_empty() => {}
            Some((path, reason)) if !reason.trim().is_empty() => {
                excused.insert(path, index + 1);
            }
            _ => settled.push(Finding::at(list, index + 1, format!("`{entry}` needs a reason after the path"))),
        }
    }
    for (path, line) in &excused {
        if !findings.iter().any(|finding| finding.path == **path) {
            settled.push(Finding::at(list, *line, format!("`{path}` needs no exception any more: remove the line")));
        }
    }
    settled.extend(findings.into_iter().filter(|finding| !excused.contains_key(finding.path.as_str())));
    settled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        if let Err(findings) = run(&crate::root()) {
            panic!("\n{findings}");
        }
    }

    #[test]
    fn lists_excuse_with_a_reason_and_only_while_needed() {
        let tree = Tree::of(&[("list.txt", "# path reason\n\na.rs the table is long\nb.rs\nc.rs was long\n")]);
        let offenders = ["a.rs", "b.rs", "d.rs"].map(|path| Finding::file(path, "offends"));
        let settled: Vec<String> =
            settle(&tree, "list.txt", offenders.into()).iter().map(ToString::to_string).collect();
        assert_eq!(
            settled,
            [
                "list.txt:4: `b.rs` needs a reason after the path",
                "list.txt:5: `c.rs` needs no exception any more: remove the line",
                "b.rs: offends",
                "d.rs: offends",
            ]
        );
    }
}
