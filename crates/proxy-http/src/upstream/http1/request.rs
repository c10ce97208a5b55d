//! How a request of HTTP/1.1 is written. Pure.

use crate::headers::Stamp;
use crate::http1::{Sent, announced, field, line, write_number};
use crate::message::Head;
use http::header::TRAILER;

/// Writes the head of a request whose body has `length` bytes; `None` if nobody knows how many.
///
/// The length is what the body says, whatever the fields say: a length beside `transfer-encoding` is how requests are
/// smuggled.
pub(super) fn encode(head: &Head, stamp: Option<&Stamp>, length: Option<u64>, out: &mut Vec<u8>) -> Sent {
    out.reserve(ENOUGH);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let (mut claimed, mut host) = (false, None);
    for one in head.fields.lines() {
        let (name, value) = (one.name, one.value);
        match (name.len(), name) {
            (14, b"content-length") => {
                claimed = true;
                continue;
            }
            (17, b"transfer-encoding") => continue,
            (4, b"host") => host = Some(value),
            _ => {}
        }
        line(out, one);
    }
    if host.is_none()
        && let Some(authority) = head.uri.authority()
    {
        host = Some(authority.as_str().as_bytes());
        field(out, b"host", authority.as_str().as_bytes());
    }
    if let Some(stamp) = stamp {
        stamp.write(host, out);
    }
    let sent = match length {
        Some(length) => {
            // A request without a body says so only if it did before.
            if claimed || length > 0 {
                out.extend_from_slice(b"content-length: ");
                write_number::<10>(length, out);
                out.extend_from_slice(b"\r\n");
            }
            if length == 0 { Sent::None } else { Sent::Sized(length) }
        }
        None => {
            field(out, b"transfer-encoding", b"chunked");
            Sent::Chunked { open: false, announced: announced(head.fields.all(&TRAILER)) }
        }
    };
    out.extend_from_slice(b"\r\n");
    sent
}

/// Room for most heads.
const ENOUGH: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn encoded(request: http::request::Builder, length: Option<u64>) -> (String, Sent) {
        let mut out = Vec::new();
        let (head, ()) = request.body(()).unwrap().into_parts();
        let sent = encode(&head.into(), None, length, &mut out);
        (String::from_utf8(out).unwrap(), sent)
    }

    #[test]
    fn the_length_is_that_of_the_body() {
        let lying = || {
            let request = Request::builder().method("POST").uri("/a?b").header("host", "shop.test");
            request.header("content-length", "9").header("transfer-encoding", "chunked").header("x", "1")
        };
        let head = "POST /a?b HTTP/1.1\r\nhost: shop.test\r\nx: 1\r\n";
        for (length, fields) in [
            (Some(4), "content-length: 4\r\n\r\n"),
            (Some(0), "content-length: 0\r\n\r\n"),
            (None, "transfer-encoding: chunked\r\n\r\n"),
        ] {
            assert_eq!(encoded(lying(), length).0, format!("{head}{fields}"));
        }
        let silent = Request::builder().uri("http://shop.test:8080").header("te", "trailers");
        assert_eq!(encoded(silent, Some(0)).0, "GET / HTTP/1.1\r\nte: trailers\r\nhost: shop.test:8080\r\n\r\n");
    }
}
