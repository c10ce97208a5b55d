//! The workspace's own tools, run as `cargo xtask NAME`.
//!
//! One dispatch, no logic: every tool is a module with a `run`, and `--help` is the list of them.
#![forbid(unsafe_code)]

use std::{path::PathBuf, process::ExitCode, str::FromStr};

mod bench;
mod check;
mod faults;
mod fuzz;
mod lists;
mod loom;
mod profiled;
mod sim;
mod soak;
mod tidy;

/// What a tool returns: nothing, or one or more sentences that say what is wrong.
type Outcome<T = ()> = Result<T, String>;

/// The number behind an option.
fn number<N: FromStr>(option: &str, given: Option<&&str>) -> Outcome<N> {
    given.and_then(|number| number.parse().ok()).ok_or_else(|| format!("`{option}` needs a number."))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match dispatch(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: &[&str]) -> Outcome {
    match words {
        [] | ["help" | "--help" | "-h"] | [_, "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        ["tidy"] => tidy::run(&root()),
        ["check", options @ ..] => check::run(&root(), options),
        ["bench", "micro", options @ ..] => bench::counting::micro(&root(), options),
        ["bench", "icount", options @ ..] => bench::icount::run(&root(), options),
        ["bench", "memory", options @ ..] => bench::counting::memory(&root(), options),
        ["bench", options @ ..] => bench::run(&root(), options),
        ["loom", only @ ..] => loom::run(&root(), only),
        ["faults", only @ ..] => faults::run(&root(), only),
        ["fuzz", "counting", options @ ..] => lists::run(&root(), options),
        ["sim", options @ ..] => sim::run(&root(), options),
        ["fuzz", options @ ..] => fuzz::run(&root(), options),
        ["profiled"] => profiled::run(&root()),
        ["soak", options @ ..] => soak::run(&root(), options),
        ["profiled", unknown, ..] => Err(format!("`profiled` takes no arguments, but was given `{unknown}`.")),
        ["tidy", unknown, ..] => Err(format!("`tidy` takes no arguments, but was given `{unknown}`.")),
        [unknown, ..] => Err(format!("There is no tool `{unknown}`. `cargo xtask --help` lists them.")),
    }
}

/// The directory of the workspace.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.clone(), PathBuf::from)
}

const HELP: &str = "\
The workspace's own tools.

  cargo xtask tidy              rules no compiler checks: crate edges, sizes, docs, links, allow lists
  cargo xtask check [--fast]    format, clippy, tidy and tests, in that order; stops at the first failure
        --fast                  leaves the end-to-end tests out
  cargo xtask bench [options]   smartproxy beside HAProxy, nginx, Envoy, Caddy and Sōzu: CPU per unit of work, latency, memory
        --quick                 3 rounds of 1 s instead of 9 rounds of 2 s
        --rounds N --secs S     other numbers of them
        --only NAME[,NAME]      some scenarios alone
        --list                  the scenarios, without running them
        --peers-only            the others alone: no build of smartproxy
        --profiled              smartproxy as `profiled` has built it
  cargo xtask bench micro       time of the counting core beside its rivals, by criterion, and bytes per client
  cargo xtask bench icount      instructions on the hot paths, by valgrind; more than 5 % above xtask/icount.txt fails
        NAME                    one path alone: http1, tls1, or a case of the counting core; all of these: core
        --bless                 writes xtask/icount.txt
  cargo xtask bench memory      memory of the core at 17 sizes per address family, what is left, how long locks are held
        --quick                 two sizes
  cargo xtask loom [NAME]       the counting under a model checker: all interleavings of two threads, random ones of four
  cargo xtask faults [WORD]     one fault at a time in a copy of the counting; a named test must turn red for each
  cargo xtask fuzz counting     lists of operations made from bytes, against the plain reference
        --seconds N --seed N    for so long instead of 60; beginning with one seed
  cargo xtask sim [options]     the counting against its plain reference, 1,000 histories of 10,000 steps
        --seeds N --steps N     other numbers
        --seed N                one history alone
  cargo xtask fuzz [options]    texts spoilt at random for every reader of what strangers send, from a corpus, seeded
        --secs N                for so long in all, instead of 10 s
        --target NAME --seed N  one reader alone; other texts
  cargo xtask soak [options]    the chaos test in a release build: clients and backends that misbehave at random
        --secs N                for so long, instead of 600 s
        --seed N                with other dice
  cargo xtask profiled          smartproxy built with a profile of what it does most, to target/profiled/smartproxy
  cargo xtask --help            this text
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_words_are_named() {
        for (words, named) in [
            (&["shine"][..], "`shine`"),
            (&["tidy", "--all"], "`--all`"),
            (&["check", "--slow"], "`--slow`"),
            (&["sim", "--fast"], "`--fast`"),
            (&["soak", "--fast", "1"], "`--fast`"),
            (&["profiled", "--fast"], "`--fast`"),
            (&["bench", "--only"], "--only"),
            (&["bench", "--only", "nothing"], "`nothing`"),
        ] {
            let message = dispatch(words).unwrap_err();
            assert!(message.contains(named), "{words:?} gave {message:?}");
        }
    }
}
