use super::*;

/// The verdict on bytes that come in pieces of this size: where following stopped, if it did.
fn verdict(bytes: &[u8], size: usize) -> (Option<usize>, Requests) {
    let mut requests = Requests::default();
    let mut before = 0;
    for piece in bytes.chunks(size) {
        if let Err(kept) = requests.follow(piece) {
            return (Some(before + kept), requests);
        }
        before += piece.len();
    }
    (None, requests)
}

const NEXT: &str = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}{NEXT}")
}

/// In pieces of every size, with the same verdict each time.
fn is_refused(bytes: &str) -> bool {
    let verdicts: Vec<bool> = (1..=bytes.len()).map(|size| verdict(bytes.as_bytes(), size).0.is_some()).collect();
    assert!(verdicts.iter().all(|one| *one == verdicts[0]), "it depends on the pieces: {bytes:?} {verdicts:?}");
    verdicts[0]
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
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Content_Length: 5\r\n",
        "Transfer_Encoding: chunked\r\n",
        "transfer_encoding: chunked\r\n",
        "Content-Length: 5\nTransfer-Encoding: chunked\n",
    ] {
        assert!(is_refused(&post(fields, "hello")), "{fields:?}");
        assert!(is_refused(&format!("{NEXT}{}", post(fields, "hello"))), "behind another: {fields:?}");
    }
    let padded = format!("Content-Length: {}5\r\n", " ".repeat(600));
    assert!(is_refused(&post(&padded, "hello")), "too long to be looked at whole");
}

#[test]
fn bodies_end_where_they_say() {
    for (fields, body) in [
        ("", ""),
        ("Content-Length: 0\r\n", ""),
        ("content-length:5\r\n", "hello"),
        ("Content-Length: \t 5 \t\r\n", "hello"),
        // What looks like a head inside a body is none.
        ("Content-Length: 41\r\n", "Content-Length: 1\r\nContent-Length: 2\r\n\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: Chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "5;a=b;c=\"d\"\r\nhello\r\n00A \t;x\r\n0123456789\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "0\r\nX-Sum: 1\r\nContent: x\r\n\r\n"),
        ("Content-Lengths: 5\r\nX-Content-Length: 5\r\nTransfer-Encodings: x\r\n", ""),
        ("Upgrade: h2c\r\nContent-Length: 5\r\n", "hello"),
        ("Upgrade: websocket, H2C\r\n", ""),
    ] {
        let clean = post(fields, body);
        assert!(!is_refused(&clean), "{clean:?}");
        // The next request is found, so one that is wrong is found too.
        let wrong = format!("{clean}{}", post("Content-Length: 1\r\nContent-Length: 1\r\n", "x"));
        for size in 1..=wrong.len() {
            let (kept, requests) = verdict(wrong.as_bytes(), size);
            let kept = kept.unwrap_or_else(|| panic!("{wrong:?} in pieces of {size}"));
            assert_eq!(requests.stage, Stage::Refused);
            assert!(kept >= clean.len() || size < wrong.len(), "{kept} of {wrong:?} in pieces of {size}");
        }
    }
}

#[test]
fn chunks_and_trailers_are_strict_where_hyper_is_not() {
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\x00b\r\nhello\r\n0\r\n\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\ncontent_length: 5\r\n\r\n",
        "0\r\nX: y\n\r\n",
    ] {
        assert!(is_refused(&post("Transfer-Encoding: chunked\r\n", body)), "{body:?}");
    }
    let zeros = format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(600));
    assert!(is_refused(&post("Transfer-Encoding: chunked\r\n", &zeros)), "too long to be looked at whole");
}

#[test]
fn where_hyper_gives_up_or_a_tunnel_may_begin_nothing_is_followed() {
    for request in [
        post("Transfer-Encoding: chunked\r\n", "x\r\n"),
        post("Transfer-Encoding: chunked\r\n", "11111111111111111\r\n"),
        post("Transfer-Encoding: chunked\r\n", "5 5\r\n"),
        post("Transfer-Encoding: gzip, chunked\r\n", ""),
        post("Upgrade: websocket\r\n", "anything \0\n\n\r\n"),
        format!("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n{NEXT}"),
    ] {
        for size in 1..=request.len() {
            let (kept, requests) = verdict(request.as_bytes(), size);
            assert_eq!(kept, None, "{request:?} in pieces of {size}");
            assert_eq!(requests.is_beyond(), request.contains("websocket"), "{request:?}");
            assert!(requests.is_beyond() || requests.stage == Stage::Refused, "{request:?}");
        }
    }
}

#[test]
fn little_is_kept_of_a_line_without_end() {
    let mut requests = Requests::default();
    for _ in 0..1000 {
        requests.follow(&[b'x'; 1000]).unwrap();
    }
    assert_eq!(requests.line.len(), LINE);
    requests.follow(b"\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((requests.line.capacity(), requests.stage), (0, Stage::Between));
}

#[test]
fn bytes_that_are_put_back_are_followed_once() {
    let mut requests = Requests::default();
    let (head, rest) = ("POST / HTTP/1.1\r\nContent-Length: 5\r\n", "\r\nhello");
    requests.follow(head.as_bytes()).unwrap();
    requests.expect_again(head.len());
    assert!(!requests.is_between());
    for piece in format!("{head}{rest}").as_bytes().chunks(7) {
        requests.follow(piece).unwrap();
    }
    assert!(requests.is_between());
}
