//! What limiting promises: each statement stands beside tests that are there.

use super::{
    Finding,
    proofs::{Row, function, rows},
    tree::Tree,
};
use std::collections::BTreeSet;

const LIST: &str = "docs/limits.md";
/// How many statements there are.
const COUNT: usize = 10;

/// Every statement has a row in the list, which names at least one test, and every test that it names is there.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let functions: BTreeSet<&str> = tree.sources().flat_map(|(_, text)| text.lines().filter_map(function)).collect();
    let mut findings = Vec::new();
    let mut shown = BTreeSet::new();
    for Row { number, line, proof } in rows(tree.text(LIST).unwrap_or_default()) {
        let names = proof.split('`').skip(1).step_by(2).filter_map(|name| name.rsplit_once("::"));
        for (_, name) in names.filter(|(target, name)| *name != ALL && !target.starts_with(char::is_uppercase)) {
            if functions.contains(name) {
                shown.insert(number);
            } else {
                findings.push(Finding::at(LIST, line, format!("there is no test {name}")));
            }
        }
    }
    let unshown = (1..=COUNT).filter(|number| !shown.contains(number));
    findings
        .extend(unshown.map(|number| Finding::file(LIST, format!("statement {number} names no test that is there"))));
    findings
}

/// All tests of a target.
const ALL: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(seventh: &str) -> Vec<String> {
        let proof = |number| if number == 7 { seventh } else { "`a::*`, `a::it_is_so` and (`World::all`)" };
        let rows: String = (1..=COUNT).map(|number| format!("| {number} | it is so | {} |\n", proof(number))).collect();
        let tree = Tree::of(&[(LIST, &rows), ("tests/a.rs", "#[test]\nfn it_is_so() {}\n")]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_statement_names_a_test_that_is_there() {
        assert_eq!(findings("`a::it_is_so`"), [""; 0]);
        assert_eq!(findings("somewhere"), ["docs/limits.md: statement 7 names no test that is there"]);
        assert_eq!(findings("`a::it_was_so`, `a::it_is_so`"), ["docs/limits.md:7: there is no test it_was_so"]);
    }
}
