//! One table for people, one file for programs, and what one needs to know to believe either.

use super::{
    peers::{Proxy, first_line},
    scenarios::Scenario,
    stats::{Sample, interval, median},
};
use crate::Outcome;
use serde_json::{Value, json};
use std::{fmt::Write, fs, path::Path, process::Command};

/// A proxy in a scenario: one sample per round.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) proxy: &'static str,
    pub(crate) samples: Vec<Sample>,
}

impl Line {
    /// A line without samples.
    pub(crate) fn new(proxy: &'static str) -> Self {
        Self { proxy, samples: Vec::new() }
    }

    fn micros(&self) -> f64 {
        median(self.samples.iter().map(Sample::micros))
    }

    fn rate(&self) -> f64 {
        median(self.samples.iter().map(Sample::rate))
    }

    /// Cost relative to another line, round by round: what disturbed a round disturbed both.
    fn ratios<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = f64> + Clone + 'a {
        self.samples.iter().zip(&other.samples).map(|(ours, theirs)| ours.micros() / theirs.micros())
    }
}

/// Everything that was measured, and on what.
pub(crate) struct Report<'a> {
    /// Name and value, in the order of the report.
    header: Vec<(&'static str, String)>,
    scenarios: &'a [(&'a Scenario, Vec<Line>)],
}

impl<'a> Report<'a> {
    /// Puts the figures beside the machine and the versions they belong to.
    pub(crate) fn new(
        root: &Path,
        words: &[&str],
        proxies: &[Proxy],
        scenarios: &'a [(&'a Scenario, Vec<Line>)],
    ) -> Self {
        let say = |program: &str, arguments: &[&str]| {
            first_line(Command::new(program).args(arguments).current_dir(root)).unwrap_or_else(|| "unknown".to_owned())
        };
        let mut header = vec![
            ("date", say("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
            ("command", format!("cargo xtask bench {}", words.join(" ")).trim_end().to_owned()),
            ("commit", say("git", &["describe", "--always", "--dirty"])),
            ("machine", processor()),
            ("cores", cores().to_string()),
            ("kernel", say("uname", &["-sr"])),
            ("other load", say("cat", &["/proc/loadavg"])),
            ("rustc", say("rustc", &["--version"])),
            ("wrk", say("wrk", &["-v"])),
        ];
        header.extend(
            proxies.iter().map(|proxy| (proxy.name(), proxy.version().unwrap_or_else(|| "unknown".to_owned()))),
        );
        Self { header, scenarios }
    }

    /// Prints the table and writes `report.md` and `report.json`.
    pub(crate) fn publish(&self, folder: &Path) -> Outcome {
        let markdown = self.markdown();
        println!("\n{markdown}");
        let json = format!("{:#}\n", self.json());
        for (name, text) in [("report.md", &markdown), ("report.json", &json)] {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|error| format!("{} cannot be written: {error}.", path.display()))?;
            println!("written: {}", path.display());
        }
        Ok(())
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.header {
            line(&mut text, format_args!("- {name}: {value}"));
        }
        line(
            &mut text,
            format_args!("\nOne worker on a core of its own; medians of the rounds; the ratio is CPU per unit to the"),
        );
        line(
            &mut text,
            format_args!("cheapest peer in the same round, with a 95 % interval (sign test) from six rounds on.\n"),
        );
        for (scenario, _) in self.scenarios {
            line(&mut text, format_args!("- `{}`: {}", scenario.name, scenario.sentence));
        }
        line(&mut text, format_args!("\n| scenario | proxy | per second | CPU µs each | ratio | 95 % interval |"));
        line(&mut text, format_args!("|---|---|--:|--:|--:|---|"));
        for (scenario, lines) in self.scenarios {
            let best = best_peer(lines);
            for measured in lines {
                let ratios = measured.ratios(best);
                let range = match interval(ratios.clone()) {
                    Some((low, high)) if measured.proxy != best.proxy => format!("{low:.3} – {high:.3}"),
                    _ => "–".to_owned(),
                };
                let (rate, micros, ratio) = (measured.rate(), measured.micros(), median(ratios));
                let names = format!("{} | {}", scenario.name, measured.proxy);
                line(
                    &mut text,
                    format_args!("| {names} | {rate:.0} {} | {micros:.2} | {ratio:.3} | {range} |", scenario.unit),
                );
            }
        }
        text
    }

    fn json(&self) -> Value {
        let sample = |sample: &Sample| {
            let (cpu, wall) = (sample.cpu.as_secs_f64(), sample.wall.as_secs_f64());
            json!({"cpuSeconds": cpu, "units": sample.units, "wallSeconds": wall})
        };
        let scenarios = self.scenarios.iter().map(|(scenario, lines)| {
            let best = best_peer(lines);
            let proxies = lines.iter().map(|line| {
                json!({
                    "proxy": line.proxy,
                    "perSecond": line.rate(),
                    "cpuMicros": line.micros(),
                    "ratio": median(line.ratios(best)),
                    "interval": interval(line.ratios(best)),
                    "samples": line.samples.iter().map(sample).collect::<Vec<_>>(),
                })
            });
            let proxies: Vec<Value> = proxies.collect();
            json!({"scenario": scenario.name, "unit": scenario.unit, "bestPeer": best.proxy, "proxies": proxies})
        });
        let header: serde_json::Map<String, Value> =
            self.header.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        json!({"header": header, "scenarios": scenarios.collect::<Vec<_>>()})
    }
}

/// The cheapest of the others, or of all if there are no others.
fn best_peer(lines: &[Line]) -> &Line {
    let cheapest = |ours: bool| {
        let lines = lines.iter().filter(move |line| (line.proxy == "smartproxy") == ours);
        lines.min_by(|one, other| one.micros().total_cmp(&other.micros()))
    };
    cheapest(false).or_else(|| cheapest(true)).expect("a scenario is measured with at least one proxy")
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(text, "{words}").expect("a String takes everything");
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}

/// Cores of the machine; what we may use ourselves was cut to one.
fn cores() -> usize {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("processor")).count()
}

#[cfg(test)]
mod tests {
    use super::super::scenarios::SCENARIOS;
    use super::*;
    use std::time::Duration;

    fn measured(proxy: &'static str, micros: &[u64]) -> Line {
        let sample =
            |micros: &u64| Sample { cpu: Duration::from_micros(*micros), units: 1, wall: Duration::from_secs(1) };
        Line { proxy, samples: micros.iter().map(sample).collect() }
    }

    fn report(scenarios: &[(&Scenario, Vec<Line>)]) -> (String, Value) {
        let report = Report { header: vec![("cores", "2".to_owned())], scenarios };
        (report.markdown(), report.json())
    }

    #[test]
    fn ratios_are_to_the_cheapest_peer_in_the_same_round() {
        let ours = measured("smartproxy", &[10, 20, 10, 20, 10, 20]);
        let dear = measured("haproxy", &[40, 40, 40, 40, 40, 40]);
        let cheap = measured("nginx", &[20, 40, 20, 40, 20, 40]);
        let (markdown, json) = report(&[(&SCENARIOS[0], vec![ours, dear, cheap])]);
        assert!(markdown.contains("| http1 | smartproxy | 1 requests | 15.00 | 0.500 | 0.500 – 0.500 |"), "{markdown}");
        assert!(markdown.contains("| http1 | nginx | 1 requests | 30.00 | 1.000 | – |"), "{markdown}");
        assert_eq!(json["scenarios"][0]["bestPeer"], "nginx");
        assert_eq!(json["scenarios"][0]["proxies"][0]["samples"].as_array().unwrap().len(), 6);
    }

    #[test]
    fn few_rounds_have_no_interval() {
        let (markdown, json) =
            report(&[(&SCENARIOS[0], vec![measured("smartproxy", &[10]), measured("nginx", &[20])])]);
        assert!(markdown.contains("| 0.500 | – |"), "{markdown}");
        assert!(json["scenarios"][0]["proxies"][0]["interval"].is_null());
    }
}
