//! What finished code does not contain.

use super::{
    Finding,
    mask::mask,
    settle,
    tree::{Tree, is_test},
};

/// Left-overs everywhere; sleeps in tests and `unsafe` anywhere unless a list gives the reason.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let (mut findings, mut sleeps, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
    for (path, text) in tree.sources() {
        let masked = mask(text);
        let (mut testing, mut marked) = (is_test(path), false);
        for (index, line) in masked.lines().enumerate() {
            // The module of the tests is at the bottom of a file, so all that follows belongs to it.
            testing |= marked && line.starts_with("mod ");
            marked = line.starts_with("#[cfg(test)]");
            for (left, advice) in LEFT_OVERS {
                if has_word(line, left) {
                    findings.push(Finding::at(path, index + 1, format!("`{left}` {advice}")));
                }
            }
            if testing && has_word(line, "thread::sleep") {
                sleeps.push(Finding::at(
                    path,
                    index + 1,
                    format!(
                        "tests wait for a condition with a deadline, they do not sleep (or give a reason in {SLEEPS})"
                    ),
                ));
            }
            if has_word(line, "unsafe") {
                blocks.push(Finding::at(path, index + 1, format!("`unsafe` needs a reason for this file in {UNSAFE}")));
            }
        }
    }
    findings.extend(settle(tree, SLEEPS, sleeps));
    findings.extend(settle(tree, UNSAFE, blocks));
    findings
}

/// Whether `word` stands in the line and is not a part of a longer word.
fn has_word(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(joins) && !line[at + word.len()..].starts_with(joins))
}

const LEFT_OVERS: [(&str, &str); 4] = [
    ("todo!", "is not an answer: write it or leave it out"),
    ("unimplemented!", "is not an answer: write it or leave it out"),
    ("dbg!", "was for you alone: remove it"),
    ("#[ignore]", "needs a reason: `#[ignore = \"why\"]`"),
];
const SLEEPS: &str = "xtask/sleeps.txt";
const UNSAFE: &str = "xtask/unsafe.txt";

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn left_overs_are_found_in_code_only() {
        let text = "fn a() { todo!() }\n// todo!\nlet s = \"dbg!\";\nunimplemented!(\"b\");\nmy_dbg!(1);\ndbg!(1);\n";
        assert_eq!(lines("src/a.rs", text), [1, 4, 6]);
        assert_eq!(lines("src/a.rs", "#[ignore]\n#[ignore = \"slow: 10 minutes\"]\n"), [1]);
    }

    #[test]
    fn sleeping_is_for_programs_not_for_tests() {
        let text = "fn a() { std::thread::sleep(b); }\n#[cfg(test)]\nmod tests {\n    thread::sleep(c);\n}\n";
        assert_eq!(lines("src/a.rs", text), [4]);
        assert!(lines("src/a.rs", "#[cfg(test)]\nfn a() {}\nfn b() { thread::sleep(c); }\n").is_empty());
        assert_eq!(lines("tests/a.rs", text), [1, 4]);
        let listed = Tree::of(&[("tests/a.rs", text), (SLEEPS, "tests/a.rs the kernel's timer is what is tested\n")]);
        assert_eq!(check(&listed), []);
    }

    #[test]
    fn unsafe_needs_a_reason_per_file() {
        let text = "#![forbid(unsafe_code)]\n#![deny(unsafe_op_in_unsafe_fn)]\nunsafe { b() }\n";
        assert_eq!(lines("src/a.rs", text), [3]);
        assert_eq!(check(&Tree::of(&[("src/a.rs", text), (UNSAFE, "src/a.rs a system call without a wrapper\n")])), []);
    }
}
