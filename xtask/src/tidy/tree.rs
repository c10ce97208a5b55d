//! The files of the workspace, read once; the rules look at nothing else.

use crate::Outcome;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Paths relative to the workspace, with `/`, and what is in them.
#[derive(Debug)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads every file below `root` except what is built and what git keeps. A file that is not text counts as empty.
    pub(crate) fn read(root: &Path) -> Outcome<Self> {
        let mut files = BTreeMap::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            visit(root, &folder, &mut files, &mut folders)
                .map_err(|error| format!("{} cannot be read: {error}.", folder.display()))?;
        }
        Ok(Self { files })
    }

    /// A tree of files that exist nowhere.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }

    /// Path and text of every file, in order of the path.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Path and text of every Rust file.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files().filter(|(path, _)| path.ends_with(".rs"))
    }

    /// The text of one file, if there is one at that path.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether there is a file or a folder at that path; the empty path is the workspace.
    pub(crate) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty() || self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&folder))
    }

    /// The folders of the published crates: `crates/NAME`.
    pub(crate) fn crates(&self) -> impl Iterator<Item = &str> {
        self.files.keys().filter_map(|path| {
            let folder = path.strip_suffix("/Cargo.toml")?;
            folder.strip_prefix("crates/").is_some_and(|name| !name.contains('/')).then_some(folder)
        })
    }
}

/// Whether a Rust file holds nothing but tests, by its path.
pub(crate) fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

fn visit(
    root: &Path,
    folder: &Path,
    files: &mut BTreeMap<String, String>,
    folders: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, entry.path());
        if SKIPPED.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if kind.is_dir() {
            folders.push(path);
        } else if kind.is_file() {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            files.insert(name, String::from_utf8(fs::read(&path)?).unwrap_or_default());
        }
    }
    Ok(())
}

/// `.git` is a file in a linked worktree, a folder elsewhere.
const SKIPPED: [&str; 2] = ["target", ".git"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_crates_follow_from_the_files() {
        let tree = Tree::of(&[
            ("crates/a/Cargo.toml", ""),
            ("crates/a/fuzz/Cargo.toml", ""),
            ("crates/a/src/lib.rs", ""),
            ("xtask/Cargo.toml", ""),
        ]);
        assert_eq!(tree.crates().collect::<Vec<_>>(), ["crates/a"]);
        for (path, there) in [("", true), ("crates/a/src", true), ("xtask/Cargo.toml", true), ("crates/b", false)] {
            assert_eq!(tree.has(path), there, "{path:?}");
        }
    }

    #[test]
    fn the_real_files_are_found_and_built_ones_are_not() {
        let tree = Tree::read(&crate::root()).unwrap();
        assert!(tree.text("xtask/src/tidy/tree.rs").is_some());
        assert!(!tree.has("target") && !tree.has(".git"));
    }

    #[test]
    fn tests_are_known_by_their_path() {
        for (path, test) in [
            ("tests/e2e/main.rs", true),
            ("crates/a/src/table/tests.rs", true),
            ("crates/a/src/tests/reload.rs", true),
            ("crates/a/src/latest.rs", false),
        ] {
            assert_eq!(is_test(path), test, "{path}");
        }
    }
}
