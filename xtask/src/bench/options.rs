//! What `cargo xtask bench` was asked for.

use super::scenarios::{SCENARIOS, Scenario};
use crate::{Outcome, number};
use std::{str::FromStr, time::Duration};

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) window: Duration,
    /// In the order of the report.
    pub(crate) scenarios: Vec<&'static Scenario>,
    pub(crate) peers_only: bool,
    /// Ours as it was built with a profile.
    pub(crate) profiled: bool,
    pub(crate) list: bool,
    /// The name of the report's files.
    pub(crate) report: String,
}

impl Options {
    pub(crate) fn parse(words: &[&str]) -> Outcome<Self> {
        let mut options = Self {
            rounds: 9,
            window: Duration::from_secs(2),
            scenarios: SCENARIOS.iter().collect(),
            peers_only: false,
            profiled: false,
            list: false,
            report: "report".to_owned(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--quick" => (options.rounds, options.window) = (3, Duration::from_secs(1)),
                "--rounds" => options.rounds = positive("--rounds", words.next())?,
                "--secs" => options.window = Duration::from_secs(positive("--secs", words.next())?),
                "--peers-only" => options.peers_only = true,
                "--profiled" => options.profiled = true,
                "--list" => options.list = true,
                "--only" => {
                    let names = words.next().ok_or("`--only` needs names; `--list` shows them.")?;
                    options.scenarios = chosen(names)?;
                    options.report =
                        options.scenarios.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(",");
                }
                unknown => return Err(format!("`bench` does not know `{unknown}`. See `cargo xtask --help`.")),
            }
        }
        Ok(options)
    }
}

/// The number behind an option, which is not zero.
fn positive<N: FromStr + PartialEq + Default>(option: &str, given: Option<&&str>) -> Outcome<N> {
    let number = number(option, given).ok().filter(|number| *number != N::default());
    number.ok_or_else(|| format!("`{option}` needs a number that is not zero."))
}

fn chosen(names: &str) -> Outcome<Vec<&'static Scenario>> {
    let names: Vec<&str> = names.split(',').collect();
    let known = |name: &&&str| SCENARIOS.iter().any(|scenario| scenario.name == **name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        return Err(format!("There is no scenario `{unknown}`; `--list` shows those that there are."));
    }
    Ok(SCENARIOS.iter().filter(|scenario| names.contains(&scenario.name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_combine() {
        let quick = Options::parse(&["--only", "tls1,http1", "--quick", "--peers-only"]).unwrap();
        assert_eq!((quick.rounds, quick.peers_only, quick.report.as_str()), (3, true, "http1,tls1"));
        assert!(!quick.profiled && Options::parse(&["--profiled"]).unwrap().profiled);
        let long = Options::parse(&["--rounds", "15", "--secs", "10"]).unwrap();
        assert_eq!((long.rounds, long.window), (15, Duration::from_secs(10)));
        let full = Options::parse(&[]).unwrap();
        assert!(full.rounds >= 9 && full.scenarios.len() == SCENARIOS.len() && !full.peers_only && !full.list);
    }

    #[test]
    fn mistakes_are_named() {
        for (words, named) in [
            (&["--only"][..], "`--only`"),
            (&["--only", "http1,nothing"], "`nothing`"),
            (&["--fast"], "`--fast`"),
            (&["--rounds"], "`--rounds`"),
            (&["--secs", "0"], "`--secs`"),
            (&["--secs", "2s"], "`--secs`"),
        ] {
            assert!(Options::parse(words).unwrap_err().contains(named), "{words:?}");
        }
    }
}
