//! Gives every reader of what strangers send texts of its corpus, spoilt at random: `cargo xtask fuzz`.
//!
//! A target is a function of bytes that panics when something is wrong, so libFuzzer can drive it as well: call
//! `proxy_tcp::fuzzing::hello(data)` from a `fuzz_target!` of a nightly toolchain. This driver knows nothing of coverage; it
//! needs nothing but a stable compiler, and the same seed gives the same texts.
//!
//! ```text
//! smartproxy-fuzz [--secs N] [--target NAME] [--seed N]
//! ```
#![forbid(unsafe_code)]

mod http2;
mod spoil;
mod target;

use spoil::Dice;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use target::{TARGETS, Target};

fn main() -> ExitCode {
    match Wish::read(std::env::args().skip(1)).and_then(|wish| run(&wish)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// What is to be done.
struct Wish {
    time: Duration,
    target: Option<String>,
    seed: u64,
}

impl Wish {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut wish = Self { time: Duration::from_secs(10), target: None, seed: 0 };
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("`{word}` needs a value."))?;
            let number = || value.parse::<u64>().map_err(|_| format!("`{word}` needs a number, not `{value}`."));
            match word.as_str() {
                "--secs" => wish.time = Duration::from_secs(number()?),
                "--seed" => wish.seed = number()?,
                "--target" if TARGETS.iter().any(|target| target.name == value) => wish.target = Some(value),
                "--target" => {
                    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
                    return Err(format!("There is no target `{value}`, but {}.", names.join(", ")));
                }
                _ => return Err(format!("`{word}` is not known; there are --secs, --target and --seed.")),
            }
        }
        Ok(wish)
    }
}

fn run(wish: &Wish) -> Result<(), String> {
    let chosen: Vec<&Target> =
        TARGETS.iter().filter(|target| wish.target.as_deref().is_none_or(|name| name == target.name)).collect();
    let share = wish.time / u32::try_from(chosen.len()).unwrap_or(1);
    // What a target says when it panics is told once, at the end.
    std::panic::set_hook(Box::new(|_| {}));
    for target in chosen {
        let rounds = hunt(target, wish.seed, share)?;
        println!("{:<13} {rounds} texts, nothing found", target.name);
    }
    Ok(())
}

/// Gives a target one text after the other for `time`; how many.
fn hunt(target: &Target, seed: u64, time: Duration) -> Result<u64, String> {
    let corpus = corpus(target.name)?;
    let mut dice = Dice::new(seed);
    let end = Instant::now() + time;
    let mut rounds = 0;
    // Every text of the corpus as it is, whatever the time.
    let whole = corpus.len() as u64;
    while rounds < whole || Instant::now() < end {
        let index = usize::try_from(rounds).ok().filter(|index| *index < corpus.len());
        let text = index.map_or_else(|| spoil::spoilt(&corpus, &mut dice), |index| corpus[index].clone());
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.read)(&text))) {
            return Err(found(target.name, &text, &said(panic.as_ref())));
        }
        rounds += 1;
    }
    Ok(rounds)
}

/// The texts that a target begins with.
fn corpus(name: &str) -> Result<Vec<Vec<u8>>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries =
        std::fs::read_dir(&folder).map_err(|error| format!("{} cannot be read: {error}", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    // The same seed gives the same texts only in the same order.
    paths.sort();
    let texts: Vec<_> = paths.iter().filter_map(|path| std::fs::read(path).ok()).collect();
    if texts.is_empty() { Err(format!("{} has no file", folder.display())) } else { Ok(texts) }
}

/// Keeps a text that a target does not stand, for the corpus.
fn found(name: &str, text: &[u8], said: &str) -> String {
    let hash = text
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3));
    let path = std::env::temp_dir().join(format!("smartproxy-fuzz-{name}-{hash:016x}"));
    let kept = std::fs::File::create(&path).and_then(|mut file| file.write_all(text));
    let kept = kept.map_or_else(|error| format!("not kept: {error}"), |()| format!("kept in {}", path.display()));
    format!(
        "{name} panicked: {said}\n{kept}; put it into tests/fuzz/corpus/{name} once it is mended\n{:?}",
        String::from_utf8_lossy(&text[..text.len().min(500)])
    )
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_stands_its_corpus_and_some_of_it_spoilt() {
        for target in TARGETS {
            let rounds = hunt(target, 1, Duration::from_millis(300)).unwrap_or_else(|problem| panic!("{problem}"));
            assert!(rounds > 10, "{} was given {rounds} texts", target.name);
        }
    }

    #[test]
    fn a_target_that_panics_is_told_with_its_text() {
        let target = Target { name: "hello", read: |_| panic!("on purpose") };
        let problem = hunt(&target, 1, Duration::ZERO).expect_err("it panics");
        let path =
            problem.lines().nth(1).and_then(|line| line.split_once("kept in ")?.1.split_once(';')).expect("kept").0;
        assert!(problem.contains("on purpose") && std::fs::remove_file(path).is_ok(), "{problem}");
    }

    #[test]
    fn wishes_are_checked() {
        let read = |words: &[&str]| Wish::read(words.iter().map(|word| (*word).to_owned()));
        assert!(read(&["--secs", "3", "--seed", "4", "--target", "config"]).is_ok());
        for (words, named) in [(&["--secs"][..], "--secs"), (&["--secs", "x"], "`x`"), (&["--target", "x"], "hello")] {
            assert!(read(words).err().expect("a problem").contains(named));
        }
    }
}
