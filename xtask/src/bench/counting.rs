//! What the counting core costs: time beside its rivals, instructions, memory.

use crate::Outcome;
use std::{
    path::Path,
    process::{Command, ExitStatus},
};

/// Time per admission and release, by criterion, beside what a program would otherwise take, and bytes per client.
pub(crate) fn micro(root: &Path, words: &[&str]) -> Outcome {
    cargo(root, &[&["bench", "--package", "rivals", "--bench", "micro", "--"], words].concat())?;
    cargo(root, &["build", "--release", "--package", "rivals"])?;
    println!("\nresident memory, 1 M clients with a connection each");
    for name in RIVALS {
        print!("{}", output(root.join("target/release/rivals").as_os_str(), &[name, "1000000"])?);
    }
    Ok(())
}

/// Resident bytes per client of every size, the peak, what is left, and for how long locks are held.
pub(crate) fn memory(root: &Path, words: &[&str]) -> Outcome {
    let quick = match words {
        [] => false,
        ["--quick"] => true,
        [unknown, ..] => return Err(format!("`bench memory` knows only `--quick`, not `{unknown}`.")),
    };
    cargo(root, &["build", "--release", "--package", "limits-core", "--example", "memory"])?;
    let program = root.join("target/release/examples/memory");
    let between = (0..16).map(|step| 1_000_000 + step * 1_000_000 / 15);
    let sizes: Vec<u32> = if quick { vec![1_000_000, 1_400_000] } else { between.chain([10_000_000]).collect() };
    for family in ["v4", "v6"] {
        for size in &sizes {
            print!("{}", output(program.as_os_str(), &[family, &size.to_string()])?);
        }
    }
    locks(root, if quick { "1000000" } else { "10000000" })
}

/// The longest that a lock is held. A table's secret is known here, so that several processes do the same: that is a flag
/// of the compiler, which has a directory of its own, because it changes every crate.
fn locks(root: &Path, size: &str) -> Outcome {
    let target = root.join("target/known_secret");
    let status = cargo_command(root, &["build", "--release", "--package", "limits-core", "--example", "locks"])
        .env("RUSTFLAGS", "--cfg known_secret")
        .env("CARGO_TARGET_DIR", &target)
        .status();
    ended("build", status)?;
    for family in ["v4", "v6"] {
        print!("{}", output(target.join("release/examples/locks").as_os_str(), &[family, size])?);
    }
    Ok(())
}

/// Builds what counts instructions, and says where it is.
pub(super) fn build(root: &Path) -> Outcome<String> {
    cargo(root, &["build", "--release", "--package", "limits-core", "--example", "icount"])?;
    let program = root.join("target/release/examples/icount");
    program.to_str().map(str::to_owned).ok_or_else(|| "The path of the workspace is no text.".to_owned())
}

/// Instructions of one operation of a case.
pub(super) fn count(program: &str, case: &str) -> Outcome<u64> {
    let of = |turns: u32| instructions(program, case, turns);
    Ok((of(2 * TURNS)? - of(TURNS)?) / u64::from(TURNS))
}

fn instructions(program: &str, case: &str, turns: u32) -> Outcome<u64> {
    let options = ["--tool=callgrind", "--callgrind-out-file=/dev/null", program, case, &turns.to_string()];
    let said = Command::new("valgrind").args(options).output();
    let said = said.map_err(|error| format!("valgrind could not be started: {error}."))?;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    let count = text.lines().find_map(|line| line.split("Collected : ").nth(1)?.trim().parse().ok());
    count.ok_or_else(|| format!("valgrind counted nothing for {case}:\n{text}"))
}

fn cargo(root: &Path, arguments: &[&str]) -> Outcome {
    ended(&arguments.join(" "), cargo_command(root, arguments).status())
}

fn cargo_command(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.args(arguments).current_dir(root);
    command
}

fn ended(line: &str, status: std::io::Result<ExitStatus>) -> Outcome {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`cargo {line}` ended with {status}.")),
        Err(error) => Err(format!("`cargo {line}` could not be started: {error}.")),
    }
}

fn output(program: &std::ffi::OsStr, arguments: &[&str]) -> Outcome<String> {
    let line = format!("{} {}", program.to_string_lossy(), arguments.join(" "));
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("`{line}` could not be started: {error}."))?;
    if !output.status.success() {
        return Err(format!("`{line}` failed:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// As `rivals` knows them.
const RIVALS: [&str; 6] = ["limits-core", "mutex", "dashmap", "semaphores", "moka", "governor"];
/// As the example `icount` knows them.
pub(super) const CASES: [&str; 9] = [
    "known_v4",
    "known_v6",
    "announced_v4",
    "announced_v6",
    "listed_v4",
    "new_v4",
    "bound_v4",
    "refused_v4",
    "request_v4",
];
const TURNS: u32 = 10_000;
