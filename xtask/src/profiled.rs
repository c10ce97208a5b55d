//! The proxy, built with a profile of what it does most.
//!
//! Which way a branch goes most often, and which functions are called at all, no compiler can tell from the source. So the
//! proxy is built to count that, does everything that is measured for a moment, and is built anew with the counts: what is
//! seldom done lies apart, and what belongs together lies together.

use crate::{Outcome, bench};
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Builds it, and says where it is.
pub(crate) fn run(root: &Path) -> Outcome {
    let toolchain = Toolchain::find(root)?;
    let folder = root.join(FOLDER);
    let (counts, profile) = (folder.join("counts"), folder.join("profile"));
    // Counts of another source would not fit.
    drop(fs::remove_dir_all(&counts));
    println!("building smartproxy to be counted");
    let counting = toolchain.build(root, &format!("-Cprofile-generate={}", counts.display()))?;
    bench::exercise(counting)?;
    toolchain.merge(&counts, &profile)?;
    println!("building smartproxy with its profile");
    let program = toolchain.build(root, &format!("-Cprofile-use={}", profile.display()))?;
    let kept = program_in(root);
    fs::copy(&program, &kept).map_err(|error| format!("{} cannot be made: {error}.", kept.display()))?;
    println!("{}", kept.display());
    Ok(())
}

/// Where it is, once it is built.
pub(crate) fn program_in(root: &Path) -> PathBuf {
    root.join(FOLDER).join("smartproxy")
}

const FOLDER: &str = "target/profiled";

/// The compiler, and what comes with it.
struct Toolchain {
    host: String,
    /// What makes a profile of counts: of the compiler's own version, as others cannot read what it has written.
    profdata: PathBuf,
}

impl Toolchain {
    fn find(root: &Path) -> Outcome<Self> {
        let told = rustc(root, &["-vV"])?;
        let host = told.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("`rustc -vV` names no host.")?;
        let libraries = rustc(root, &["--print", "target-libdir"])?;
        let profdata = Path::new(libraries.trim()).with_file_name("bin").join("llvm-profdata");
        if !profdata.exists() {
            return Err(format!("There is no {}: `rustup component add llvm-tools`.", profdata.display()));
        }
        Ok(Self { host: host.to_owned(), profdata })
    }

    /// Builds the proxy with these flags. Named as the target, the host's own programs are built without them.
    fn build(&self, root: &Path, flags: &str) -> Outcome<PathBuf> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let folder = root.join(FOLDER).join("build");
        let mut all = std::env::var_os("RUSTFLAGS").unwrap_or_default();
        all.push(OsString::from(format!(" {flags}")));
        let mut command = Command::new(cargo);
        command.args(["build", "--release", "--package", "smartproxy-bin", "--target", &self.host]).current_dir(root);
        succeeds(command.env("RUSTFLAGS", all).env("CARGO_TARGET_DIR", &folder))?;
        Ok(folder.join(&self.host).join("release/smartproxy"))
    }

    fn merge(&self, counts: &Path, profile: &Path) -> Outcome {
        succeeds(Command::new(&self.profdata).arg("merge").arg("--output").arg(profile).arg(counts))
    }
}

fn rustc(root: &Path, words: &[&str]) -> Outcome<String> {
    let output = Command::new("rustc").args(words).current_dir(root).output();
    let output = output.map_err(|error| format!("rustc could not be started: {error}."))?;
    String::from_utf8(output.stdout).map_err(|_| "rustc printed no text.".to_owned())
}

fn succeeds(command: &mut Command) -> Outcome {
    let name = command.get_program().display().to_string();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} ended with {status}.")),
        Err(error) => Err(format!("{name} could not be started: {error}.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_named() {
        assert!(succeeds(&mut Command::new("true")).is_ok());
        assert!(succeeds(&mut Command::new("false")).unwrap_err().starts_with("false ended with"));
        assert!(succeeds(&mut Command::new("no-such-program")).unwrap_err().contains("no-such-program"));
    }

    #[test]
    fn the_tool_of_another_version_is_not_taken() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        match Toolchain::find(here) {
            Ok(toolchain) => {
                assert!(toolchain.profdata.starts_with(rustc(here, &["--print", "sysroot"]).unwrap().trim()));
            }
            Err(missing) => assert!(missing.contains("llvm-tools"), "{missing}"),
        }
    }
}
