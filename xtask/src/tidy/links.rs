//! Relative links in the documents lead somewhere.

use super::{Finding, tree::Tree};

/// Relative links of Markdown files to files that do not exist.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| path.ends_with(".md")) {
        let mut fenced = false;
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                let broken = targets(line).filter(|target| !leads_somewhere(tree, path, target));
                findings.extend(broken.map(|target| Finding::at(path, index + 1, format!("`{target}` leads nowhere"))));
            }
        }
    }
    findings
}

/// What the line links to: `[text](target)`, `![text](target)` and `[label]: target`, outside of code.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
    let inline = line.split('`').step_by(2).flat_map(|prose| {
        prose
            .match_indices("](")
            .filter_map(|(at, mark)| prose[at + mark.len()..].split_once(')').map(|(target, _)| target))
    });
    // A title may follow the target: `(target "title")`.
    inline.chain(definition).filter_map(|target| target.split_whitespace().next())
}

fn leads_somewhere(tree: &Tree, from: &str, target: &str) -> bool {
    let file = target.split('#').next().unwrap_or_default();
    if file.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return true;
    }
    let mut place: Vec<&str> = from.split('/').collect();
    place.pop();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." if place.pop().is_none() => return false,
            ".." => {}
            name => place.push(name),
        }
    }
    tree.has(&place.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relative_links_to_nothing_are_found() {
        for (line, broken) in [
            ("see [a](other.md), [b](other.md#part) and [c](../src)", None),
            ("see [a](https://example.org/none) and [b](#part) and <mailto:a@b.c>", None),
            ("![picture](none.png)", Some("`none.png`")),
            ("[label]: none.md", Some("`none.md`")),
            ("[a](other.md \"title\") [b](none.md \"title\")", Some("`none.md`")),
            ("[a](../../outside.md)", Some("`../../outside.md`")),
            ("`[a](none.md)`", None),
            ("```\n[a](none.md)\n```", None),
            ("a `code` [a](none.md)", Some("`none.md`")),
        ] {
            let tree = Tree::of(&[("docs/a.md", line), ("docs/other.md", ""), ("src/lib.rs", "")]);
            let found = check(&tree).into_iter().map(|finding| finding.message).collect::<Vec<_>>();
            match broken {
                None => assert!(found.is_empty(), "{line}: {found:?}"),
                Some(target) => assert!(found.len() == 1 && found[0].starts_with(target), "{line}: {found:?}"),
            }
        }
    }
}
