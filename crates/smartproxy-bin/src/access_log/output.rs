//! The file of the access log, and finding out that it was moved away.

use proxy_route::AccessLogOutput;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Where the lines go.
#[derive(Debug)]
pub(super) struct Output {
    to: AccessLogOutput,
    /// `None` is standard output.
    file: Option<File>,
    looked: Instant,
    /// Whether the last attempt failed: every failure is told once, not once per line.
    failing: bool,
}

/// How often the place of the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

impl Output {
    /// # Errors
    /// If the file cannot be opened.
    pub(super) fn open(to: AccessLogOutput) -> io::Result<Self> {
        let file = match &to {
            AccessLogOutput::File(path) => Some(append(path)?),
            AccessLogOutput::Stdout => None,
        };
        Ok(Self { to, file, looked: Instant::now(), failing: false })
    }

    /// Opens the file anew; keeps the old one if that fails.
    pub(super) fn reopen(&mut self) {
        let AccessLogOutput::File(path) = &self.to else { return };
        match append(path) {
            Ok(file) => self.file = Some(file),
            Err(error) => self.failed("be opened", &error),
        }
    }

    /// Opens the file anew if it is no longer in its place, which it looks for once a second.
    pub(super) fn follow(&mut self, now: Instant) {
        if now.duration_since(self.looked) < LOOK {
            return;
        }
        self.looked = now;
        let (AccessLogOutput::File(path), Some(file)) = (&self.to, &self.file) else { return };
        let same = match (file.metadata(), path.metadata()) {
            (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
            _ => false,
        };
        if !same {
            self.reopen();
        }
    }

    /// Writes whole lines; how many of them were lost.
    pub(super) fn write(&mut self, lines: &[u8]) -> u64 {
        let mut rest = lines;
        while !rest.is_empty() {
            let written = match &mut self.file {
                Some(file) => file.write(rest),
                None => io::stdout().lock().write(rest),
            };
            match written {
                Ok(0) => return self.lost(rest, &io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.lost(rest, &error),
            }
        }
        self.failing &= lines.is_empty();
        if self.file.is_none()
            && let Err(error) = io::stdout().flush()
        {
            self.failed("be written", &error);
        }
        0
    }

    fn lost(&mut self, rest: &[u8], error: &io::Error) -> u64 {
        self.failed("be written", error);
        rest.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    fn failed(&mut self, what: &str, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!("the access log cannot {what}: {error}");
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
