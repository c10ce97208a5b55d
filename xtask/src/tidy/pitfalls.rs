//! What proxies have got wrong before: each has a test here, or a reason why there is none.

use super::{
    Finding,
    proofs::{function, rows},
    tree::Tree,
};
use std::collections::{BTreeMap, BTreeSet};

/// How many there are.
const COUNT: usize = 46;
const LIST: &str = "docs/TESTING.md";
/// What a row says instead of naming a test; the reason follows.
const NONE: &str = "no test: ";
const PREFIX: &str = "pitfall_";

/// Every number has a row in the list; the row names tests that exist, or says why there is none; every such test is named.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let rows: BTreeMap<_, _> =
        rows(tree.text(LIST).unwrap_or_default()).map(|row| (row.number, (row.line, row.proof))).collect();
    let tests = tests(tree);
    let mut findings = Vec::new();
    for number in 1..=COUNT {
        let Some((line, proof)) = rows.get(&number) else {
            findings.push(Finding::file(LIST, format!("pitfall {number} has no row: name its test, or say why not")));
            continue;
        };
        let named: BTreeSet<&str> = proof.split('`').filter(|word| word.starts_with(PREFIX)).collect();
        let reason = proof.strip_prefix(NONE).is_some_and(|reason| reason.split_whitespace().count() >= MEANINGFUL);
        if named.is_empty() && !reason {
            let message = format!("pitfall {number} needs `{PREFIX}{number:02}_…`, or `{NONE}` and a reason");
            findings.push(Finding::at(LIST, *line, message));
        }
        for name in named {
            if !tests.contains_key(name) {
                findings.push(Finding::at(LIST, *line, format!("there is no test {name}")));
            } else if !name.starts_with(&format!("{PREFIX}{number:02}_")) {
                findings.push(Finding::at(LIST, *line, format!("{name} is the test of another number than {number}")));
            }
        }
    }
    let listed: String = rows.values().map(|(_, proof)| *proof).collect();
    for (name, (path, line)) in tests {
        if !listed.contains(&format!("`{name}`")) {
            findings.push(Finding::at(path, line, format!("{name} is named in no row of {LIST}")));
        }
    }
    findings
}

/// A reason of fewer words is none.
const MEANINGFUL: usize = 5;

/// Every test that is named after a pitfall, and where it is.
fn tests(tree: &Tree) -> BTreeMap<&str, (&str, usize)> {
    let mut tests = BTreeMap::new();
    for (path, text) in tree.sources().filter(|(path, _)| *path != "xtask/src/tidy/pitfalls.rs") {
        for (index, line) in text.lines().enumerate() {
            if let Some(name) = function(line).filter(|name| name.starts_with(PREFIX)) {
                tests.insert(name, (path, index + 1));
            }
        }
    }
    tests
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(change: impl Fn(usize) -> Option<String>) -> String {
        let rows = (1..=COUNT)
            .filter_map(|number| change(number).map(|proof| format!("| {number} | what goes wrong | {proof} |\n")));
        format!("# Tests\n\n| no. | what | proof |\n|---|---|---|\n{}", rows.collect::<String>())
    }

    fn findings(list: &str, code: &str) -> Vec<String> {
        check(&Tree::of(&[(LIST, list), ("tests/a.rs", code)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_test_or_a_reason_is_enough() {
        let list = list(|number| match number {
            7 => Some("`pitfall_07_a`, `pitfall_07_b`".to_owned()),
            _ => Some("no test: this cannot happen in one process".to_owned()),
        });
        assert_eq!(findings(&list, "fn pitfall_07_a() {}\nasync fn pitfall_07_b() {}\n"), [""; 0]);
    }

    #[test]
    fn each_gap_is_found() {
        let other = || Some("no test: this cannot happen in one process".to_owned());
        for (proof, code, finding) in [
            (None, "", "docs/TESTING.md: pitfall 7 has no row"),
            (Some("tested somewhere"), "", "docs/TESTING.md:11: pitfall 7 needs `pitfall_07_…`"),
            (Some("no test: because"), "", "docs/TESTING.md:11: pitfall 7 needs"),
            (Some("`pitfall_07_a`"), "", "docs/TESTING.md:11: there is no test pitfall_07_a"),
            (Some("`pitfall_08_a`"), "fn pitfall_08_a() {}", "docs/TESTING.md:11: pitfall_08_a is the test of another"),
            (other().as_deref(), "\nfn pitfall_07_a() {}", "tests/a.rs:2: pitfall_07_a is named in no row"),
        ] {
            let list = list(|number| if number == 7 { proof.map(str::to_owned) } else { other() });
            let found = findings(&list, code);
            assert!(found.len() == 1 && found[0].starts_with(finding), "{proof:?} gave {found:?}");
        }
    }
}
