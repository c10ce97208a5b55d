use super::*;
use http::HeaderName;
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING};

const MOST: usize = 4096;

fn read(text: &str) -> Result<Option<(Head, usize)>, Refused> {
    let mut bytes = BytesMut::from(text);
    let head = parse(&mut bytes, MOST, &mut Fields::default())?;
    Ok(head.map(|head| (head, bytes.len())))
}

/// A request with these fields, and another one behind it.
fn with(fields: &str) -> Result<(Head, usize), Refused> {
    read(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\nhello")).map(|head| head.expect("it is whole"))
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "transfer-encoding: gzip\r\ncontent-length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nX: y\r\nCONTENT-LENGTH: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length : 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding:\r\n",
        "Content_Length: 5\r\n",
        "Transfer_Encoding: chunked\r\n",
        "transfer-encoding_: x\r\nTRANSFER_encoding: chunked\r\n",
        "Content-Length: 5\nTransfer-Encoding: chunked\n",
        "X: a\0b\r\n",
        "X: a\r\n b\r\n",
        ": a\r\n",
        "no colon\r\n",
    ] {
        assert_eq!(with(fields).map(|_| ()), Err(Refused::Malformed), "{fields:?}");
    }
    assert_eq!(read("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").map(|_| ()), Err(Refused::Malformed));
}

#[test]
fn a_body_is_as_long_as_the_head_says() {
    for (fields, length) in [
        ("", None),
        ("Content-Length: 0\r\n", None),
        ("content-length:5\r\n", Some(Some(5))),
        ("Content-Length: \t 05 \t\r\n", Some(Some(5))),
        ("Transfer-Encoding: Chunked\r\n", Some(None)),
        ("Transfer-Encoding: gzip, chunked\r\n", Some(None)),
        ("Content-Lengths: 5\r\nX-Content-Length: 5\r\nX_Content_Length: 5\r\nTransfer-Encodings: x\r\n", None),
    ] {
        let (head, left) = with(fields).unwrap_or_else(|refused| panic!("{fields:?}: {refused:?}"));
        assert_eq!((head.rest.map(|rest| rest.length()), left), (length, 5), "{fields:?}");
    }
    // What would be lost on the way stays to be refused.
    let coded = |fields| with(fields).unwrap().0.request.fields.has(&TRANSFER_ENCODING);
    assert!(coded("Transfer-Encoding: gzip, chunked\r\n") && !coded("Transfer-Encoding: chunked\r\n"));
}

#[test]
fn the_connection_goes_on_unless_one_side_says_otherwise_or_it_may_be_a_tunnel() {
    for (line, fields, keeps) in [
        ("GET / HTTP/1.1", "", true),
        ("GET / HTTP/1.1", "Connection: x, CLOSE\r\nConnection: keep-alive\r\n", false),
        ("GET / HTTP/1.0", "", false),
        ("GET / HTTP/1.0", "Connection: Keep-Alive\r\n", true),
        ("GET / HTTP/1.0", "Connection: keep-alive, close\r\n", false),
        ("GET / HTTP/1.1", "Upgrade: websocket\r\n", false),
        ("GET / HTTP/1.1", "Upgrade: websocket, H2C\r\n", true),
        ("CONNECT a:1 HTTP/1.1", "", false),
    ] {
        let (head, _) = read(&format!("{line}\r\nHost: a\r\n{fields}\r\n")).unwrap().unwrap();
        assert_eq!(head.keeps, keeps, "{line} {fields}");
        // What is of this connection alone goes no further, but for what others need to be told from.
        let connection = head.request.fields.get(&CONNECTION);
        assert_eq!(connection.is_some(), fields.contains("x,"), "{fields}");
    }
}

#[test]
fn what_the_client_waits_for_is_told() {
    for (line, fields, expects, trailers) in [
        ("POST / HTTP/1.1", "Expect: 100-Continue\r\nTE: gzip, trailers\r\n", true, true),
        ("POST / HTTP/1.0", "Expect: 100-continue\r\nTE: gzip\r\n", false, false),
        ("POST / HTTP/1.1", "Expect: 200-ok\r\n", false, false),
    ] {
        let (head, _) = read(&format!("{line}\r\n{fields}\r\n")).unwrap().unwrap();
        assert_eq!((head.expects, head.trailers), (expects, trailers), "{fields}");
    }
}

#[test]
fn a_head_may_come_in_any_pieces_and_what_follows_stays() {
    let text = "\r\n\r\nGET /a?b HTTP/1.1\r\nX-One: 1\r\nHOST:  a \t\nX-One: 2\r\n\r\n";
    for end in 0..text.len() {
        assert!(read(&text[..end]).unwrap().is_none(), "{end}");
    }
    let (head, left) = read(&format!("{text}GET")).unwrap().unwrap();
    let message::Head { method, uri, version, fields } = *head.request;
    assert_eq!((method, uri.to_string(), version), (Method::GET, "/a?b".into(), Version::HTTP_11));
    assert_eq!((fields.get(&HOST), left), (Some(&b"a"[..]), 3));
    assert_eq!(fields.all(&HeaderName::from_static("x-one")).collect::<Vec<_>>(), [b"1", b"2"]);
}

#[test]
fn a_head_is_no_larger_than_it_may_be() {
    let fields = |count: usize| "X: y\r\n".repeat(count);
    assert!(with(&fields(MOST_HEADERS - 1)).is_ok());
    assert_eq!(with(&fields(MOST_HEADERS)).map(|_| ()), Err(Refused::TooLarge));
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\n", "x".repeat(length));
    assert!(read(&target(MOST - 100)).unwrap().is_none(), "there may be more");
    assert_eq!(read(&target(MOST)).map(|_| ()), Err(Refused::TooLarge), "not whole, and too large already");
    assert_eq!(read(&format!("{}\r\n", target(MOST))).map(|_| ()), Err(Refused::TooLarge));
    let mut long = BytesMut::from(&format!("{}\r\n", target(LONGEST_TARGET))[..]);
    assert_eq!(parse(&mut long, 1 << 20, &mut Fields::default()).map(|_| ()), Err(Refused::TargetTooLong));
}

#[test]
fn the_place_for_fields_is_used_again() {
    let mut spare = Fields::with_capacity(64);
    let place = spare.capacity();
    let mut bytes = BytesMut::from("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = parse(&mut bytes, MOST, &mut spare).unwrap().unwrap();
    assert_eq!((head.request.fields.capacity(), head.request.fields.len(), spare.capacity()), (place, 1, 0));
}
