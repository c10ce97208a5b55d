//! Whatever is in a file, reading it and showing the mistakes does not panic.

use crate::mistakes;
use proptest::prelude::*;
use proxy_config::Format;

const FORMATS: [Format; 3] = [Format::Json, Format::Toml, Format::Yaml];

/// A right file with a few bytes changed is nearer to the edges than noise is.
fn spoilt() -> impl Strategy<Value = (String, Format)> {
    let files = [
        (include_str!("full.json"), Format::Json),
        (include_str!("full.toml"), Format::Toml),
        (include_str!("full.yaml"), Format::Yaml),
    ];
    let edit = (any::<prop::sample::Index>(), 0_usize..4, "[-:{}\\[\\],\"'#&*<!|>%@`\\\\ \t\r\n0-9a-fä🙂]{0,3}");
    (prop::sample::select(files.to_vec()), prop::collection::vec(edit, 1..6)).prop_map(|((text, format), edits)| {
        let mut chars: Vec<char> = text.chars().collect();
        for (at, remove, insert) in edits {
            let at = at.index(chars.len());
            let end = (at + remove).min(chars.len());
            chars.splice(at..end, insert.chars());
        }
        (chars.into_iter().collect(), format)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text(text in any::<String>()) {
        for format in FORMATS {
            mistakes(&text, format);
        }
    }

    #[test]
    fn text_of_marks(text in "[-:{}\\[\\],\"'#&*<!|>%@`=.?~ \t\r\n0-9a-cäx🙂]{0,60}") {
        for format in FORMATS {
            mistakes(&text, format);
        }
    }

    #[test]
    fn spoilt_files((text, format) in spoilt()) {
        mistakes(&text, format);
    }

    #[test]
    fn strings_as_every_kind_of_value(text in "[0-9a-z.:/*@${}\\-µ ]{0,20}") {
        let quoted = format!("{text:?}");
        let keys = ["initialDataTimeout", "bind", "exempt", "sendProxyProtocol", "onReject", "x-a"];
        let mut file: String = keys.iter().map(|key| format!("{key}: {quoted}\n")).collect();
        file += &format!("security: {{ ipAllowList: [{quoted}] }}\nadmin: {{ listen: {quoted}, token: {quoted} }}\n");
        file += &format!("routes: [{{ name: {quoted}, match: {{ ports: 80, domains: {quoted}, path: {quoted}, headers: {{ a: {quoted} }} }},\
            action: {{ type: forward, targets: {{ host: {quoted}, port: 1 }} }} }}]\n");
        mistakes(&file, Format::Yaml);
    }
}

/// Routes of every kind on a few ports: what each does is right, only together they may be wrong.
fn neighbours() -> impl Strategy<Value = String> {
    let kinds = [
        "match: { PORTS }, action: { type: forward, targets: [{ host: b, port: 1 }] }",
        "match: { PORTS, protocol: http }, action: { type: forward, targets: [{ host: b, port: 1 }] }",
        "match: { PORTS, domains: a.test }, action: { type: forward, targets: [{ host: b, port: 1 }], tls: { mode: passthrough } }",
        "match: { PORTS }, action: { type: block }",
        "match: { PORTS, protocol: tcp }, action: { type: block }",
        "match: { PORTS }, action: { type: static, static: {}, tls: { mode: terminate, certificate: { certFile: a.pem, keyFile: a.key } } }",
    ];
    let route = (prop::sample::select(kinds.to_vec()), 1_u16..6, 0_u16..3, any::<bool>());
    prop::collection::vec(route, 1..6).prop_map(|routes| {
        let routes = routes.into_iter().enumerate().map(|(index, (kind, from, more, enabled))| {
            let ports = format!("ports: {{ from: {from}, to: {} }}", from + more);
            format!("  - {{ name: r{index}, enabled: {enabled}, {} }}\n", kind.replace("PORTS", &ports))
        });
        format!("routes:\n{}", routes.collect::<String>())
    })
}

proptest! {
    /// `mistakes` builds the table of whatever is accepted.
    #[test]
    fn what_is_accepted_is_a_table(text in neighbours()) {
        let found = mistakes(&text, Format::Yaml);
        let known = ["no byte tells", "no route is enabled", "matches exactly what", "is never reached"];
        let expected = |one: &String| known.iter().any(|known| one.contains(known));
        prop_assert!(found.iter().all(expected), "{text}{found:#?}");
    }
}

#[test]
fn large_files_take_no_time() {
    let begin = std::time::Instant::now();
    let route = |index| {
        format!(
            "  - {{ name: r{index}, match: {{ ports: 80, domains: d{index}.test }}, action: {{ type: block }}, wrong: 1 }}\n"
        )
    };
    let text = format!("routes:\n{}", (0..3000).map(route).collect::<String>());
    assert_eq!(mistakes(&text, Format::Yaml).len(), 3000);
    for deep in ["- ".repeat(20_000), "{a: ".repeat(20_000), "? ".repeat(20_000), "[".repeat(20_000)] {
        mistakes(&deep, Format::Yaml);
    }
    assert!(begin.elapsed() < std::time::Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[test]
fn aliases_cannot_blow_up() {
    let mut text = "x-0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n".to_owned();
    for level in 1..20 {
        let below = vec![format!("*x{}", level - 1); 10].join(", ");
        text += &format!("x-{level}: &x{level} [{below}]\n");
    }
    assert!(mistakes(&text, Format::Yaml)[0].contains("too many values"));
    let mut text = "x-0: &x0 [1]\n".to_owned();
    for level in 1..1000 {
        text += &format!("x-{level}: &x{level} [*x{}]\n", level - 1);
    }
    assert!(mistakes(&text, Format::Yaml)[0].contains("nested too deeply"));
}
