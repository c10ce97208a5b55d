//! One table for people, one file for programs, and what one needs to know to believe either.

use super::{
    peers::{self, Proxy, first_line},
    scenarios::{Cost, Scenario},
    stats::{Quantiles, Sample, interval, median},
};
use crate::Outcome;
use serde_json::{Value, json};
use std::{
    fmt::{self, Write},
    fs,
    path::Path,
    process::Command,
    time::Duration,
};

/// A proxy in a scenario: one sample per round, or why there is none.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) proxy: &'static str,
    pub(crate) samples: Vec<Sample>,
    pub(crate) failure: Option<String>,
}

impl Line {
    /// A line without samples.
    pub(crate) fn new(proxy: &'static str) -> Self {
        Self { proxy, samples: Vec::new(), failure: None }
    }

    fn cost(&self) -> f64 {
        median(self.samples.iter().map(|sample| sample.cost))
    }

    fn rate(&self) -> Option<f64> {
        let rates: Option<Vec<f64>> = self.samples.iter().map(|sample| sample.rate).collect();
        rates.filter(|rates| !rates.is_empty()).map(median)
    }

    /// The median over the rounds of a quantile within a round.
    fn latency(&self, quantile: impl Fn(&Quantiles) -> Duration) -> Option<f64> {
        let seen =
            self.samples.iter().map(|sample| sample.latency.as_ref().map(|latency| quantile(latency).as_secs_f64()));
        let seen: Option<Vec<f64>> = seen.collect();
        seen.filter(|seen| !seen.is_empty()).map(median)
    }

    /// Cost relative to another line, round by round: what disturbed a round disturbed both.
    fn ratios<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = f64> + Clone + 'a {
        self.samples.iter().zip(&other.samples).map(|(ours, theirs)| ours.cost / theirs.cost)
    }
}

impl Sample {
    /// The sample in a few words, for the one who waits.
    pub(crate) fn describe(&self, scenario: &Scenario) -> String {
        let mut text = format!("{:>10} {}", figure(self.cost), scenario.cost.unit());
        if let Some(rate) = self.rate {
            add(&mut text, format_args!(" {:>10} {}/s", figure(rate), scenario.unit));
        }
        if let Some(Quantiles { p50, p99, p999 }) = self.latency {
            let [p50, p99, p999] = [p50, p99, p999].map(|time| millis(Some(time.as_secs_f64())));
            add(&mut text, format_args!("  p50 {p50} p99 {p99} p99.9 {p999} ms"));
        }
        text
    }
}

/// Everything that was measured, and on what.
pub(crate) struct Report<'a> {
    /// Name and value, in the order of the report.
    header: Vec<(&'static str, String)>,
    scenarios: &'a [(&'static Scenario, Vec<Line>)],
}

impl<'a> Report<'a> {
    /// Puts the figures beside the machine and the versions they belong to.
    pub(crate) fn new(
        root: &Path,
        words: &[&str],
        proxies: &[Box<dyn Proxy>],
        scenarios: &'a [(&'static Scenario, Vec<Line>)],
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
            ("h2load", say("h2load", &["--version"])),
        ];
        header.extend(
            proxies.iter().map(|proxy| (proxy.name(), proxy.version().unwrap_or_else(|| "unknown".to_owned()))),
        );
        Self { header, scenarios }
    }

    /// Prints the table and writes it as `NAME.md` and `NAME.json`.
    pub(crate) fn publish(&self, folder: &Path, name: &str) -> Outcome {
        let markdown = self.markdown();
        println!("\n{markdown}");
        let json = format!("{:#}\n", self.json());
        for (ending, text) in [("md", &markdown), ("json", &json)] {
            let path = folder.join(format!("{name}.{ending}"));
            fs::write(&path, text).map_err(|error| format!("{} cannot be written: {error}.", path.display()))?;
            println!("written: {}", path.display());
        }
        Ok(())
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.header {
            add(&mut text, format_args!("- {name}: {value}\n"));
        }
        text += INTRODUCTION;
        for (scenario, _) in self.scenarios {
            add(&mut text, format_args!("- `{}`: {}\n", scenario.name, scenario.sentence));
        }
        text += "\n| scenario | proxy | per second | cost | p50 ms | p99 ms | p99.9 ms | ratio | 95 % interval | of smartproxy to it |\n";
        text += "|---|---|--:|--:|--:|--:|--:|--:|---|---|\n";
        for (scenario, lines) in self.scenarios {
            for measured in lines {
                row(&mut text, scenario, measured, lines);
            }
        }
        text
    }

    fn json(&self) -> Value {
        let scenarios = self.scenarios.iter().map(|(scenario, lines)| {
            let best = best_peer(scenario, lines);
            let proxies: Vec<Value> =
                lines.iter().map(|line| line_as_json(line, best, ours_beside(scenario, line, lines))).collect();
            json!({
                "scenario": scenario.name,
                "meaning": scenario.sentence,
                "unit": scenario.unit,
                "cost": scenario.cost.unit(),
                "bestPeer": best.map(|best| best.proxy),
                "proxies": proxies,
            })
        });
        let header: serde_json::Map<String, Value> =
            self.header.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        json!({"header": header, "scenarios": scenarios.collect::<Vec<_>>()})
    }
}

fn row(text: &mut String, scenario: &Scenario, line: &Line, lines: &[Line]) {
    add(text, format_args!("| {} | {} | ", scenario.name, line.proxy));
    if let Some(failure) = &line.failure {
        return add(text, format_args!("– | {failure} | – | – | – | – | – | – |\n"));
    }
    let best = best_peer(scenario, lines);
    let rate = line.rate().map_or_else(nothing, |rate| format!("{} {}", figure(rate), scenario.unit));
    let cost = format!("{} {}", figure(line.cost()), scenario.cost.unit());
    let [p50, p99, p999] =
        [line.latency(|seen| seen.p50), line.latency(|seen| seen.p99), line.latency(|seen| seen.p999)].map(millis);
    let (ratio, range) = match (scenario.cost, best) {
        (Cost::Exactly(wanted, _), _) if line.samples.iter().all(|sample| sample.cost == f64::from(wanted)) => {
            ("right".to_owned(), nothing())
        }
        (Cost::Exactly(wanted, _), _) => (format!("**wrong**, {wanted} wanted"), nothing()),
        (Cost::Least(_), None) => (nothing(), nothing()),
        (Cost::Least(_), Some(best)) => {
            let range = interval(line.ratios(best)).filter(|_| line.proxy != best.proxy);
            let range = range.map_or_else(nothing, |(low, high)| format!("{low:.2} – {high:.2}"));
            (format!("{:.2}", median(line.ratios(best))), range)
        }
    };
    let ours = ours_beside(scenario, line, lines).map_or_else(nothing, |ours| {
        let range = interval(ours.ratios(line));
        let range = range.map_or_else(String::new, |(low, high)| format!(" ({low:.3} – {high:.3})"));
        format!("{:.3}{range}", median(ours.ratios(line)))
    });
    add(text, format_args!("{rate} | {cost} | {p50} | {p99} | {p999} | {ratio} | {range} | {ours} |\n"));
}

fn line_as_json(line: &Line, best: Option<&Line>, ours: Option<&Line>) -> Value {
    let sample = |sample: &Sample| {
        let latency = sample.latency.map(|latency| {
            let [p50, p99, p999] = [latency.p50, latency.p99, latency.p999].map(|time| time.as_secs_f64());
            json!({"p50Seconds": p50, "p99Seconds": p99, "p999Seconds": p999})
        });
        json!({"cost": sample.cost, "perSecond": sample.rate, "latency": latency})
    };
    let samples: Vec<Value> = line.samples.iter().map(sample).collect();
    json!({
        "proxy": line.proxy,
        "failure": line.failure,
        "perSecond": line.rate(),
        "cost": (!line.samples.is_empty()).then(|| line.cost()),
        "ratio": best.filter(|_| !line.samples.is_empty()).map(|best| median(line.ratios(best))),
        "interval": best.and_then(|best| interval(line.ratios(best))),
        "ratioOfOurs": ours.map(|ours| median(ours.ratios(line))),
        "intervalOfOurs": ours.and_then(|ours| interval(ours.ratios(line))),
        "samples": samples,
    })
}

/// The cheapest of the others, if there is any and cost is what counts.
fn best_peer<'a>(scenario: &Scenario, lines: &'a [Line]) -> Option<&'a Line> {
    let peers = lines.iter().filter(|line| line.proxy != peers::OURS && !line.samples.is_empty());
    let best = peers.min_by(|one, other| one.cost().total_cmp(&other.cost()));
    best.filter(|_| matches!(scenario.cost, Cost::Least(_)))
}

/// Our line, where it can be compared with that of a peer.
fn ours_beside<'a>(scenario: &Scenario, peer: &Line, lines: &'a [Line]) -> Option<&'a Line> {
    let comparable = matches!(scenario.cost, Cost::Least(_)) && peer.proxy != peers::OURS && !peer.samples.is_empty();
    lines.iter().find(|line| comparable && line.proxy == peers::OURS && !line.samples.is_empty())
}

/// Three digits that count, and all before the point.
fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        small if small >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn millis(seconds: Option<f64>) -> String {
    seconds.map_or_else(nothing, |seconds| figure(seconds * 1e3))
}

fn nothing() -> String {
    "–".to_owned()
}

fn add(text: &mut String, words: fmt::Arguments<'_>) {
    text.write_fmt(words).expect("a String takes everything");
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

const INTRODUCTION: &str = "
One worker on a core of its own, load and backend on the other one; the same limits in force where a proxy has them.
Medians of the rounds. The ratio is that to the cheapest peer of all rounds, taken round by round, with a 95 % interval
(of the sign test) from six rounds on; the last column has the same of smartproxy to each of the peers. Latencies are
those of one unit of work as the load saw it, which is more when the load asks for more: compare them where the rates
are alike.

";

#[cfg(test)]
mod tests {
    use super::super::scenarios::SCENARIOS;
    use super::*;

    fn measured(proxy: &'static str, costs: &[f64]) -> Line {
        let samples = costs.iter().map(|cost| Sample { rate: Some(1000.0), ..Sample::cost(*cost) }).collect();
        Line { proxy, samples, failure: None }
    }

    fn named(name: &str) -> &'static Scenario {
        SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap()
    }

    fn report(name: &str, lines: Vec<Line>) -> (String, Value) {
        let scenarios = [(named(name), lines)];
        let report = Report { header: vec![("cores", "2".to_owned())], scenarios: &scenarios };
        (report.markdown(), report.json())
    }

    #[test]
    fn ratios_are_to_the_cheapest_peer_in_the_same_round() {
        let ours = measured("smartproxy", &[10.0, 20.0, 10.0, 20.0, 10.0, 20.0]);
        let dear = measured("haproxy", &[40.0; 6]);
        let cheap = measured("nginx", &[20.0, 40.0, 20.0, 40.0, 20.0, 40.0]);
        let (markdown, json) = report("http1", vec![ours, dear, cheap]);
        let row = "| http1 | smartproxy | 1000 requests | 15.0 µs CPU | – | – | – | 0.50 | 0.50 – 0.50 | – |";
        assert!(markdown.contains(row), "{markdown}");
        assert!(markdown.contains("| 30.0 µs CPU | – | – | – | 1.00 | – | 0.500 (0.500 – 0.500) |\n"), "{markdown}");
        assert_eq!(json["scenarios"][0]["bestPeer"], "nginx");
        // The dear one has a ratio of ours to it too.
        assert!(markdown.contains("| 0.375 (0.250 – 0.500) |\n"), "{markdown}");
        let dear = &json["scenarios"][0]["proxies"][1];
        assert_eq!((&dear["ratioOfOurs"], &dear["intervalOfOurs"]), (&json!(0.375), &json!([0.25, 0.5])));
        assert!(json["scenarios"][0]["proxies"][0]["ratioOfOurs"].is_null());
        assert_eq!(json["scenarios"][0]["proxies"][0]["samples"].as_array().unwrap().len(), 6);
    }

    #[test]
    fn few_rounds_have_no_interval() {
        let (markdown, json) = report("http1", vec![measured("smartproxy", &[10.0]), measured("nginx", &[20.0])]);
        assert!(markdown.contains("| 0.50 | – | – |\n") && markdown.contains("| 0.500 |\n"), "{markdown}");
        assert!(json["scenarios"][0]["proxies"][0]["interval"].is_null());
    }

    #[test]
    fn who_failed_is_no_peer_and_says_why() {
        let failed = Line { failure: Some("failed: no".to_owned()), ..Line::new("nginx") };
        let (markdown, json) = report("http1", vec![measured("smartproxy", &[10.0]), failed]);
        assert!(markdown.contains("| http1 | nginx | – | failed: no | – | – | – | – | – | – |\n"), "{markdown}");
        assert!(json["scenarios"][0]["bestPeer"].is_null());
    }

    #[test]
    fn counts_are_right_or_wrong_in_every_round() {
        let (markdown, _) =
            report("together", vec![measured("smartproxy", &[100.0, 100.0]), measured("nginx", &[100.0, 200.0])]);
        assert!(
            markdown.contains("| right | – | – |\n") && markdown.contains("| **wrong**, 100 wanted | – | – |\n"),
            "{markdown}"
        );
    }

    #[test]
    fn latencies_are_in_milliseconds() {
        let [p50, p99, p999] = [500, 1500, 12_000].map(Duration::from_micros);
        let sample = Sample { latency: Some(Quantiles { p50, p99, p999 }), ..Sample::cost(1.0) };
        let (markdown, _) = report("http1", vec![Line { samples: vec![sample], ..Line::new("smartproxy") }]);
        assert!(markdown.contains("| 0.500 | 1.50 | 12.0 |"), "{markdown}");
    }
}
