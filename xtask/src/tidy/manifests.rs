//! Every crate is held to the lints of the workspace.

use super::{Finding, tree::Tree};

/// Manifests of packages that do not inherit the workspace's lints.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let packages =
        tree.files().filter(|(path, text)| path.ends_with("Cargo.toml") && section(text, "[package]").is_some());
    let lax = packages.filter(|(_, text)| {
        !section(text, "[lints]").is_some_and(|mut lines| lines.any(|line| line.replace(' ', "") == "workspace=true"))
    });
    lax.map(|(path, _)| Finding::file(path, "does not inherit the lints: add `[lints]` with `workspace = true`"))
        .collect()
}

/// The lines below a header, up to the next one.
fn section<'a>(text: &'a str, header: &str) -> Option<impl Iterator<Item = &'a str>> {
    let mut lines = text.lines();
    lines.find(|line| line.trim() == header)?;
    Some(lines.take_while(|line| !line.starts_with('[')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_inherit_and_a_workspace_need_not() {
        for (manifest, tidy) in [
            ("[workspace]\nmembers = []\n", true),
            ("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n", true),
            ("[package]\nname = \"a\"\n", false),
            ("[package]\nname = \"a\"\n\n[lints]\n\n[other]\nworkspace = true\n", false),
        ] {
            let findings = check(&Tree::of(&[("a/Cargo.toml", manifest)]));
            assert_eq!(findings.is_empty(), tidy, "{manifest}");
        }
    }
}
