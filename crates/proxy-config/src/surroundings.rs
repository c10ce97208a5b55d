//! What a configuration refers to outside of its file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Environment variables and files.
///
/// **Contract.** Answers are the same throughout one [`parse`](crate::parse). **Called** once per reference, never for a
/// configuration that refers to nothing. **Cost.** May block.
pub trait Surroundings {
    /// The value of an environment variable, if it is set and is text.
    fn variable(&self, name: &str) -> Option<String>;

    /// Where a path of the configuration is.
    fn resolve(&self, path: &Path) -> PathBuf;

    /// The text of a file, by a path from [`resolve`](Self::resolve).
    ///
    /// # Errors
    /// If it cannot be read or is not UTF-8.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// Those of the process; paths are relative to a folder.
#[derive(Clone, Debug)]
pub struct System {
    /// What relative paths are relative to.
    pub folder: PathBuf,
}

impl Surroundings for System {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(path)
    }
}

/// None: no variable is set, no file exists.
impl Surroundings for () {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }

    fn read(&self, _path: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }
}
