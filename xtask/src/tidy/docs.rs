//! What a reader finds first is there, and says something.

use super::{
    Finding,
    tree::{Tree, is_test},
};

/// README, crate documentation and module headers of every crate, and the documents of the whole.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in tree.crates() {
        readme(tree, folder, &mut findings);
        crate_doc(tree, folder, &mut findings);
    }
    architecture(tree, &mut findings);
    changelog(tree, &mut findings);
    commands(tree, &mut findings);
    headers(tree, &mut findings);
    findings
}

fn readme(tree: &Tree, folder: &str, findings: &mut Vec<Finding>) {
    let path = format!("{folder}/README.md");
    match tree.text(&path) {
        None => findings.push(Finding::file(&path, "is missing: every crate has one")),
        Some(text) if text.lines().all(|line| line.trim().is_empty() || line.starts_with("# ")) => {
            findings.push(Finding::file(&path, "is only a title: say what the crate is for and how to use it"));
        }
        Some(_) => {}
    }
}

/// The documentation of the library, or of the binary where there is no library, and an example in it.
fn crate_doc(tree: &Tree, folder: &str, findings: &mut Vec<Finding>) {
    let paths = ["lib.rs", "main.rs"].map(|name| format!("{folder}/src/{name}"));
    let Some((path, text)) = paths.iter().find_map(|path| Some((path, tree.text(path)?))) else {
        return findings.push(Finding::file(folder, "has neither src/lib.rs nor src/main.rs"));
    };
    let fences = text.lines().filter(|line| line.starts_with("//! ```")).count();
    if fences < 2 {
        findings.push(Finding::file(path, "the `//!` documentation of a crate has a fenced example"));
    }
}

fn architecture(tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(text) = tree.text(ARCHITECTURE) else {
        return findings.push(Finding::file(ARCHITECTURE, "is missing: it names every crate and says what it is for"));
    };
    for name in tree.crates().filter_map(|folder| folder.strip_prefix("crates/")) {
        if !text.contains(name) {
            findings.push(Finding::file(ARCHITECTURE, format!("does not name the crate {name}")));
        }
    }
}

fn changelog(tree: &Tree, findings: &mut Vec<Finding>) {
    let unreleased = |text: &str| text.lines().any(|line| line.starts_with("## ") && line.contains("Unreleased"));
    match tree.text("CHANGELOG.md") {
        None => findings.push(Finding::file("CHANGELOG.md", "is missing")),
        Some(text) if !unreleased(text) => findings.push(Finding::file("CHANGELOG.md", "has no `## Unreleased` part")),
        Some(_) => {}
    }
}

fn commands(tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(text) = tree.text("README.md") else {
        return findings.push(Finding::file("README.md", "is missing"));
    };
    for command in ["cargo run --release -- demo", "cargo test --workspace"] {
        if !text.contains(command) {
            findings.push(Finding::file("README.md", format!("does not show the command `{command}`")));
        }
    }
    // `cargo run` knows which of several programs is meant only if one member is the default.
    if !tree.text("Cargo.toml").is_some_and(|text| text.contains("default-members = [\"crates/smartproxy-bin\"]")) {
        findings.push(Finding::file("Cargo.toml", "has `smartproxy-bin` as its one default member, for `cargo run`"));
    }
}

fn headers(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in tree.sources().filter(|(path, _)| !is_test(path)) {
        if !text.starts_with("//! ") {
            findings.push(Finding::at(path, 1, "begins with a `//!` line that says what the file is for"));
        }
    }
}

const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 7] = [
        ("Cargo.toml", "default-members = [\"crates/smartproxy-bin\"]\n"),
        ("README.md", "cargo run --release -- demo\ncargo test --workspace\n"),
        ("CHANGELOG.md", "# Changes\n\n## [Unreleased]\n"),
        ("docs/ARCHITECTURE.md", "`one` counts\n"),
        ("crates/one/Cargo.toml", ""),
        ("crates/one/README.md", "# one\n\nCounts.\n"),
        ("crates/one/src/lib.rs", "//! Counts.\n//!\n//! ```\n//! one::count();\n//! ```\n"),
    ];

    #[test]
    fn a_documented_workspace_passes() {
        assert_eq!(check(&Tree::of(&GOOD)), []);
    }

    #[test]
    fn each_gap_is_found() {
        for (path, text, finding) in [
            (
                "README.md",
                "cargo test --workspace",
                "README.md: does not show the command `cargo run --release -- demo`",
            ),
            ("Cargo.toml", "members = [\"crates/*\"]", "Cargo.toml: has `smartproxy-bin` as its one default member"),
            ("CHANGELOG.md", "# Changes", "CHANGELOG.md: has no `## Unreleased` part"),
            ("docs/ARCHITECTURE.md", "", "docs/ARCHITECTURE.md: does not name the crate one"),
            ("crates/one/README.md", "# one\n", "crates/one/README.md: is only a title"),
            ("crates/one/src/lib.rs", "//! Counts.\n", "crates/one/src/lib.rs: the `//!` documentation"),
            ("crates/one/src/more.rs", "fn more() {}\n", "crates/one/src/more.rs:1: begins with a `//!` line"),
        ] {
            let mut files = GOOD.to_vec();
            files.retain(|(kept, _)| *kept != path);
            files.push((path, text));
            let findings: Vec<String> = check(&Tree::of(&files)).iter().map(ToString::to_string).collect();
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert!(findings[0].starts_with(finding), "{findings:?}");
        }
    }

    #[test]
    fn each_missing_document_is_found() {
        for path in
            ["README.md", "CHANGELOG.md", "docs/ARCHITECTURE.md", "crates/one/README.md", "crates/one/src/lib.rs"]
        {
            let files: Vec<_> = GOOD.into_iter().filter(|(kept, _)| *kept != path).collect();
            assert_eq!(check(&Tree::of(&files)).len(), 1, "{path}");
        }
    }

    #[test]
    fn test_files_need_no_header() {
        let mut files = GOOD.to_vec();
        files.extend([("tests/e2e/main.rs", "mod tls;\n"), ("crates/one/src/count/tests.rs", "use super::*;\n")]);
        assert_eq!(check(&Tree::of(&files)), []);
    }
}
