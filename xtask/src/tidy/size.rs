//! A file has one purpose, and long ones seldom do.

use super::{Finding, settle, tree::Tree};

/// Rust files above [`LONGEST`] lines, except those that [`LIST`] names with a reason.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let long = lengths(tree).filter(|(_, lines)| *lines > LONGEST);
    let findings = long.map(|(path, lines)| {
        Finding::file(path, format!("{lines} lines are more than {LONGEST}: split it, or give a reason in {LIST}"))
    });
    settle(tree, LIST, findings.collect())
}

/// The length, in lines, of the Rust file in the middle.
pub(crate) fn median(tree: &Tree) -> usize {
    let mut lengths: Vec<usize> = lengths(tree).map(|(_, lines)| lines).collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 2).copied().unwrap_or_default()
}

fn lengths(tree: &Tree) -> impl Iterator<Item = (&str, usize)> {
    tree.sources().map(|(path, text)| (path, text.lines().count()))
}

const LONGEST: usize = 500;
const LIST: &str = "xtask/oversize.txt";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_need_a_reason() {
        let (long, fits) = ("x\n".repeat(LONGEST + 1), "x\n".repeat(LONGEST));
        let mut files = vec![("a.rs", long.as_str()), ("b.rs", &fits), ("c.md", &long)];
        let findings = check(&Tree::of(&files));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].to_string().starts_with("a.rs: 501 lines"));

        files.push((LIST, "a.rs one table of names\n"));
        assert_eq!(check(&Tree::of(&files)), []);
    }

    #[test]
    fn the_median_is_of_rust_files() {
        assert_eq!(median(&Tree::of(&[])), 0);
        assert_eq!(
            median(&Tree::of(&[("a.rs", "1"), ("b.rs", "1\n2"), ("c.rs", "1\n2\n3"), ("d.md", "1\n2\n3\n4")])),
            2
        );
    }
}
