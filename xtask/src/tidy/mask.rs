//! Rust source with comments and literals blanked, so that a rule about code does not stumble over words about code.

/// Replaces every character of comments, strings and character literals by a space. Line breaks stay where they are.
pub(crate) fn mask(source: &str) -> String {
    let mut masked = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let inside_word = masked.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        match literal(rest, inside_word) {
            Some(length) => {
                let (blank, after) = rest.split_at(length);
                masked.extend(blank.chars().map(|c| if c == '\n' { c } else { ' ' }));
                rest = after;
            }
            None => {
                masked.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    masked
}

/// The length in bytes of the comment or literal at the start of `rest`.
fn literal(rest: &str, inside_word: bool) -> Option<usize> {
    match rest.as_bytes() {
        [b'/', b'/', ..] => Some(rest.find('\n').unwrap_or(rest.len())),
        [b'/', b'*', ..] => Some(block_comment(rest)),
        [b'"', ..] => Some(quoted(rest, '"')),
        [b'\'', b'\\', ..] => Some(quoted(rest, '\'')),
        // `'a'` is a character, `'a` is a lifetime.
        [b'\'', ..] => {
            let character = rest[1..].chars().next()?;
            let end = 1 + character.len_utf8();
            rest[end..].starts_with('\'').then_some(end + 1)
        }
        [b'r' | b'b' | b'c', ..] if !inside_word => raw_string(rest),
        _ => None,
    }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        let tail = &rest.as_bytes()[at..];
        if tail.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if tail.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = true; // the opening quote ends nothing
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix(['b', 'c']).unwrap_or(rest).strip_prefix('r')?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let text = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - text.len();
    Some(text.find(&end).map_or(rest.len(), |at| start + at + end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_stays() {
        for (source, words) in [
            ("a // b\nc", "a c"),
            ("a /* b /* c */ d */ e", "a e"),
            (r#"a("b \" c", d)"#, "a( , d)"),
            (r##"a(r#"b " c"#, br"\", d)"##, "a( , , d)"),
            ("a('b', '\\'', '\"', d)", "a( , , , d)"),
            ("fn a<'b>(c: &'b str)", "fn a<'b>(c: &'b str)"),
            ("r#type r#\"x", "r#type"),
            ("for x in y {}", "for x in y {}"),
            ("a \"ü\n\" b", "a b"),
        ] {
            let masked: Vec<String> = mask(source).split_whitespace().map(str::to_owned).collect();
            assert_eq!(masked.join(" "), words, "{source}");
        }
    }

    #[test]
    fn lines_stay_where_they_are() {
        let source = "a\n/* b\n c */ d\n\"e\n\" f\n";
        let lines: Vec<String> = mask(source).lines().map(|line| line.trim().to_owned()).collect();
        assert_eq!(lines, ["a", "", "d", "", "f"]);
    }
}
