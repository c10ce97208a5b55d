use super::*;
use ipnet::IpNet;

type Given<'a> = &'a [(&'a str, &'a str)];

fn map(fields: Given<'_>) -> Fields {
    let mut headers = Fields::default();
    for (name, value) in fields {
        headers.push(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// The fields as text, sorted.
fn text(headers: &Fields) -> Vec<String> {
    let mut all: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{}: {}", crate::fields::text(name).unwrap(), crate::fields::text(value).unwrap()))
        .collect();
    all.sort();
    all
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn addresses_read_as_usual() {
    for text in ["0.0.0.0", "127.0.0.1", "9.10.99.100", "101.109.110.200", "255.255.255.255", "::1", "2001:db8::7"] {
        assert_eq!(address(ip(text)), text);
    }
}

#[test]
fn what_is_for_one_connection_goes() {
    let cases: &[(Given<'_>, &[&str])] = &[
        (&[("connection", "close"), ("accept", "*/*")], &["accept: */*"]),
        (&[("connection", "keep-alive, X-One"), ("connection", "x-two"), ("x-one", "1"), ("x-two", "2")], &[]),
        (&[("connection", "te"), ("te", "gzip, trailers")], &["te: trailers"]),
        (&[("te", "gzip")], &[]),
        (&[("transfer-encoding", "chunked"), ("trailer", "x-sum")], &["trailer: x-sum"]),
        (&[("upgrade", "h2c"), ("http2-settings", "AAMAAABk"), ("connection", "upgrade, http2-settings")], &[]),
        (&[("proxy-authorization", "x"), ("proxy-connection", "keep-alive"), ("keep-alive", "timeout=1")], &[]),
        (&[("connection", "not a name\u{7f}"), ("cookie", "a=b")], &["cookie: a=b"]),
    ];
    for (fields, expected) in cases {
        let fields: Vec<_> = fields.iter().map(|&(name, value)| (name, value.trim_end_matches('\u{7f}'))).collect();
        let mut headers = map(&fields);
        remove_hop_by_hop(&mut headers);
        assert_eq!(text(&headers), *expected, "{fields:?}");
    }
}

#[test]
fn the_pieces_of_cookies_are_put_together() {
    let cases: &[(Given<'_>, &[&str])] = &[
        (&[("accept", "*/*")], &["accept: */*"]),
        (&[("cookie", "a=1; b=2")], &["cookie: a=1; b=2"]),
        (
            &[("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2"), ("cookie", "c")],
            &["accept: */*", "cookie: a=1; b=2; c"],
        ),
    ];
    for (fields, expected) in cases {
        let mut headers = map(fields);
        join_cookies(&mut headers);
        assert_eq!(text(&headers), *expected, "{fields:?}");
    }
}

#[test]
fn upgrades_are_asked_for_with_both_headers() {
    let cases: &[(Given<'_>, Option<&str>)] = &[
        (&[("connection", "Upgrade"), ("upgrade", "websocket")], Some("websocket")),
        (&[("connection", "keep-alive, upgrade"), ("upgrade", "other/1")], Some("other/1")),
        (&[("upgrade", "websocket")], None),
        (&[("connection", "upgrade")], None),
        (&[("connection", "upgrade"), ("upgrade", "h2c")], None),
        (&[("connection", "upgrade"), ("upgrade", "websocket, H2C")], None),
    ];
    for (fields, expected) in cases {
        let found = upgrade(&map(fields));
        assert_eq!(found.as_ref().map(|value| value.to_str().unwrap()), *expected, "{fields:?}");
    }
}

#[test]
fn only_trusted_peers_speak_for_others() {
    let said = [
        ("x-forwarded-for", "192.0.2.1, 192.0.2.2"),
        ("x-forwarded-for", "192.0.2.3"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "outer.test"),
        ("x-forwarded-port", "443"),
        ("forwarded", "for=192.0.2.1"),
        ("expect", "100-continue"),
    ];
    let more = [("x-real-ip", "192.0.2.1"), ("x_forwarded_for", "192.0.2.1"), ("x-forwarded-prefix", "/admin")];
    let host = HeaderValue::from_static("a.test");
    let from = Forwarding { from: ip("198.51.100.9"), trusted: false, tls: false, host: Some(&host), port: 80 };
    let mut headers = map(&[&said[..], &more].concat());
    forward(&mut headers, &from);
    let own = [
        "x-forwarded-for: 198.51.100.9",
        "x-forwarded-host: a.test",
        "x-forwarded-port: 80",
        "x-forwarded-proto: http",
    ];
    assert_eq!(text(&headers), own);
    let mut headers = map(&said);
    forward(&mut headers, &Forwarding { trusted: true, ..from });
    let kept = [
        "forwarded: for=192.0.2.1",
        "x-forwarded-for: 192.0.2.1, 192.0.2.2, 192.0.2.3, 198.51.100.9",
        "x-forwarded-host: outer.test",
        "x-forwarded-port: 443",
        "x-forwarded-proto: https",
    ];
    assert_eq!(text(&headers), kept);
    let mut headers = map(&[]);
    forward(&mut headers, &Forwarding { trusted: true, tls: true, ..from });
    assert_eq!(headers.value(&X_FORWARDED_PROTO).unwrap(), "https");
}

#[test]
fn pitfall_14_the_client_is_the_right_most_hop_that_is_not_trusted() {
    let trusted: IpSet = ["10.0.0.0/8", "2001:db8::/32"].iter().map(|text| text.parse::<IpNet>().unwrap()).collect();
    let cases: &[(&str, Given<'_>, &str)] = &[
        ("192.0.2.9", &[("x-forwarded-for", "198.51.100.1")], "192.0.2.9"),
        ("10.0.0.1", &[], "10.0.0.1"),
        ("10.0.0.1", &[("x-forwarded-for", "198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", &[("x-forwarded-for", "6.6.6.6, 198.51.100.1, 10.2.3.4")], "198.51.100.1"),
        ("10.0.0.1", &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", &[("x-forwarded-for", "10.9.9.9, 10.2.3.4")], "10.9.9.9"),
        ("10.0.0.1", &[("x-forwarded-for", "198.51.100.1, unknown, 10.2.3.4")], "10.2.3.4"),
        ("10.0.0.1", &[("x-forwarded-for", "198.51.100.1:4711")], "198.51.100.1"),
        ("10.0.0.1", &[("x-forwarded-for", "[2001:db9::1]:4711")], "2001:db9::1"),
        ("10.0.0.1", &[("x-forwarded-for", "::ffff:198.51.100.1")], "198.51.100.1"),
        ("10.0.0.1", &[("forwarded", "for=6.6.6.6, proto=https;For=\"[2001:db9::1]:1\"")], "2001:db9::1"),
        ("10.0.0.1", &[("forwarded", "for=_hidden")], "10.0.0.1"),
        ("10.0.0.1", &[("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "198.51.100.1")], "198.51.100.1"),
        ("2001:db8::1", &[("x-forwarded-for", "198.51.100.1")], "198.51.100.1"),
    ];
    for (from, fields, expected) in cases {
        assert_eq!(client(&map(fields), ip(from), &trusted), ip(expected), "{from} {fields:?}");
    }
}

#[test]
fn rules_set_and_remove_in_order() {
    let mut headers = map(&[("x-a", "1"), ("x-a", "2"), ("x-b", "1")]);
    let edits = [("X-A", Some("3")), ("x-b", None), ("x-c", Some("1")), ("x-c", None), ("bad name", Some("1"))];
    let edits = edits.iter().map(|&(name, value)| (name.to_owned(), value.map(str::to_owned))).collect();
    edit(&mut headers, &HeaderEdits(edits));
    assert_eq!(text(&headers), ["x-a: 3"]);
}

#[test]
fn a_stamp_says_what_its_fields_would() {
    let id = HeaderValue::from_static("7f");
    for (from, tls, host, port) in [
        ("192.0.2.10", true, Some("shop.test:8443"), 8443),
        ("10.200.0.109", false, None, 0),
        ("2001:db8::1", true, Some("a"), u16::MAX),
    ] {
        let host = host.map(HeaderValue::from_static);
        let stamp = Stamp { from: from.parse().unwrap(), tls, port, id: id.clone().into() };
        let mut written = Vec::new();
        stamp.write(host.as_ref().map(HeaderValue::as_bytes), &mut written);
        let mut fields = Fields::default();
        stamp.insert(host.as_ref(), &mut fields);
        let mut inserted: Vec<_> = fields
            .iter()
            .map(|(name, value)| {
                format!("{}: {}", crate::fields::text(name).unwrap(), crate::fields::text(value).unwrap())
            })
            .collect();
        let mut lines: Vec<_> = std::str::from_utf8(&written).unwrap().split_terminator("\r\n").collect();
        lines.sort_unstable();
        inserted.sort_unstable();
        assert_eq!(lines, inserted);
    }
    for (name, fits) in [("accept", true), ("x-forwarded-for", false), ("x_real_ip", false), ("x-request-id", false)] {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        assert_eq!(Stamp::fits(&Fields::from_iter([(name.clone(), id.clone())])), fits, "{name}");
    }
}
