//! Text that reads the same everywhere: no blanks at line ends, no path that exists on one machine only.

use super::{Finding, tree::Tree};

/// Blanks at the end of lines, missing last line breaks, and paths below somebody's home or checkout.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| is_written_by_hand(path)) {
        for (index, line) in text.lines().enumerate() {
            if line.ends_with([' ', '\t', '\r']) {
                findings.push(Finding::at(path, index + 1, "ends with blanks"));
            }
            if let Some(start) = PRIVATE.into_iter().find(|start| names(line, start)) {
                findings.push(Finding::at(path, index + 1, format!("`{start}…` exists on one machine only")));
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            findings.push(Finding::at(path, text.lines().count(), "the last line has no line break"));
        }
    }
    findings
}

fn is_written_by_hand(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.') {
        Some((_, ending)) => ENDINGS.contains(&ending),
        None => true,
    }
}

/// Whether an absolute path in the line begins with `start`; the same words inside a longer path or a URL do not count.
fn names(line: &str, start: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "/._-}*~".contains(c);
    line.match_indices(start).any(|(at, _)| !line[..at].ends_with(inside))
}

/// Where people keep their files. In two parts each, or this file would find itself.
const PRIVATE: [&str; 6] = [
    concat!("/", "home/"),
    concat!("/", "root/"),
    concat!("/", "Users/"),
    concat!("/", "work/"),
    concat!("/", "workspace/"),
    concat!("/", "builds/"),
];
const ENDINGS: [&str; 11] = ["css", "html", "js", "json", "md", "rs", "sh", "toml", "txt", "yaml", "yml"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_open_ends_are_found() {
        let tree = Tree::of(&[("a.md", "a \nb\n"), ("b.rs", "a\nb"), ("c.png", "a "), ("run", "a\t\n"), ("d.md", "")]);
        let places: Vec<String> =
            check(&tree).iter().map(|finding| format!("{}:{}", finding.path, finding.line)).collect();
        assert_eq!(places, ["a.md:1", "b.rs:2", "run:1"]);
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let home = PRIVATE[0];
        for (line, found) in [
            (format!("see {home}me/notes"), true),
            (format!("\"{home}me\""), true),
            (format!("https://example.org{home}page"), false),
            (format!("a{home}b"), false),
            ("/etc/smartproxy/config.yaml".to_owned(), false),
        ] {
            assert_eq!(!check(&Tree::of(&[("a.md", &format!("{line}\n"))])).is_empty(), found, "{line}");
        }
    }
}
